"""Records of simulated clients: batches with headers, and the hash that places a key."""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from crc32c import crc32c

from millstream.kafka.port import Headers, Message
from millstream.kafka.unreadable import UnreadableHeaders
from millstream.local.broker.log.batch import (
    CONTROL,
    CRC_STARTS,
    HEADER,
    HEADER_SIZE,
    LENGTH_STARTS,
    TIMESTAMP_TYPE,
    TRANSACTIONAL,
    marker_commits,
    read_header,
    read_varint,
    varint,
)

OVERHEAD_BYTES = 70
"""The most that a record takes beside its key, value and headers."""


class Record(NamedTuple):
    """A record that a producer sends."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int

    @property
    def size(self) -> int:
        """Bytes in a batch, at most."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + OVERHEAD_BYTES


class SimulatedMessage:
    """`millstream.kafka.port.Message`."""

    __slots__ = ("_headers", "_key", "_offset", "_partition", "_timestamp", "_topic", "_value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: tuple[int, int],
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._timestamp = timestamp
        self._key = key
        self._value = value
        self._headers = headers

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Headers | None:
        return self._headers or None

    def with_headers(self, names: Sequence[bytes], contents: Sequence[bytes | None]) -> Message:
        """The same with these headers; with none that can be read where a name is no UTF-8, as from librdkafka."""
        try:
            self._headers = [(name.decode(), content) for name, content in zip(names, contents, strict=True)]
        except UnicodeDecodeError as error:
            return UnreadableHeaders(self, error)
        return self

    def timestamp(self) -> tuple[int, int]:
        return self._timestamp


def batch_of(records: list[Record], producer_id: int, epoch: int, sequence: int, *, transactional: bool) -> bytes:
    """Write one batch of records of one partition."""
    first = records[0].timestamp
    body = bytearray()
    for delta, record in enumerate(records):
        fields = bytearray(b"\0") + varint(record.timestamp - first) + varint(delta)
        fields += _sized(record.key) + _sized(record.value) + varint(len(record.headers))
        for name, value in record.headers:
            fields += _sized(name.encode()) + _sized(value)
        body += varint(len(fields)) + fields
    batch = bytearray(HEADER_SIZE) + body
    HEADER.pack_into(
        batch, 0, 0, len(batch) - LENGTH_STARTS, -1, 2, 0, TRANSACTIONAL if transactional else 0, len(records) - 1,
        first, max(record.timestamp for record in records), producer_id, epoch, sequence, len(records),
    )  # fmt: skip
    struct.pack_into(">I", batch, CRC_STARTS - 4, crc32c(memoryview(batch)[CRC_STARTS:]))
    return bytes(batch)


def read_batches(
    topic: str, partition: int, data: bytes, start: int, aborted: list[tuple[int, int]]
) -> tuple[list[Message], int]:
    """Read the messages from `start` on that are not of an aborted transaction, and the offset to read on from.

    - `aborted`: (producer id, first offset) as the broker lists them; empty for a reader of everything.
    """
    messages: list[Message] = []
    open_aborts: set[int] = set()
    waiting = sorted(aborted, key=lambda entry: entry[1])
    at, following = 0, start
    while len(data) - at >= LENGTH_STARTS:
        size = LENGTH_STARTS + struct.unpack_from(">i", data, at + 8)[0]
        if at + size > len(data):
            break
        batch = data[at : at + size]
        header = read_header(batch)
        while waiting and waiting[0][1] < header.next_offset:
            open_aborts.add(waiting.pop(0)[0])
        if header.attributes & CONTROL:
            if not marker_commits(batch):
                open_aborts.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in open_aborts):
            read = _messages(topic, partition, bytes(batch))
            messages.extend(read if header.base_offset >= start else (each for each in read if each.offset() >= start))
        following = max(following, header.next_offset)
        at += size
    return messages, following


@lru_cache(2_000)
def _messages(topic: str, partition: int, batch: bytes) -> tuple[Message, ...]:
    """Read a batch once: every group reads the same batches."""
    return tuple(_read_messages(topic, partition, batch))


def _read_messages(topic: str, partition: int, batch: bytes) -> Iterator[Message]:
    header = read_header(batch)
    by_log = bool(header.attributes & TIMESTAMP_TYPE)
    at = HEADER_SIZE
    for _ in range(header.records):
        length, at = read_varint(batch, at)
        end = at + length
        timestamp_delta, at = read_varint(batch, at + 1)
        delta, at = read_varint(batch, at)
        key, at = _read_sized(batch, at)
        value, at = _read_sized(batch, at)
        count, at = read_varint(batch, at)
        names: list[bytes] = []
        contents: list[bytes | None] = []
        for _ in range(count):
            name, at = _read_sized(batch, at)
            content, at = _read_sized(batch, at)
            names.append(name or b"")
            contents.append(content)
        timestamp = (2, header.max_timestamp) if by_log else (1, header.base_timestamp + timestamp_delta)
        message = SimulatedMessage(topic, partition, header.base_offset + delta, timestamp, key, value, [])
        yield message.with_headers(names, contents)
        at = end


@lru_cache(2_000)
def murmur2(data: bytes) -> int:
    """Return the hash by which Java's producer places keys, as an unsigned number.

    >>> murmur2(b"foobar") == -790332482 & 0xFFFFFFFF
    True
    """
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    value = 0x9747B28C ^ length
    whole = length & ~3
    for (word,) in struct.iter_unpack("<I", data[:whole]):
        word = word * multiplier & mask
        word ^= word >> 24
        value = (value * multiplier & mask) ^ (word * multiplier & mask)
    rest = data[whole:]
    if rest:
        value ^= int.from_bytes(rest, "little")
        value = value * multiplier & mask
    value ^= value >> 13
    value = value * multiplier & mask
    return value ^ (value >> 15)


def _sized(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def _read_sized(buffer: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = read_varint(buffer, at)
    return (None, at) if length < 0 else (buffer[at : at + length], at + length)
