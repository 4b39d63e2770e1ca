"""Reading partitions from a given offset to their end, outside any group: for restores and for tools."""

import time
from collections.abc import Iterator
from typing import Any, Protocol

from confluent_kafka import Consumer as Librdkafka
from confluent_kafka.cimpl import KafkaError, KafkaException
from confluent_kafka.cimpl import TopicPartition as Native

from millstream.errors import Unavailable
from millstream.kafka.faults import MISSING, REFUSED, fault, is_fatal, made
from millstream.kafka.metadata_wait import wait_for_metadata
from millstream.kafka.port import END, Isolation, Message, Offsets, TopicPartition
from millstream.kafka.unreadable import with_safe_headers
from millstream.telemetry.signs_of_life import still_alive


class ReadToEnd(Protocol):
    """`read_to_end` with the cluster bound already."""

    def __call__(self, starts: Offsets, isolation: Isolation, timeout: float) -> Iterator[list[Message]]: ...


def read_to_end(properties: dict[str, Any], starts: Offsets, timeout: float) -> Iterator[list[Message]]:
    """Batches of all records from `starts` up to the partitions' ends as they are at the first call.

    Raises `Unavailable` when nothing comes for `timeout` seconds, `TopicMissing` for a partition that does not exist.
    """
    if not starts:
        return
    consumer = made(Librdkafka, properties)
    try:
        # Asking first is quicker, too: librdkafka waits half a second before it reads a partition whose leader is news.
        ranges = {key: _range(consumer, key, start, timeout) for key, start in starts.items()}
        ends = {key: end for key, (first, end) in ranges.items() if first < end}
        yield from _read({key: ranges[key][0] for key in ends}, ends, consumer, timeout)
    finally:
        consumer.close()


def read_to_ends(properties: dict[str, Any], starts: Offsets, ends: Offsets, timeout: float) -> Iterator[list[Message]]:
    """As `read_to_end`, to ends that are known already: many partitions are not asked one by one.

    A record behind the end may be among the last batch, and a partition that has been emptied yields nothing.
    """
    if not starts:
        return
    consumer = made(Librdkafka, properties)
    try:
        # One request for all leaders, which librdkafka would look for half a second later.
        consumer.list_topics(timeout=timeout)
        yield from _read(starts, ends, consumer, timeout)
    except KafkaException as raised:
        raise fault(raised, "asking for the leaders of partitions") from raised
    finally:
        consumer.close()


def watermarks(native: Librdkafka, partition: TopicPartition, timeout: float) -> tuple[int, int]:
    """The first offset there is and the end."""

    def ask(left: float) -> tuple[int, int]:
        try:
            return native.get_watermark_offsets(Native(*partition), timeout=left)
        except KafkaException as raised:
            raise fault(raised, f"asking for the end of {partition[0]}[{partition[1]}]") from raised

    return wait_for_metadata(ask, timeout)


def _read(starts: Offsets, ends: Offsets, consumer: Librdkafka, timeout: float) -> Iterator[list[Message]]:
    consumer.assign([Native(*key, start) for key, start in starts.items()])
    open_partitions = set(starts)
    deadline = time.monotonic() + timeout
    while open_partitions:
        still_alive()
        batch = consumer.consume(1_000, 0) or [first for first in [consumer.poll(0.1)] if first is not None]
        if not batch:
            if time.monotonic() > deadline:
                raise Unavailable(f"Nothing came for {timeout:g} s while reading {_names(open_partitions)}.")
            continue
        deadline = time.monotonic() + timeout
        records: list[Any] = [message for message in batch if message.error() is None]
        if records:
            yield with_safe_headers(records)
        open_partitions -= _finished(batch, ends)


def _range(consumer: Librdkafka, partition: TopicPartition, start: int, timeout: float) -> tuple[int, int]:
    low, high = watermarks(consumer, partition, timeout)
    return (high if start == END else max(start, low)), high


def _finished(batch: list[Any], ends: Offsets) -> set[TopicPartition]:
    """Partitions that this batch brought to their end: a record reached it, or the broker said it was the last."""
    finished: set[TopicPartition] = set()
    last: dict[TopicPartition, int] = {}
    for message in batch:
        key = (message.topic(), message.partition())
        error: KafkaError | None = message.error()
        if error is None:
            last[key] = message.offset()
        elif error.code() == KafkaError._PARTITION_EOF:
            finished.add(key)
        elif is_fatal(error) or error.code() in MISSING or error.code() in REFUSED:
            raise fault(error, f"reading {message.topic()}")
    finished.update(key for key, offset in last.items() if offset + 1 >= ends[key])
    return finished


def _names(partitions: set[TopicPartition]) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(partitions))
