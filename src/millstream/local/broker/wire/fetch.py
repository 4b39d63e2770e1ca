"""Fetch, versions 4 to 17."""

import struct
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.log.aborted import Aborted
from millstream.local.broker.wire.buffer import Reader, array_size, string, uvarint

FIRST_FLEXIBLE = 12
FIRST_WITH_IDS = 13

Wanted = tuple[int, int, int, int, int, int, int]
"""What a reader asks of one partition, as version 12 has it: partition, leader epoch, offset, last fetched epoch, log
start offset, most bytes, tagged fields. A plain tuple: idle readers of many partitions send thousands of these."""


class FetchTopic(NamedTuple):
    topic: str | UUID
    partitions: list[Wanted]


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
_V12_WITHOUT_TAGS = struct.Struct(">iiqiqib")
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


def _read_topic(reader: Reader, version: int) -> str | UUID:
    return reader.uuid() if version >= FIRST_WITH_IDS else reader.string() or ""


def _read_forgotten(reader: Reader, version: int) -> list[tuple[str | UUID, int]]:
    forgotten = []
    for _ in range(reader.count()):
        topic = _read_topic(reader, version)
        forgotten += [(topic, reader.int32()) for _ in range(reader.count())]
        reader.tags()
    return forgotten


def _read_partitions(reader: Reader, version: int) -> list[Wanted]:
    count = max(reader.count(), 0)
    size = count * _V12_WITHOUT_TAGS.size
    if version >= FIRST_FLEXIBLE and reader.at + size <= len(reader.data):
        wanted: list[Wanted] = list(_V12_WITHOUT_TAGS.iter_unpack(reader.data[reader.at : reader.at + size]))
        if not any(entry[6] for entry in wanted):
            reader.at += size
            return wanted
    return [_read_partition(reader, version) for _ in range(count)]


def _read_partition(reader: Reader, version: int) -> Wanted:
    epoch = fetched = -1
    start = 0
    if version >= 12:
        index, epoch, offset, fetched, start, size = reader.unpack(_V12)
    elif version >= 9:
        index, epoch, offset, start, size = reader.unpack(_V9)
    elif version >= 5:
        index, offset, start, size = reader.unpack(_V5)
    else:
        index, offset, size = reader.unpack(_V4)
    reader.tags()
    return index, epoch, offset, fetched, start, size, 0


class FetchAnswer:
    """The body of a response, written topic by topic and partition by partition in the order of the calls."""

    __slots__ = ("_flexible", "_out", "_version")

    def __init__(self, version: int, topics: int, error: ErrorCode = ErrorCode.none, *, session_id: int = 0) -> None:
        self._version = version
        self._flexible = version >= FIRST_FLEXIBLE
        self._out = [b"\0\0\0\0"]
        if version >= 7:
            self._out.append(struct.pack(">hi", error, session_id))
        self._out.append(array_size(topics, flexible=self._flexible))

    def begin_topic(self, topic: str | UUID, partitions: int) -> None:
        self._out.append(topic.bytes if isinstance(topic, UUID) else string(topic, flexible=self._flexible))
        self._out.append(array_size(partitions, flexible=self._flexible))

    def end_topic(self) -> None:
        if self._flexible:
            self._out.append(b"\0")

    def idle(self, index: int, high_watermark: int, stable: int, start: int, *, committed: bool) -> None:
        """A partition without error and without records."""
        if self._flexible:
            # aborted: null or an empty array; no preferred replica; no records; no tagged fields
            self._out.append(_IDLE_V12.pack(index, 0, high_watermark, stable, start, committed, -1, 1, 0))
        else:
            self.partition(index, ErrorCode.none, high_watermark, stable, start, () if committed else None)

    def partition(
        self,
        index: int,
        error: ErrorCode,
        high_watermark: int = -1,
        stable: int = -1,
        start: int = -1,
        aborted: Sequence[Aborted] | None = None,
        records: bytes = b"",
    ) -> None:
        """`aborted` is None for a reader that did not ask for committed records only."""
        out, flexible, version = self._out, self._flexible, self._version
        head = (index, int(error), high_watermark, stable)
        out.append(_RESULT_V5.pack(*head, start) if version >= 5 else _RESULT_V4.pack(*head))
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
        if size:
            out.append(records)
        if flexible:
            out.append(b"\0")

    def finish(self) -> bytes:
        if self._flexible:
            self._out.append(b"\0")
        return b"".join(self._out)
