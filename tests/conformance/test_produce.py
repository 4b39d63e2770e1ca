"""Producing: offsets, contents, compression, and what a broker refuses."""

import struct
import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME
from crc32c import crc32c


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


def patched(batch: bytes, at: int, layout: str, *values: int) -> bytes:
    """The batch with another value in its header, and the checksum that fits."""
    changed = bytearray(batch)
    struct.pack_into(layout, changed, at, *values)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


@pytest.mark.parametrize(
    ("at", "layout", "value"),
    [(0, ">q", 7), (21, ">h", 0x20), (23, ">i", 5), (57, ">i", 0), (57, ">i", 9), (57, ">i", -1)],
    ids=["base-offset", "control", "last-offset", "no-records", "too-many-records", "negative-records"],
)
def test_a_batch_that_counts_wrong_is_refused(clients: Any, batch: Any, at: int, layout: str, value: int):
    topic = clients.topic()
    assert clients.append(topic, patched(batch("a", "b"), at, layout, value)).error_code.name == "invalid_record"
    assert clients.list_offset(topic, -1).offset == 0


def test_a_producer_counts_its_batches(clients: Any, batch: Any):
    unnumbered = patched(batch("a"), 43, ">qhi", 5, 0, -1)
    assert clients.append(clients.topic(), unnumbered).error_code.name == "invalid_record"


@pytest.mark.parametrize("length", [0, 30, -3])
def test_a_batch_that_is_cut_short_is_refused(clients: Any, batch: Any, length: int):
    topic = clients.topic()
    assert clients.append(topic, batch("abc")[:length]).error_code.name == "invalid_record"
    assert clients.list_offset(topic, -1).offset == 0


@pytest.mark.parametrize(("magic", "code"), [(0, "invalid_record"), (1, "invalid_record"), (3, "corrupt_message")])
def test_another_format_of_records_is_refused(clients: Any, batch: Any, magic: int, code: str):
    topic = clients.topic()
    other = batch("abc")
    assert clients.append(topic, other[:16] + bytes([magic]) + other[17:]).error_code.name == code
    assert clients.list_offset(topic, -1).offset == 0


def test_a_leader_epoch_in_a_batch_is_no_matter(clients: Any, batch: Any):
    sent = batch("a")
    assert clients.append(clients.topic(), sent[:12] + struct.pack(">i", 99) + sent[16:]).error_code.name == "none"


def test_records_of_the_far_future_are_refused_one_by_one(clients: Any, batch: Any):
    topic = clients.topic()
    later = time.time_ns() // 1_000_000 + 2 * 60 * 60 * 1_000
    refused = clients.append(topic, patched(batch("a", "b"), 27, ">qq", later, later))
    assert (refused.error_code.name, refused.base_offset) == ("invalid_timestamp", -1)
    assert [error.batch_index for error in refused.record_errors] == [0, 1]
    assert all(error.batch_index_error_message for error in refused.record_errors)
    assert clients.list_offset(topic, -1).offset == 0


def test_records_of_the_past_are_refused_where_they_are_too_old(clients: Any, batch: Any):
    old = patched(batch("a"), 27, ">qq", 1_000, 1_000)
    assert clients.append(clients.topic(), old).error_code.name == "none"
    strict = clients.topic(message_timestamp_before_max_ms=60_000)
    assert clients.append(strict, old).error_code.name == "invalid_timestamp"
    assert clients.append(strict, batch("a")).error_code.name == "none"


def test_no_time_is_wrong_where_the_log_keeps_its_own(clients: Any, batch: Any):
    topic = clients.topic(message_timestamp_type="LogAppendTime", message_timestamp_before_max_ms=60_000)
    answer = clients.append(topic, patched(batch("a"), 27, ">qq", 1_000, 1_000))
    assert (answer.error_code.name, answer.base_offset) == ("none", 0)
    assert answer.log_append_time is not None


def test_records_without_a_key_are_named(clients: Any, batch: Any):
    refused = clients.append(clients.topic(cleanup_policy="compact"), batch("a", "b"))
    assert [error.batch_index for error in refused.record_errors] == [0, 1]
    assert refused.error_message


def test_records_of_a_transaction_need_its_name(clients: Any, batch: Any):
    topic = clients.topic()
    refused = clients.append(topic, batch("a", producer_id=5, epoch=0, sequence=0, transactional=True))
    assert refused.error_code.name == "transactional_id_authorization_failed"


def test_more_replicas_in_sync_than_there_are_cannot_be_demanded(clients: Any, batch: Any):
    topic = clients.topic(one_leader=True, min_insync_replicas=2)
    assert clients.append(topic, batch("a")).error_code.name == "none"


@pytest.mark.parametrize("version", range(3, 12))
def test_every_version_produces(clients: Any, batch: Any, version: int):
    topic = clients.topic()
    data = [{"name": topic, "partition_data": [{"index": 0, "records": batch("a")}]}]
    answer = clients.wire.leader_of(topic).ask(
        "produce", version, transactional_id=None, acks=-1, timeout=5_000, topic_data=data
    )
    result = answer.responses[0].partition_responses[0]
    assert (result.error_code.name, result.base_offset) == ("none", 0)
    assert clients.read(topic) == ["a"]


def test_a_request_without_batches_is_answered(clients: Any):
    asked = {"transactional_id": None, "acks": -1, "timeout": 5_000, "topic_data": []}
    assert clients.wire.any.ask("produce", 10, **asked).responses == ()


def test_one_bad_batch_does_not_hold_back_the_others(clients: Any, batch: Any):
    topic = clients.topic(partitions=2, one_leader=True)
    partitions = [{"index": 0, "records": batch("a")[:30]}, {"index": 1, "records": batch("b")}]
    data = [{"name": topic, "partition_data": partitions}]
    answer = clients.wire.leader_of(topic).ask(
        "produce", 10, transactional_id=None, acks=-1, timeout=5_000, topic_data=data
    )
    assert {p.index: p.error_code.name for p in answer.responses[0].partition_responses} == {
        0: "invalid_record",
        1: "none",
    }


@pytest.mark.parametrize("sent", ["none", "lz4"])
@pytest.mark.parametrize(
    ("kept", "number"), [("uncompressed", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4), ("producer", None)]
)
def test_a_topic_may_choose_the_compression_of_its_log(clients: Any, kept: str, number: int | None, sent: str):
    topic = clients.topic(compression_type=kept)
    values = [f"value {i} " * 20 for i in range(50)]
    producer = clients.producer(compression_type=sent, linger_ms=200, enable_idempotence=True)
    assert clients.send(topic, *values, producer=producer) == list(range(50))
    attributes = int.from_bytes(clients.fetch(topic, 0).records[21:23], "big")
    assert attributes & 7 == (number if number is not None else {"none": 0, "lz4": 3}[sent])
    assert clients.read(topic) == values


def test_a_batch_that_has_become_too_large_is_refused(clients: Any):
    topic = clients.topic(compression_type="uncompressed", max_message_bytes=2_000)
    producer = clients.producer(compression_type="gzip")
    with pytest.raises(KafkaException) as refused:
        clients.send(topic, "x" * 5_000, producer=producer)
    assert refused.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
