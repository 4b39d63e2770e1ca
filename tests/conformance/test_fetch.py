"""Fetching and listing offsets."""

import time
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition


def test_reading_begins_where_it_is_told(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b", "c")
    assert clients.read(topic, start=1) == ["b", "c"]
    assert clients.read(topic, start=3) == []


def test_reading_many_partitions(clients: Any):
    topic = clients.topic(partitions=12)
    for partition in range(12):
        clients.send(topic, f"{partition}", partition=partition)
    assert clients.read(topic, partitions=12) == [str(p) for p in range(12)]


def test_an_offset_past_the_end_is_out_of_range(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    assert clients.fetch(topic, 1).error_code.name == "none"
    assert clients.fetch(topic, 2).error_code.name == "offset_out_of_range"
    consumer = clients.consumer(auto_offset_reset="error")
    consumer.assign([TopicPartition(topic, 0, 5)])
    with pytest.raises(KafkaException) as refused:
        _poll_for_error(consumer)
    assert refused.value.args[0].code() == KafkaError._AUTO_OFFSET_RESET


def _poll_for_error(consumer: Any) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and message.error():
            raise KafkaException(message.error())


def test_an_offset_out_of_range_starts_again_at_the_beginning_if_one_likes(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    consumer = clients.consumer(auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0, 5)])
    assert clients.poll(consumer, 1)[0].offset() == 0


def test_a_waiting_fetch_is_answered_as_soon_as_there_is_something(clients: Any, batch: Any):
    topic = clients.topic()
    leader = clients.wire.leader_of(topic)
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    topics = [{"topic_id": clients.wire.topic_id(topic), "partitions": [partition]}]
    asked = {"max_wait": 15_000, "min_bytes": 1, "isolation_level": 0, "topics": topics, "forgotten_topics_data": []}
    leader.send("fetch", 16, **asked)

    started = time.monotonic()
    clients.send(topic, "a")
    answer = leader.receive("fetch", 16)
    assert time.monotonic() - started < 14
    assert answer.responses[0].partitions[0].high_watermark == 1


def test_a_fetch_waits_no_longer_than_asked(clients: Any):
    topic = clients.topic()
    started = time.monotonic()
    answer = clients.fetch(topic, 0, wait_ms=300)
    assert 0.2 < time.monotonic() - started < 60
    assert (answer.error_code.name, answer.records or b"") == ("none", b"")


def test_the_first_batch_comes_even_if_it_is_larger_than_asked_for(clients: Any, batch: Any):
    topic = clients.topic()
    clients.append(topic, batch("x" * 5_000))
    answer = clients.fetch(topic, 0, max_bytes=10)
    assert len(answer.records) > 5_000


def test_a_fetch_holds_about_as_much_as_asked_for(clients: Any, batch: Any):
    topic = clients.topic()
    for _ in range(10):
        clients.append(topic, batch("x" * 1_000))
    whole = clients.fetch(topic, 0)
    part = clients.fetch(topic, 0, max_bytes=3_500)
    assert len(part.records) < len(whole.records) / 2


def test_an_unknown_topic_id_is_refused(clients: Any):
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    topics = [{"topic_id": UUID(int=0x1234567890ABCDEF1234567890ABCDEF), "partitions": [partition]}]
    asked = {"max_wait": 0, "min_bytes": 1, "isolation_level": 0, "topics": topics, "forgotten_topics_data": []}
    answer = clients.wire.any.ask("fetch", 16, **asked)
    assert answer.responses[0].partitions[0].error_code.name == "unknown_topic_id"


def test_fetch_answers_carry_the_watermarks(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b")
    answer = clients.fetch(topic, 0)
    assert (answer.high_watermark, answer.last_stable_offset, answer.log_start_offset) == (2, 2, 0)


def test_earliest_and_latest_offsets(clients: Any):
    topic = clients.topic()
    assert [clients.list_offset(topic, which).offset for which in (-2, -1)] == [0, 0]
    clients.send(topic, "a", "b")
    assert [clients.list_offset(topic, which).offset for which in (-2, -1)] == [0, 2]


def test_offsets_by_time(clients: Any):
    topic = clients.topic()
    producer = clients.producer()
    for stamp in (1_000, 3_000, 2_000, 5_000):
        producer.produce(topic, "v", timestamp=stamp)
        producer.flush(10)
    found = {stamp: clients.list_offset(topic, stamp) for stamp in (0, 1_000, 1_001, 2_500, 3_001, 5_000, 5_001)}
    assert {stamp: answer.offset for stamp, answer in found.items()} == {
        0: 0,
        1_000: 0,
        1_001: 1,
        2_500: 1,
        3_001: 3,
        5_000: 3,
        5_001: -1,
    }
    assert found[1_001].timestamp == 3_000


def test_the_offset_of_the_greatest_timestamp(clients: Any):
    topic = clients.topic()
    producer = clients.producer()
    for stamp in (1_000, 9_000, 2_000):
        producer.produce(topic, "v", timestamp=stamp)
        producer.flush(10)
    answer = clients.list_offset(topic, -3)
    assert (answer.offset, answer.timestamp) == (1, 9_000)


def test_listing_offsets_of_an_unknown_partition(clients: Any):
    topic = clients.topic()
    topics = [{"name": topic, "partitions": [{"partition_index": 3, "timestamp": -1}]}]
    leader = clients.wire.leader_of(topic)
    answer = leader.ask("list_offsets", 7, replica_id=-1, isolation_level=0, topics=topics)
    assert answer.topics[0].partitions[0].error_code.name == "unknown_topic_or_partition"


def test_the_end_of_the_present_leader_epoch(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a", "b")
    epoch = clients.list_offset(topic, -1).leader_epoch
    partitions = [{"partition": 0, "current_leader_epoch": -1, "leader_epoch": epoch}]
    asked = {"topics": [{"topic": topic, "partitions": partitions}]}
    answer = clients.wire.leader_of(topic).ask("offset_for_leader_epoch", 2, **asked)
    partition = answer.topics[0].partitions[0]
    assert (partition.error_code.name, partition.end_offset) == ("none", 2)


def test_a_leader_epoch_from_the_future_is_refused(clients: Any):
    topic = clients.topic()
    partition = {"partition": 0, "current_leader_epoch": 99, "fetch_offset": 0, "partition_max_bytes": 1000}
    topics = [{"topic_id": clients.wire.topic_id(topic), "partitions": [partition]}]
    asked = {"max_wait": 0, "min_bytes": 1, "isolation_level": 0, "topics": topics, "forgotten_topics_data": []}
    answer = clients.wire.leader_of(topic).ask("fetch", 16, **asked)
    assert answer.responses[0].partitions[0].error_code.name == "unknown_leader_epoch"


def fetch_all(clients: Any, topic: str, version: int, *partitions: dict[str, Any], **more: Any) -> Any:
    """One Fetch of the partitions, by name before version 13 and by id since; the answers by partition."""
    name = {"topic": topic} if version < 13 else {"topic_id": clients.wire.topic_id(topic)}
    wanted = [{"fetch_offset": 0, "partition_max_bytes": 1 << 20, **partition} for partition in partitions]
    asked = {"max_wait": 0, "min_bytes": 1, "isolation_level": 0, "topics": [{**name, "partitions": wanted}], **more}
    if version < 15:
        asked["replica_id"] = -1
    if version >= 7:
        asked["forgotten_topics_data"] = []
    answer = clients.wire.leader_of(topic).ask("fetch", version, **asked)
    return {found.partition_index: found for topic in answer.responses for found in topic.partitions}


@pytest.mark.parametrize("version", range(4, 18))
def test_every_version_fetches(clients: Any, version: int):
    topic = clients.topic()
    clients.send(topic, "a", "b")
    found = fetch_all(clients, topic, version, {"partition": 0})[0]
    assert (found.error_code.name, found.high_watermark, found.last_stable_offset) == ("none", 2, 2)
    assert len(found.records) > 60


@pytest.mark.parametrize("version", [12, 16])
def test_a_partition_that_is_not_there_does_not_hold_back_the_others(clients: Any, version: int):
    topic = clients.topic()
    clients.send(topic, "a")
    found = fetch_all(clients, topic, version, {"partition": 0}, {"partition": 9})
    assert {index: answer.error_code.name for index, answer in found.items()} == {
        0: "none",
        9: "unknown_topic_or_partition",
    }
    assert found[0].records


@pytest.mark.parametrize("offset", [-1, 2])
def test_an_answer_with_an_error_tells_no_offsets(clients: Any, offset: int):
    topic = clients.topic()
    clients.send(topic, "a")
    found = clients.fetch(topic, offset)
    assert found.error_code.name == "offset_out_of_range"
    assert (found.high_watermark, found.last_stable_offset, found.log_start_offset) == (-1, -1, -1)


def test_no_other_replica_is_preferred(clients: Any):
    assert clients.fetch(clients.topic(), 0).preferred_read_replica == -1


def test_records_of_the_first_partition_come_first(clients: Any):
    topic = clients.topic(partitions=3, one_leader=True)
    for partition in range(3):
        clients.send(topic, "x" * 500, partition=partition)
    order = [{"partition": 2}, {"partition": 0}, {"partition": 1}]
    found = fetch_all(clients, topic, 16, *order, max_bytes=100)
    assert {index for index, answer in found.items() if answer.records} == {2}
    found = fetch_all(clients, topic, 16, *order, max_bytes=1_500)
    assert {index for index, answer in found.items() if answer.records} == {2, 0}
    assert all(answer.high_watermark == 1 for answer in found.values())


def test_a_fetch_waits_for_as_many_bytes_as_it_asks_for(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    started = time.monotonic()
    found = fetch_all(clients, topic, 16, {"partition": 0}, min_bytes=1_000, max_wait=300)[0]
    assert 0.2 < time.monotonic() - started < 60
    assert found.records
    clients.send(topic, "x" * 1_000)
    started = time.monotonic()
    fetch_all(clients, topic, 16, {"partition": 0}, min_bytes=1_000, max_wait=15_000)
    assert time.monotonic() - started < 14


def test_an_error_is_answered_without_waiting(clients: Any):
    topic = clients.topic(partitions=2, one_leader=True)
    started = time.monotonic()
    found = fetch_all(clients, topic, 16, {"partition": 0}, {"partition": 1, "fetch_offset": 5}, max_wait=15_000)
    assert found[1].error_code.name == "offset_out_of_range"
    found = fetch_all(clients, topic, 16, {"partition": 9}, max_wait=15_000)
    assert found[9].error_code.name == "unknown_topic_or_partition"
    assert time.monotonic() - started < 14


def test_a_fetch_of_nothing_is_answered_at_once(clients: Any):
    asked = {"max_wait": 15_000, "min_bytes": 1, "isolation_level": 0, "topics": [], "forgotten_topics_data": []}
    started = time.monotonic()
    assert clients.wire.any.ask("fetch", 16, **asked).responses == ()
    assert time.monotonic() - started < 14


@pytest.mark.parametrize("limits", [{"max_bytes": 0}, {"max_bytes": 1 << 20, "partition_max_bytes": 0}])
def test_one_batch_comes_however_little_is_asked_for(clients: Any, limits: dict[str, int]):
    topic = clients.topic(partitions=2, one_leader=True)
    for partition in range(2):
        clients.send(topic, "a", partition=partition)
    most = {"partition_max_bytes": limits.get("partition_max_bytes", 1 << 20)}
    found = fetch_all(
        clients, topic, 16, {"partition": 0, **most}, {"partition": 1, **most}, max_bytes=limits["max_bytes"]
    )
    assert [index for index, answer in found.items() if answer.records] == [0]
