"""Producing: offsets, contents, compression, and what a broker refuses."""

import time
from typing import Any

import pytest
from confluent_kafka.cimpl import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME


def test_offsets_count_up_from_zero_in_each_partition(clients: Any):
    topic = clients.topic(partitions=2)
    assert clients.send(topic, "a", "b", partition=0) == [0, 1]
    assert clients.send(topic, "c", partition=1) == [0]
    assert clients.send(topic, "d", partition=0) == [2]


def test_a_record_comes_back_as_it_was_sent(clients: Any):
    topic = clients.topic()
    producer = clients.producer()
    headers = [("a", b"1"), ("a", b"2"), ("empty", b""), ("null", None)]
    producer.produce(topic, b"\x00value\xff", b"key", headers=headers, timestamp=1_234_567_890_123)
    producer.produce(topic, None, b"")
    producer.produce(topic, b"", None)
    producer.flush(10)
    consumer = clients.consumer(topic)
    first, tombstone, empty = clients.poll(consumer, 3)
    assert (first.key(), first.value(), first.headers()) == (b"key", b"\x00value\xff", headers)
    assert first.timestamp() == (TIMESTAMP_CREATE_TIME, 1_234_567_890_123)
    assert (tombstone.key(), tombstone.value()) == (b"", None)
    assert (empty.key(), empty.value()) == (None, b"")


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_comes_back(clients: Any, codec: str):
    topic = clients.topic()
    values = [f"value {i} " * 20 for i in range(100)]
    clients.send(topic, *values, producer=clients.producer(compression_type=codec, linger_ms=50))
    assert clients.read(topic) == values


@pytest.mark.parametrize("acks", ["0", "1", "all"])
def test_every_kind_of_acknowledgement_writes(clients: Any, wait: Any, acks: str):
    topic = clients.topic()
    clients.send(topic, "a", "b", producer=clients.producer(acks=acks))
    wait(lambda: clients.list_offset(topic, -1).offset == 2, "both records")
    assert clients.read(topic) == ["a", "b"]


def test_ten_thousand_records_keep_their_order(clients: Any):
    topic = clients.topic()
    values = [str(i) for i in range(10_000)]
    offsets = clients.send(topic, *values, producer=clients.producer(linger_ms=5))
    assert offsets == list(range(10_000))
    assert clients.read(topic) == values


def test_log_append_time_replaces_the_producers_time(clients: Any):
    topic = clients.topic(message_timestamp_type="LogAppendTime")
    before = time.time_ns() // 1_000_000
    producer = clients.producer()
    producer.produce(topic, "a", timestamp=1_000)
    producer.flush(10)
    (message,) = clients.poll(clients.consumer(topic), 1)
    kind, stamp = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before - 1_000 <= stamp <= time.time_ns() // 1_000_000 + 1_000


def refusal_of(broker: Any, topic: str, partition: int, batch: bytes) -> str:
    data = [{"name": topic, "partition_data": [{"index": partition, "records": batch}]}]
    answer = broker.ask("produce", 10, transactional_id=None, acks=-1, timeout=5_000, topic_data=data)
    return answer.responses[0].partition_responses[0].error_code.name


def test_an_unknown_topic_is_refused(clients: Any, batch: Any):
    assert refusal_of(clients.wire.any, clients.name(), 0, batch("a")) == "unknown_topic_or_partition"


def test_an_unknown_partition_is_refused(clients: Any, batch: Any):
    topic = clients.topic()
    assert refusal_of(clients.wire.leader_of(topic), topic, 7, batch("a")) == "unknown_topic_or_partition"


def test_a_batch_larger_than_the_topic_allows_is_refused(clients: Any, batch: Any):
    topic = clients.topic(max_message_bytes=1_000)
    assert clients.append(topic, batch("x" * 2_000)).error_code.name == "message_too_large"
    assert clients.append(topic, batch("x" * 100)).error_code.name == "none"


def test_a_damaged_batch_is_refused(clients: Any, batch: Any):
    topic = clients.topic()
    damaged = bytearray(batch("abc"))
    damaged[-3] ^= 1
    assert clients.append(topic, bytes(damaged)).error_code.name == "corrupt_message"
    assert clients.list_offset(topic, -1).offset == 0


def test_two_batches_for_one_partition_are_refused(clients: Any, batch: Any):
    topic = clients.topic()
    assert clients.append(topic, batch("a") + batch("b")).error_code.name == "invalid_record"
    assert clients.list_offset(topic, -1).offset == 0


def test_acknowledgements_that_do_not_exist_are_refused(clients: Any, batch: Any):
    topic = clients.topic()
    assert clients.append(topic, batch("a"), acks=2).error_code.name == "invalid_required_acks"


def test_a_compacted_topic_demands_keys(clients: Any, batch: Any):
    topic = clients.topic(cleanup_policy="compact")
    assert clients.append(topic, batch("no key")).error_code.name == "invalid_record"


def test_an_answer_says_where_the_batch_begins(clients: Any, batch: Any):
    topic = clients.topic()
    assert clients.append(topic, batch("a", "b", "c")).base_offset == 0
    assert clients.append(topic, batch("d")).base_offset == 3
