"""Produce, versions 3 to 11."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from kio.schema.errors import ErrorCode

from millstream.local.broker.wire.buffer import Reader, array_size, string

FIRST_FLEXIBLE = 9


class ProducePartition(NamedTuple):
    topic: str
    partition: int
    batch: memoryview | None


class ProduceRequest(NamedTuple):
    transactional_id: str | None
    acks: int
    partitions: list[ProducePartition]


class ProduceResult(NamedTuple):
    topic: str
    partition: int
    error: ErrorCode
    base_offset: int = -1
    timestamp: int = -1
    start_offset: int = -1
    message: str | None = None
    record_errors: Sequence[tuple[int, str]] = ()


_ACKS_AND_TIMEOUT = struct.Struct(">hi")
_INDEX = struct.Struct(">i")
_BEFORE_V5 = struct.Struct(">ihqq")
_SINCE_V5 = struct.Struct(">ihqqq")


def read_produce(version: int, body: memoryview) -> ProduceRequest:
    """The batches are views into `body`. Raises Malformed."""
    reader = Reader(body, version >= FIRST_FLEXIBLE)
    transactional_id = reader.string()
    acks, _ = reader.unpack(_ACKS_AND_TIMEOUT)  # one broker has nobody to wait for
    partitions = []
    for _ in range(reader.count()):
        topic = reader.string() or ""
        for _ in range(reader.count()):
            partitions.append(ProducePartition(topic, reader.int32(), reader.blob()))
            reader.tags()
        reader.tags()
    return ProduceRequest(transactional_id, acks, partitions)


def write_produce(version: int, results: Sequence[ProduceResult]) -> bytes:
    flexible = version >= FIRST_FLEXIBLE
    by_topic: dict[str, list[ProduceResult]] = {}
    for result in results:
        by_topic.setdefault(result.topic, []).append(result)
    out = [array_size(len(by_topic), flexible=flexible)]
    for topic, partitions in by_topic.items():
        out += (string(topic, flexible=flexible), array_size(len(partitions), flexible=flexible))
        for result in partitions:
            error = int(result.error)
            if version < 5:
                out.append(_BEFORE_V5.pack(result.partition, error, result.base_offset, result.timestamp))
                continue
            out.append(
                _SINCE_V5.pack(result.partition, error, result.base_offset, result.timestamp, result.start_offset)
            )
            if version >= 8:
                out.append(array_size(len(result.record_errors), flexible=flexible))
                for position, message in result.record_errors:
                    out += (_INDEX.pack(position), string(message, flexible=flexible), b"\0" if flexible else b"")
                out.append(string(result.message, flexible=flexible))
            if flexible:
                out.append(b"\0")
        if flexible:
            out.append(b"\0")
    out.append(b"\0\0\0\0\0" if flexible else b"\0\0\0\0")
    return b"".join(out)
