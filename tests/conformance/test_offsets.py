"""Committed offsets by hand: what is taken, what is answered, what is deleted."""

from typing import Any
from uuid import UUID

import pytest
from tests.conformance.members import Member, pair, protocols


def fetch(clients: Any, group: str, topics: Any, version: int = 8, **more: Any) -> dict[tuple[str, int], Any]:
    """The partitions of the answer; `topics` maps names to partitions, None asks for all."""
    wanted = topics and [{"name": name, "partition_indexes": indexes} for name, indexes in topics.items()]
    asked = {"group_id": group, "topics": wanted, **more}
    if version < 8:
        answer = clients.wire.coordinator_of_group(group).ask("offset_fetch", version, **asked)
    else:
        stable = {"require_stable": asked.pop("require_stable", False)}
        coordinator = clients.wire.coordinator_of_group(group)
        (answer,) = coordinator.ask("offset_fetch", version, groups=[asked], **stable).groups
    assert answer.error_code.name == "none" if version >= 2 else True
    return {(topic.name, p.partition_index): p for topic in answer.topics for p in topic.partitions}


def delete(clients: Any, group: str, topics: dict[str, list[int]]) -> Any:
    wanted = [
        {"name": name, "partitions": [{"partition_index": index} for index in indexes]}
        for name, indexes in topics.items()
    ]
    return clients.wire.coordinator_of_group(group).ask("offset_delete", 0, group_id=group, topics=wanted)


def errors(answer: Any) -> dict[tuple[str, int], str]:
    return {(t.name, p.partition_index): p.error_code.name for t in answer.topics for p in t.partitions}


@pytest.fixture
def outsider(clients: Any) -> Member:
    """Commits for a group in which nobody is."""
    return Member(clients, clients.name("g"))


@pytest.mark.parametrize("version", [2, 5, 6, 7, 8, 9])
def test_every_version_of_a_commit_can_be_read(clients: Any, outsider: Member, version: int):
    topic, group = clients.topic(), outsider.group["group_id"]
    partition = {"partition_index": 0, "committed_offset": version, "committed_metadata": "m"}
    asked = {"group_id": group, "member_id": "", "topics": [{"name": topic, "partitions": [partition]}]}
    asked["generation_id_or_member_epoch"] = -1
    if version < 5:
        asked["retention_time"] = -1
    answer = outsider.broker.ask("offset_commit", version, **asked)
    assert answer.topics[0].partitions[0].error_code.name == "none"
    found = fetch(clients, group, {topic: [0]})[topic, 0]
    assert (found.committed_offset, found.metadata) == (version, "m")


@pytest.mark.parametrize("version", [1, 2, 3, 5, 7, 8, 9])
def test_every_version_of_a_fetch_finds_the_offset(clients: Any, outsider: Member, version: int):
    topic, group = clients.topic(), outsider.group["group_id"]
    outsider.commit(topic, 7, metadata="note")
    more = {"require_stable": True} if version == 7 else {}
    found = fetch(clients, group, {topic: [0]}, version, **more)[topic, 0]
    assert (found.error_code.name, found.committed_offset, found.metadata) == ("none", 7, "note")


def test_the_leader_epoch_is_kept(clients: Any, outsider: Member):
    topic, group = clients.topic(), outsider.group["group_id"]
    outsider.commit(topic, 7, epoch=3)
    assert fetch(clients, group, {topic: [0]})[topic, 0].committed_leader_epoch == 3
    outsider.commit(topic, 8)
    assert fetch(clients, group, {topic: [0]})[topic, 0].committed_leader_epoch == -1


def test_all_offsets_of_a_group_are_those_that_were_committed(clients: Any, outsider: Member):
    first, second, group = clients.topic(partitions=2), clients.topic(), outsider.group["group_id"]
    outsider.commit(first, 1)
    outsider.commit(second, 2)
    found = fetch(clients, group, None)
    assert {place: p.committed_offset for place, p in found.items()} == {(first, 0): 1, (second, 0): 2}


def test_no_topics_are_not_all_topics(clients: Any, outsider: Member):
    outsider.commit(clients.topic(), 1)
    assert fetch(clients, outsider.group["group_id"], {}) == {}


def test_offsets_of_several_groups_are_fetched_at_once(clients: Any):
    topic, coordinator = clients.topic(), clients.wire.coordinator_of_group(clients.name("g"))
    first, second, nobody = (clients.name_at(coordinator, clients.wire.coordinator_of_group) for _ in range(3))
    for offset, name in enumerate((first, second)):
        Member(clients, name).commit(topic, offset)
    wanted = [{"name": topic, "partition_indexes": [0]}]
    groups = [{"group_id": name, "topics": wanted} for name in (first, second, nobody)]
    answer = coordinator.ask("offset_fetch", 8, groups=groups, require_stable=False)
    found = {group.group_id: group.topics[0].partitions[0].committed_offset for group in answer.groups}
    assert found == {first: 0, second: 1, nobody: -1}


def test_unknown_partitions_and_groups_have_no_offset(clients: Any, outsider: Member):
    topic, unknown = clients.topic(), clients.name()
    found = fetch(clients, outsider.group["group_id"], {topic: [0, 99], unknown: [0]})
    assert {p.committed_offset for p in found.values()} == {-1}
    assert {p.error_code.name for p in found.values()} == {"none"}
    assert {p.metadata for p in found.values()} == {""}


def test_absent_metadata_is_kept_as_empty(clients: Any, outsider: Member):
    topic = clients.topic()
    assert outsider.commit(topic, 1, metadata=None) == "none"
    assert fetch(clients, outsider.group["group_id"], {topic: [0]})[topic, 0].metadata == ""


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ("x" * 4096, "none"),
        ("x" * 4097, "offset_metadata_too_large"),
        ("ü" * 4096, "none"),
        ("€" * 4097, "offset_metadata_too_large"),
        ("😀" * 2048, "none"),
        ("😀" * 2048 + "x", "offset_metadata_too_large"),
    ],
    ids=lambda text: f"{len(text)} of {text[0]}" if len(text) > 100 else text,
)
def test_metadata_has_a_limit_in_units_of_utf16(
    clients: Any, outsider: Member, transactional: Any, metadata: str, error: str
):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    assert outsider.commit(topic, 1, metadata=metadata) == error
    assert one.add_offsets(group) == "none"
    assert one.commit_offset(group, topic, 1, metadata=metadata) == error
    assert one.end(commit=False) == "none"


def test_one_bad_partition_does_not_spoil_the_others(clients: Any, outsider: Member):
    topic, group = clients.topic(partitions=2), outsider.group["group_id"]
    partitions = [
        {"partition_index": 0, "committed_offset": 5, "committed_metadata": "x" * 5000},
        {"partition_index": 1, "committed_offset": 5, "committed_metadata": ""},
        {"partition_index": 99, "committed_offset": 5, "committed_metadata": ""},
    ]
    who = {**outsider.group, "member_id": "", "generation_id_or_member_epoch": -1}
    answer = outsider.broker.ask("offset_commit", 8, **who, topics=[{"name": topic, "partitions": partitions}])
    assert errors(answer) == {
        (topic, 0): "offset_metadata_too_large",
        (topic, 1): "none",
        (topic, 99): "unknown_topic_or_partition",
    }
    assert set(fetch(clients, group, None)) == {(topic, 1)}


def test_a_generation_of_an_unknown_group_is_refused_with_the_codes_of_the_versions(clients: Any, outsider: Member):
    topic = clients.topic()
    refused = [outsider.commit(topic, version=v, member_id="m", generation_id=1) for v in (8, 9)]
    assert refused == ["illegal_generation", "group_id_not_found"]


def test_a_group_may_have_no_name_where_it_only_keeps_offsets(clients: Any):
    """For the oldest consumers; a group with members needs a name."""
    topic = clients.topic()
    assert Member(clients, "").commit(topic, 3) == "none"
    assert fetch(clients, "", {topic: [0]})[topic, 0].committed_offset == 3


def test_offsets_go_with_their_topic(clients: Any, outsider: Member, wait: Any):
    topic, group = clients.topic(), outsider.group["group_id"]
    outsider.commit(topic, 5)
    clients.admin.delete_topics([topic])[topic].result(20)
    wait(lambda: fetch(clients, group, None) == {}, "the offset is gone")


def test_deleted_offsets_are_gone_and_others_stay(clients: Any, outsider: Member):
    first, second, group = clients.topic(), clients.topic(), outsider.group["group_id"]
    outsider.commit(first, 1)
    outsider.commit(second, 2)
    answer = delete(clients, group, {first: [0]})
    assert answer.error_code.name == "none"
    assert errors(answer) == {(first, 0): "none"}
    assert set(fetch(clients, group, None)) == {(second, 0)}


def test_to_delete_an_offset_that_is_not_there_is_harmless(clients: Any, outsider: Member):
    topic, group = clients.topic(partitions=2), outsider.group["group_id"]
    outsider.commit(topic, 1)
    assert errors(delete(clients, group, {topic: [1]})) == {(topic, 1): "none"}


def test_offsets_of_unknown_partitions_cannot_be_deleted(clients: Any, outsider: Member):
    topic, unknown, group = clients.topic(), clients.name(), outsider.group["group_id"]
    outsider.commit(topic, 1)
    found = errors(delete(clients, group, {topic: [99], unknown: [0]}))
    assert found == {(topic, 99): "unknown_topic_or_partition", (unknown, 0): "unknown_topic_or_partition"}


def test_offsets_of_an_unknown_group_cannot_be_deleted(clients: Any):
    topic = clients.topic()
    answer = delete(clients, clients.name("g"), {topic: [0]})
    assert (answer.error_code.name, answer.topics) == ("group_id_not_found", ())


def test_offsets_of_a_topic_that_members_read_cannot_be_deleted(clients: Any, member: Any):
    topic, other, one = clients.topic(), clients.topic(), member()
    one.lead(protocols=protocols("range", topics=(topic,)))
    one.commit(topic)
    one.commit(other)
    answer = delete(clients, one.group["group_id"], {topic: [0], other: [0]})
    assert errors(answer) == {(topic, 0): "group_subscribed_to_topic", (other, 0): "none"}
    one.leave()
    assert errors(delete(clients, one.group["group_id"], {topic: [0]})) == {(topic, 0): "none"}


def test_offsets_of_a_group_of_another_kind_cannot_be_deleted_while_it_has_members(clients: Any, member: Any):
    topic, one = clients.topic(), member()
    one.lead(protocol_type="connect")
    one.commit(topic)
    answer = delete(clients, one.group["group_id"], {topic: [0]})
    assert (answer.error_code.name, answer.topics) == ("non_empty_group", ())


def test_a_member_keeps_its_session_by_committing(clients: Any, member: Any, elsewhere: Any, wait: Any):
    topic, busy, silent = clients.topic(), member(), member(through=elsewhere())
    pair(busy, silent, wait, session_timeout=1_000)

    def silent_is_out() -> bool:
        assert busy.commit(topic) == "none"
        return silent.heartbeat(generation_id=99) == "unknown_member_id"

    wait(silent_is_out, "the silent member is out, the one that commits is not")


def commit_by_id(outsider: Member, topic_id: Any, *offsets: int) -> dict[int, str]:
    partitions = [
        {"partition_index": index, "committed_offset": offset, "committed_metadata": ""}
        for index, offset in enumerate(offsets)
    ]
    who = {**outsider.group, "member_id": "", "generation_id_or_member_epoch": -1}
    asked = [{"topic_id": topic_id, "partitions": partitions}]
    (topic,) = outsider.broker.ask("offset_commit", 10, **who, topics=asked).topics
    assert topic.topic_id == topic_id
    return {partition.partition_index: partition.error_code.name for partition in topic.partitions}


def fetch_by_id(outsider: Member, topics: Any) -> dict[Any, list[tuple[str, int]]]:
    wanted = topics and [{"topic_id": topic_id, "partition_indexes": indexes} for topic_id, indexes in topics.items()]
    groups = [{**outsider.group, "topics": wanted}]
    (answer,) = outsider.broker.ask("offset_fetch", 10, groups=groups, require_stable=False).groups
    return {t.topic_id: [(p.error_code.name, p.committed_offset) for p in t.partitions] for t in answer.topics}


def test_newer_versions_name_topics_by_their_ids(clients: Any, outsider: Member):
    topic_id = clients.wire.topic_id(clients.topic(partitions=2))
    assert commit_by_id(outsider, topic_id, 5, 6, 7) == {0: "none", 1: "none", 2: "unknown_topic_or_partition"}
    assert fetch_by_id(outsider, {topic_id: [0]}) == {topic_id: [("none", 5)]}
    (found,) = fetch_by_id(outsider, None).values()
    assert sorted(found) == [("none", 5), ("none", 6)]


def test_topic_ids_that_are_not_known_have_no_offsets(outsider: Member):
    unknown = UUID(int=2**64)
    assert commit_by_id(outsider, unknown, 5) == {0: "unknown_topic_id"}
    assert fetch_by_id(outsider, {unknown: [0]}) == {unknown: [("unknown_topic_id", -1)]}
