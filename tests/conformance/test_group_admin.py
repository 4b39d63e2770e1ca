"""Groups seen and changed by an administrator: describing, listing, deleting."""

from typing import Any

import pytest
from tests.conformance.members import Member, protocols, subscription


def describe(clients: Any, group: str, version: int = 5) -> Any:
    asked = {"include_authorized_operations": False} if version >= 3 else {}
    coordinator = clients.wire.coordinator_of_group(group)
    return coordinator.ask("describe_groups", version, groups=[group], **asked).groups[0]


def listed(clients: Any, group: str, states: Any = (), types: Any = ()) -> Any:
    """What a list says of the group; None if it is left out."""
    answers = [
        broker.ask("list_groups", 5, states_filter=states, types_filter=types) for broker in clients.wire.brokers()
    ]
    return next((found for answer in answers for found in answer.groups if found.group_id == group), None)


def delete(clients: Any, *groups: str) -> list[str]:
    results = [
        clients.wire.coordinator_of_group(g).ask("delete_groups", 2, groups_names=[g]).results[0] for g in groups
    ]
    assert [result.group_id for result in results] == list(groups)
    return [result.error_code.name for result in results]


@pytest.mark.parametrize("version", range(7))
def test_every_version_describes_a_stable_group(clients: Any, member: Any, version: int):
    topic, one = clients.topic(), member()
    one.lead(protocols=protocols("range", topics=(topic,)))
    found = describe(clients, one.group["group_id"], version)
    assert (found.error_code.name, found.group_state) == ("none", "Stable")
    assert (found.protocol_type, found.protocol_data) == ("consumer", "range")
    (described,) = found.members
    assert (described.member_id, described.client_id) == (one.id, "wire")
    assert described.client_host.startswith("/")
    assert (described.member_metadata, described.member_assignment) == (subscription(topic), b"mine")


def test_a_static_member_is_described_with_its_name(clients: Any, member: Any):
    one = member("slot-0")
    one.lead()
    assert describe(clients, one.group["group_id"]).members[0].group_instance_id == "slot-0"


def test_a_group_between_generations_tells_its_members_alone(clients: Any, member: Any):
    one = member()
    one.join()
    found = describe(clients, one.group["group_id"])
    assert (found.group_state, found.protocol_type, found.protocol_data) == ("CompletingRebalance", "consumer", "")
    assert [(m.member_id, m.member_metadata, m.member_assignment) for m in found.members] == [(one.id, b"", b"")]


def test_a_group_that_waits_for_its_members_is_preparing(clients: Any, member: Any, elsewhere: Any, wait: Any):
    one, newcomer = member(), member(through=elsewhere())
    one.lead()
    newcomer.start_joining()
    group = one.group["group_id"]
    wait(lambda: describe(clients, group).group_state == "PreparingRebalance", "a rebalance")
    assert {m.member_id for m in describe(clients, group).members} == {one.id, newcomer.id}


def test_a_group_that_everyone_left_keeps_its_type(clients: Any, member: Any):
    one = member()
    one.lead()
    one.leave()
    found = describe(clients, one.group["group_id"])
    assert (found.group_state, found.protocol_type, found.protocol_data, found.members) == ("Empty", "consumer", "", ())


def test_a_group_that_only_keeps_offsets_has_no_type(clients: Any, member: Any):
    simple = member()
    simple.commit(clients.topic())
    found = describe(clients, simple.group["group_id"])
    assert (found.group_state, found.protocol_type, found.members) == ("Empty", "", ())


@pytest.mark.parametrize(("version", "error"), [(0, "none"), (5, "none"), (6, "group_id_not_found")])
def test_an_unknown_group_is_dead_and_newer_versions_say_so_twice(clients: Any, version: int, error: str):
    group = clients.name("g")
    found = describe(clients, group, version)
    assert (found.error_code.name, found.group_state, found.members) == (error, "Dead", ())
    if version == 6:
        assert found.error_message == f"Group {group} not found."


def test_everything_may_be_done_to_a_group_where_nothing_is_forbidden(clients: Any, member: Any):
    one = member()
    one.lead()
    group = one.group["group_id"]
    asked = {"groups": [group], "include_authorized_operations": True}
    (found,) = clients.wire.coordinator_of_group(group).ask("describe_groups", 5, **asked).groups
    assert found.authorized_operations == sum(1 << operation for operation in (3, 6, 8, 10, 11))
    assert describe(clients, group).authorized_operations == -(2**31)


def test_a_classic_group_is_none_of_the_newer_kind(clients: Any, member: Any):
    """What makes newer administrators ask again in the classic way."""
    one = member()
    one.lead()
    group, unknown = one.group["group_id"], clients.name("g")
    for name in (group, unknown):
        answer = clients.wire.coordinator_of_group(name).ask(
            "consumer_group_describe", 1, group_ids=[name], include_authorized_operations=False
        )
        assert [(g.group_id, g.error_code.name) for g in answer.groups] == [(name, "group_id_not_found")]


@pytest.mark.parametrize(
    ("states", "types", "found"),
    [
        ((), (), True),
        (("Stable",), (), True),
        (("stable", "Empty"), (), True),
        (("Empty",), (), False),
        (("NoSuchState",), (), False),
        ((), ("classic",), True),
        ((), ("Classic",), True),
        ((), ("consumer",), False),
        (("Empty",), ("classic",), False),
    ],
)
def test_a_list_is_filtered_by_state_and_type(clients: Any, member: Any, states: Any, types: Any, found: bool):
    one = member()
    one.lead()
    entry = listed(clients, one.group["group_id"], states, types)
    assert (entry is not None) == found
    if entry is not None:
        assert (entry.protocol_type, entry.group_state, entry.group_type) == ("consumer", "Stable", "classic")


def test_groups_that_only_keep_offsets_are_listed(clients: Any, member: Any):
    simple = member()
    simple.commit(clients.topic())
    entry = listed(clients, simple.group["group_id"], ("Empty",))
    assert (entry.protocol_type, entry.group_state, entry.group_type) == ("", "Empty", "classic")


@pytest.mark.parametrize("version", range(5))
def test_older_lists_name_groups_too(clients: Any, member: Any, version: int):
    one = member()
    one.lead()
    coordinator = clients.wire.coordinator_of_group(one.group["group_id"])
    asked = {"states_filter": []} if version >= 4 else {}
    answer = coordinator.ask("list_groups", version, **asked)
    assert (one.group["group_id"], "consumer") in [(g.group_id, g.protocol_type) for g in answer.groups]


def test_each_group_to_delete_has_its_own_answer(clients: Any, member: Any):
    used, empty, unknown = member(), Member(clients, clients.name("g")), clients.name("g")
    used.lead()
    topic = clients.topic()
    empty.commit(topic)
    names = [used.group["group_id"], empty.group["group_id"], unknown]
    assert delete(clients, *names) == ["non_empty_group", "none", "group_id_not_found"]
    assert describe(clients, names[1]).group_state == "Dead"
    assert listed(clients, names[1]) is None


def test_a_deleted_group_begins_anew(clients: Any, member: Any):
    before, after = member(), member()
    before.lead()
    before.leave()
    assert delete(clients, before.group["group_id"]) == ["none"]
    assert after.join().generation_id == 1


def test_a_group_whose_members_have_not_joined_yet_can_be_deleted(clients: Any, member: Any):
    invited = member()
    asked = {**invited.group, "group_instance_id": None, "session_timeout": 10_000, "rebalance_timeout": 10_000}
    asked.update(protocol_type="consumer", protocols=protocols("range"), member_id="")
    invited.id = invited.broker.ask("join_group", 5, **asked).member_id
    assert delete(clients, invited.group["group_id"]) == ["none"]
    assert invited.join().error_code.name == "unknown_member_id"


def test_deleting_a_group_drops_what_a_transaction_would_have_committed(clients: Any, transactional: Any, wait: Any):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    one.add_offsets(group)
    assert one.commit_offset(group, topic, 5) == "none"
    assert delete(clients, group) == ["none"]
    assert one.end(commit=True) == "none"
    groups = [{"group_id": group, "topics": None}]
    coordinator = clients.wire.coordinator_of_group(group)
    answer = coordinator.ask("offset_fetch", 8, groups=groups, require_stable=True)
    assert answer.groups[0].topics == ()
