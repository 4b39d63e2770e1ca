"""Offsets within logs: listed by time, by epoch, moved by deletion of records."""

from typing import Any

import pytest


def broker_of(clients: Any, topic: str) -> Any:
    """The topic's leader, or any broker if there is no such topic."""
    known = topic in clients.admin.list_topics(timeout=10).topics
    return clients.wire.leader_of(topic) if known else clients.wire.any


def delete_records(clients: Any, topic: str, **offsets: int) -> dict[int, tuple[str, int]]:
    """`p0=3`: partition 0 shall begin at 3. The error and the low watermark of each partition."""
    partitions = [{"partition_index": int(index[1:]), "offset": offset} for index, offset in offsets.items()]
    asked = {"topics": [{"name": topic, "partitions": partitions}], "timeout": 5_000}
    answer = broker_of(clients, topic).ask("delete_records", 2, **asked)
    return {p.partition_index: (p.error_code.name, p.low_watermark) for t in answer.topics for p in t.partitions}


def list_offsets(clients: Any, topic: str, version: int, *partitions: dict[str, Any], **more: Any) -> Any:
    extra = {"timeout": 1_000} if version >= 10 else {}
    asked = {"replica_id": -1, "isolation_level": 0, **extra, **more}
    if version < 2:
        del asked["isolation_level"]
    topics = [{"name": topic, "partitions": [{"partition_index": 0, **partition} for partition in partitions]}]
    return clients.wire.leader_of(topic).ask("list_offsets", version, topics=topics, **asked).topics[0].partitions


def test_a_log_begins_where_its_records_were_deleted(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    assert delete_records(clients, topic, p0=2) == {0: ("none", 2)}
    assert clients.list_offset(topic, -2).offset == 2
    assert clients.fetch(topic, 1).error_code.name == "offset_out_of_range"
    assert clients.read(topic, start=2) == ["c"]


def test_all_records_are_deleted(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    assert delete_records(clients, topic, p0=-1) == {0: ("none", 3)}
    assert [clients.list_offset(topic, which).offset for which in (-2, -1)] == [3, 3]
    assert clients.send(topic, "d") == [3]


def test_a_log_never_begins_earlier_again(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    delete_records(clients, topic, p0=2)
    assert delete_records(clients, topic, p0=1) == {0: ("none", 2)}


@pytest.mark.parametrize("offset", [4, -2])
def test_records_that_are_not_there_cannot_be_deleted(clients: Any, offset: int):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    assert delete_records(clients, topic, p0=offset) == {0: ("offset_out_of_range", -1)}


def test_each_partition_has_its_own_answer(clients: Any):
    topic = clients.topic(partitions=2, one_leader=True)
    clients.send(topic, "a", partition=1)
    answers = delete_records(clients, topic, p0=5, p1=1, p9=0)
    assert answers == {0: ("offset_out_of_range", -1), 1: ("none", 1), 9: ("unknown_topic_or_partition", -1)}


def test_records_of_an_unknown_topic_cannot_be_deleted(clients: Any):
    assert delete_records(clients, clients.name(), p0=0) == {0: ("unknown_topic_or_partition", -1)}


@pytest.mark.parametrize(
    ("policy", "answer"),
    [
        ("compact", ("policy_violation", -1)),
        ("compact,delete", ("none", 0)),
        ("", ("none", 0)),
        ("delete", ("none", 0)),
    ],
)
def test_only_of_a_topic_that_is_compacted_alone_no_records_are_deleted(
    clients: Any, policy: str, answer: tuple[str, int]
):
    topic = clients.topic(cleanup_policy=policy)
    assert delete_records(clients, topic, p0=0) == {0: answer}


@pytest.mark.parametrize(
    ("timestamp", "since"), [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99)],
)  # fmt: skip
def test_a_special_time_is_known_from_its_version_on(clients: Any, timestamp: int, since: int):
    topic = clients.topic()
    for version in range(1, 12):
        (answer,) = list_offsets(clients, topic, version, {"timestamp": timestamp})
        assert answer.error_code.name == ("none" if version >= since else "unsupported_version"), version


def test_special_times_of_a_log_with_records(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    delete_records(clients, topic, p0=1)
    found = {t: list_offsets(clients, topic, 11, {"timestamp": t})[0].offset for t in (-1, -2, -4, -5, -6)}
    assert found == {-1: 3, -2: 1, -4: 1, -5: -1, -6: -1}


def test_an_empty_log_has_no_times(clients: Any):
    topic = clients.topic()
    for timestamp in (0, -3):
        (answer,) = list_offsets(clients, topic, 8, {"timestamp": timestamp})
        assert (answer.error_code.name, answer.offset, answer.timestamp) == ("none", -1, -1)


def test_a_partition_is_listed_once(clients: Any):
    asked = [{"timestamp": -1}, {"timestamp": -2}]
    answers = list_offsets(clients, clients.topic(), 8, *asked)
    assert {answer.error_code.name for answer in answers} == {"invalid_request"}


def test_offsets_under_an_epoch_of_the_future_are_refused(clients: Any):
    topic = clients.topic()
    (answer,) = list_offsets(clients, topic, 8, {"timestamp": -1, "current_leader_epoch": 99})
    assert (answer.error_code.name, answer.offset) == ("unknown_leader_epoch", -1)


def test_committed_readers_are_told_the_last_stable_offset(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    producer = clients.transactional()
    producer.begin_transaction()
    clients.send(topic, "b", producer=producer)
    assert [clients.list_offset(topic, -1, isolation).offset for isolation in (0, 1)] == [2, 1]
    producer.abort_transaction(10)


def epoch_end(clients: Any, topic: str, epoch: int, current: int = -1, partition: int = 0) -> tuple[str, int, int]:
    partitions = [{"partition": partition, "current_leader_epoch": current, "leader_epoch": epoch}]
    asked = {"replica_id": -1, "topics": [{"topic": topic, "partitions": partitions}]}
    (found,) = broker_of(clients, topic).ask("offset_for_leader_epoch", 4, **asked).topics[0].partitions
    return found.error_code.name, found.leader_epoch, found.end_offset


def test_an_epoch_ends_where_the_next_begins(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b")
    present = clients.list_offset(topic, -1).leader_epoch
    assert epoch_end(clients, topic, present) == ("none", present, 2)
    assert epoch_end(clients, topic, present, current=present) == ("none", present, 2)
    assert epoch_end(clients, topic, present + 5) == ("none", -1, -1)
    assert epoch_end(clients, topic, -1) == ("none", -1, -1)


def test_an_epoch_is_not_told_to_who_is_ahead_or_elsewhere(clients: Any):
    topic = clients.topic()
    assert epoch_end(clients, topic, 0, current=99) == ("unknown_leader_epoch", -1, -1)
    assert epoch_end(clients, topic, 0, partition=9) == ("unknown_topic_or_partition", -1, -1)
    assert epoch_end(clients, clients.name(), 0) == ("unknown_topic_or_partition", -1, -1)
