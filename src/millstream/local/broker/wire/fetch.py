"""Fetch, versions 4 to 17."""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.log.aborted import Aborted
from millstream.local.broker.wire.buffer import Reader, array_size, string, uvarint

FIRST_FLEXIBLE = 12
FIRST_WITH_IDS = 13

Wanted = tuple[int, int, int, int]
"""What a reader asks of one partition: its number, the leader's epoch, the offset, the most bytes."""

Parts = tuple[bytes, ...]
"""A partition of an answer; its records are not copied on the way."""


class FetchTopic(NamedTuple):
    """`partitions` as they were sent, each the same number of bytes: readers of many send thousands of which few have
    changed since the last time, and only those are understood, by `wanted`."""

    topic: str | UUID
    partitions: list[bytes]


class FetchRequest(NamedTuple):
    max_wait: int
    min_bytes: int
    max_bytes: int
    committed: bool
    session_id: int
    session_epoch: int
    topics: list[FetchTopic]
    forgotten: list[tuple[str | UUID, int]]


_HEAD = struct.Struct(">iiib")
_SESSION = struct.Struct(">ii")
_V4 = struct.Struct(">iqi")
_V5 = struct.Struct(">iqqi")
_V9 = struct.Struct(">iiqqi")
_V12 = struct.Struct(">iiqiqi")
_SIZED = {size: struct.Struct(f"{size}s") for size in (_V4.size, _V5.size, _V9.size, _V12.size + 1)}
_RESULT_V4 = struct.Struct(">ihqq")
_RESULT_V5 = struct.Struct(">ihqqq")
_IDLE_V12 = struct.Struct(">ihqqqBiBB")
_ABORTED = struct.Struct(">qq")
_NO_REPLICA = b"\xff\xff\xff\xff"


def read_fetch(version: int, body: memoryview) -> FetchRequest:
    """Raises Malformed."""
    reader = Reader(body, version >= FIRST_FLEXIBLE)
    if version < 15:
        reader.int32()  # the replica id
    max_wait, min_bytes, max_bytes, isolation = reader.unpack(_HEAD)
    session_id, session_epoch = reader.unpack(_SESSION) if version >= 7 else (0, -1)
    topics = []
    for _ in range(reader.count()):
        topic = _read_topic(reader, version)
        topics.append(FetchTopic(topic, _read_partitions(reader, version)))
        reader.tags()
    forgotten = _read_forgotten(reader, version) if version >= 7 else []
    return FetchRequest(max_wait, min_bytes, max_bytes, isolation == 1, session_id, session_epoch, topics, forgotten)


def wanted(sent: bytes) -> Wanted:
    """What one of a topic's partitions means: its size tells the version."""
    epoch = -1
    if len(sent) > _V9.size:
        index, epoch, offset, _, _, size = _V12.unpack_from(sent)
    elif len(sent) == _V9.size:
        index, epoch, offset, _, size = _V9.unpack(sent)
    elif len(sent) == _V5.size:
        index, offset, _, size = _V5.unpack(sent)
    else:
        index, offset, size = _V4.unpack(sent)
    return index, epoch, offset, size


def _read_topic(reader: Reader, version: int) -> str | UUID:
    return reader.uuid() if version >= FIRST_WITH_IDS else reader.string() or ""


def _read_forgotten(reader: Reader, version: int) -> list[tuple[str | UUID, int]]:
    forgotten = []
    for _ in range(reader.count()):
        topic = _read_topic(reader, version)
        forgotten += [(topic, reader.int32()) for _ in range(reader.count())]
        reader.tags()
    return forgotten


def _read_partitions(reader: Reader, version: int) -> list[bytes]:
    count = max(reader.count(), 0)
    if version < FIRST_FLEXIBLE:
        size = _V9.size if version >= 9 else _V5.size if version >= 5 else _V4.size
        return _cut(reader.take(count * size), size)
    size = _V12.size + 1
    data = reader.data[reader.at : reader.at + count * size]
    if bytes(data[_V12.size :: size]).count(0) == count:  # none has tagged fields
        reader.at += count * size
        return _cut(data, size)
    return [_read_tagged(reader) for _ in range(count)]


def _read_tagged(reader: Reader) -> bytes:
    sent = bytes(reader.take(_V12.size))
    reader.tags()
    return sent + b"\0"


def _cut(data: memoryview, size: int) -> list[bytes]:
    return [sent for (sent,) in _SIZED[size].iter_unpack(data)]


class FetchAnswer:
    """The body of a response, written topic by topic in the order of the calls."""

    __slots__ = ("_flexible", "_out")

    def __init__(self, version: int, topics: int, error: ErrorCode = ErrorCode.none, *, session_id: int = 0) -> None:
        self._flexible = version >= FIRST_FLEXIBLE
        self._out = [b"\0\0\0\0"]
        if version >= 7:
            self._out.append(struct.pack(">hi", error, session_id))
        self._out.append(array_size(topics, flexible=self._flexible))

    def topic(self, topic: str | UUID, partitions: Sequence[Parts]) -> None:
        """A topic with its partitions, which `entry` or `idle` wrote for this version."""
        self._out.append(topic.bytes if isinstance(topic, UUID) else string(topic, flexible=self._flexible))
        self._out.append(array_size(len(partitions), flexible=self._flexible))
        self._out.extend(chain.from_iterable(partitions))
        if self._flexible:
            self._out.append(b"\0")

    def finish(self) -> list[bytes]:
        """The parts of the body: whoever puts them into a frame copies the records, once."""
        if self._flexible:
            self._out.append(b"\0")
        return self._out


def idle(version: int, index: int, high_watermark: int, stable: int, start: int, *, committed: bool) -> Parts:
    """A partition of an answer, without error and without records."""
    if version >= FIRST_FLEXIBLE:
        # aborted: null or an empty array; no preferred replica; no records; no tagged fields
        return (_IDLE_V12.pack(index, 0, high_watermark, stable, start, committed, -1, 1, 0),)
    return entry(version, index, ErrorCode.none, high_watermark, stable, start, () if committed else None)


def entry(
    version: int,
    index: int,
    error: ErrorCode,
    high_watermark: int = -1,
    stable: int = -1,
    start: int = -1,
    aborted: Sequence[Aborted] | None = None,
    records: bytes = b"",
) -> Parts:
    """A partition of an answer. `aborted` is None for a reader that did not ask for committed records only."""
    flexible = version >= FIRST_FLEXIBLE
    head = (index, int(error), high_watermark, stable)
    out = [_RESULT_V5.pack(*head, start) if version >= 5 else _RESULT_V4.pack(*head)]
    if aborted is None:
        out.append(b"\0" if flexible else b"\xff\xff\xff\xff")
    else:
        out.append(array_size(len(aborted), flexible=flexible))
        tags = b"\0" if flexible else b""
        out.extend(_ABORTED.pack(entry.producer_id, entry.first_offset) + tags for entry in aborted)
    if version >= 11:
        out.append(_NO_REPLICA)
    size = len(records)
    out.append(uvarint(size + 1) if flexible else size.to_bytes(4, "big"))
    return b"".join(out), records, b"\0" if flexible else b""
