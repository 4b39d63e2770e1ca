"""Where a log begins: deletion of records, and the offsets of times across segments."""

import time
from typing import Any

import pytest

from millstream.local.broker.log.batch import build_batch, iter_records, read_header

STEP_MS = 10_000
EARLIEST, LATEST, HIGHEST = -2, -1, -3


def delete(clients: Any, topic: str, offset: int, partition: int = 0) -> Any:
    """One DeleteRecords request by hand; the partition's answer."""
    topics = [{"name": topic, "partitions": [{"partition_index": partition, "offset": offset}]}]
    leader = clients.wire.leader_of(topic)
    return leader.ask("delete_records", 2, topics=topics, timeout=10_000).topics[0].partitions[0]


def bounds(clients: Any, topic: str) -> tuple[int, int]:
    return clients.list_offset(topic, EARLIEST).offset, clients.list_offset(topic, LATEST).offset


def spread(clients: Any, topic: str, count: int) -> int:
    """Records of one batch each, each in a segment of its own if `segment.ms` is short; the time of the first."""
    begin = time.time_ns() // 1_000_000 - count * STEP_MS
    for number in range(count):
        batch = build_batch([(b"k%d" % number, b"v%d" % number)], begin + number * STEP_MS)
        answer = clients.append(topic, bytes(batch))
        assert (answer.error_code, answer.base_offset) == (0, number)
    return begin


def test_a_log_begins_where_records_were_deleted_up_to(clients: Any):
    topic = clients.topic()
    clients.send(topic, *"abcde")
    answer = delete(clients, topic, 3)
    assert (answer.error_code, answer.low_watermark) == (0, 3)
    assert bounds(clients, topic) == (3, 5)
    assert clients.read(topic, start=3) == ["d", "e"]


@pytest.mark.parametrize("offset", [0, 2])
def test_what_was_deleted_is_out_of_range(clients: Any, offset: int):
    topic = clients.topic()
    clients.send(topic, *"abcde")
    delete(clients, topic, 3)
    answer = clients.fetch(topic, offset)
    assert answer.error_code.name == "offset_out_of_range"
    assert clients.fetch(topic, 3).log_start_offset == 3


def test_what_lies_beyond_the_end_is_out_of_range_and_the_end_is_not(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    assert clients.fetch(topic, 2).error_code.name == "offset_out_of_range"
    assert clients.fetch(topic, 1).error_code.name == "none"
    assert clients.fetch(topic, -1).error_code.name == "offset_out_of_range"


def test_minus_one_deletes_all_there_is(clients: Any):
    topic = clients.topic()
    clients.send(topic, *"abc")
    answer = delete(clients, topic, -1)
    assert (answer.error_code, answer.low_watermark) == (0, 3)
    assert bounds(clients, topic) == (3, 3)
    assert clients.send(topic, "d") == [3]
    assert clients.read(topic, start=3) == ["d"]


def test_nothing_is_deleted_beyond_the_end(clients: Any):
    topic = clients.topic()
    clients.send(topic, *"abc")
    answer = delete(clients, topic, 4)
    assert (answer.error_code.name, answer.low_watermark) == ("offset_out_of_range", -1)
    assert bounds(clients, topic) == (0, 3)


def test_to_delete_less_than_before_changes_nothing(clients: Any):
    topic = clients.topic()
    clients.send(topic, *"abc")
    delete(clients, topic, 2)
    answer = delete(clients, topic, 1)
    assert (answer.error_code, answer.low_watermark) == (0, 2)
    assert bounds(clients, topic) == (2, 3)


def test_records_of_an_unknown_partition_are_not_deleted(clients: Any):
    topic = clients.topic()
    assert delete(clients, topic, 0, partition=7).error_code.name == "unknown_topic_or_partition"


def test_records_of_a_topic_that_only_compacts_are_not_deleted(clients: Any):
    topic = clients.topic(cleanup_policy="compact")
    clients.append(topic, bytes(build_batch([(b"k", b"v")], time.time_ns() // 1_000_000)))
    assert delete(clients, topic, 1).error_code.name == "policy_violation"
    assert bounds(clients, topic) == (0, 1)


def test_records_of_a_topic_that_compacts_and_deletes_are_deleted(clients: Any):
    topic = clients.topic(cleanup_policy="compact,delete")
    clients.append(topic, bytes(build_batch([(b"k", b"v")], time.time_ns() // 1_000_000)))
    assert delete(clients, topic, 1).error_code == 0
    assert bounds(clients, topic) == (1, 1)


def test_a_log_may_begin_amid_a_batch(clients: Any):
    topic = clients.topic()
    now = time.time_ns() // 1_000_000
    clients.append(topic, bytes(build_batch([(None, b"%d" % n) for n in range(5)], now)))
    delete(clients, topic, 3)
    answer = clients.fetch(topic, 3)
    assert read_header(answer.records).base_offset == 0
    assert clients.read(topic, start=3) == ["3", "4"]


def test_a_time_is_found_in_whichever_segment_it_lies(clients: Any):
    topic = clients.topic(segment_ms=1000)
    begin = spread(clients, topic, 6)
    for number in range(6):
        at = begin + number * STEP_MS
        for asked in (at, at - STEP_MS + 1):
            found = clients.list_offset(topic, asked)
            assert (found.error_code, found.offset, found.timestamp) == (0, number, at)
    past_all = clients.list_offset(topic, begin + 6 * STEP_MS)
    assert (past_all.error_code, past_all.offset, past_all.timestamp) == (0, -1, -1)
    highest = clients.list_offset(topic, HIGHEST)
    assert (highest.offset, highest.timestamp) == (5, begin + 5 * STEP_MS)


def test_a_time_before_the_beginning_finds_the_beginning(clients: Any):
    # In one segment: Apache Kafka removes whole segments minutes later, and till then finds nothing past a removed one.
    topic = clients.topic()
    begin = spread(clients, topic, 6)
    delete(clients, topic, 4)
    found = clients.list_offset(topic, begin)
    assert (found.offset, found.timestamp) == (4, begin + 4 * STEP_MS)
    delete(clients, topic, 6)
    assert clients.list_offset(topic, begin).offset == -1


def test_every_record_is_read_across_segments(clients: Any):
    topic = clients.topic(segment_ms=1000)
    spread(clients, topic, 8)
    assert clients.read(topic) == [f"v{number}" for number in range(8)]
    assert clients.read(topic, start=5) == ["v5", "v6", "v7"]
    answer = clients.fetch(topic, 2)
    assert [r.offset for r in iter_records(answer.records)] == [2]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_time_is_found_amid_a_compressed_batch(clients: Any, codec: str):
    topic = clients.topic()
    begin = time.time_ns() // 1_000_000 - 100_000
    # One batch however slow the machine: only flush ends the lingering. Records of a topic that the producer has not
    # met wait elsewhere and are handed over one by one, so another comes first.
    producer = clients.producer(compression_type=codec, linger_ms=10_000)
    producer.produce(topic, "earlier", timestamp=begin - 1000, partition=0)
    assert producer.flush(60) == 0
    for number in range(50):
        producer.produce(topic, f"value {number}", timestamp=begin + number * 10, partition=0)
    assert producer.flush(60) == 0
    assert read_header(clients.fetch(topic, 1).records).records == 50
    for number in (0, 1, 25, 49):
        found = clients.list_offset(topic, begin + number * 10 - 5)
        assert (found.offset, found.timestamp) == (1 + number, begin + number * 10)
    assert clients.list_offset(topic, begin + 491).offset == -1


def test_times_out_of_order_find_the_first_record_that_is_late_enough(clients: Any):
    topic = clients.topic()
    begin = time.time_ns() // 1_000_000 - 100_000
    for late in (50, 10, 90, 30):
        clients.append(topic, bytes(build_batch([(None, b"v")], begin + late)))
    wanted = {0: 0, 40: 0, 51: 2, 90: 2, 91: -1}
    assert {late: clients.list_offset(topic, begin + late).offset for late in wanted} == wanted
    assert clients.list_offset(topic, HIGHEST).offset == 2
