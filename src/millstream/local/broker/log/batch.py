"""Record batches, format 2: read a header, check one, build one, walk its records."""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crc32c import crc32c

from millstream.local.broker.log.codecs import BadCompression, pack, unpack

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_SIZE = HEADER.size
CRC_STARTS = 21
MAGIC = 16
"""The byte that names the format."""
LENGTH_STARTS = 12
"""The length field counts the bytes that come after itself."""

COMPRESSION_MASK = 0x07
GZIP = 1
TIMESTAMP_TYPE = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40
"""The base timestamp says from when on the batch's tombstones, or its marker, may be compacted away."""

_CRC = struct.Struct(">I")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_MARKER_KEY = struct.Struct(">hh")
_MARKER_VALUE = struct.Struct(">hi")


class BatchHeader(NamedTuple):
    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def size(self) -> int:
        return LENGTH_STARTS + self.length

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def delete_horizon(self) -> int | None:
        return self.base_timestamp if self.attributes & DELETE_HORIZON else None


class Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class BadBatch(Exception):
    """These bytes are not a whole and undamaged batch; `too_short` when more bytes might make it one."""

    def __init__(self, reason: str, *, too_short: bool = False) -> None:
        super().__init__(reason)
        self.too_short = too_short


def read_header(buffer: bytes | memoryview, at: int = 0) -> BatchHeader:
    """The header at `at`, unchecked. Raises BadBatch when fewer bytes are left than a header has."""
    if len(buffer) - at < HEADER_SIZE:
        raise BadBatch("shorter than a batch header", too_short=True)
    return BatchHeader._make(HEADER.unpack_from(buffer, at))


def check_batch(buffer: memoryview, at: int = 0) -> BatchHeader:
    """The header of the batch at `at`, once the batch is known to be whole and undamaged. Raises BadBatch."""
    header = read_header(buffer, at)
    if header.magic != 2:
        raise BadBatch(f"record format {header.magic}; only 2 is spoken")
    if header.length < HEADER_SIZE - LENGTH_STARTS:
        raise BadBatch(f"impossible batch length {header.length}")
    end = at + header.size
    if end > len(buffer):
        raise BadBatch(f"batch of {header.size} bytes, {len(buffer) - at} are there", too_short=True)
    if crc32c(buffer[at + CRC_STARTS : end]) != header.crc:
        raise BadBatch("checksum does not match")
    return header


def place(buffer: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Give a batch its place in the log; the checksum does not cover these fields."""
    _BASE_OFFSET.pack_into(buffer, 0, base_offset)
    _LEADER_EPOCH.pack_into(buffer, LENGTH_STARTS, leader_epoch)


def stamp(buffer: bytearray | memoryview, now: int) -> BatchHeader:
    """Let the time of the log stand for the time of every record in the batch; its new header."""
    header = read_header(memoryview(buffer))
    header = header._replace(attributes=header.attributes | TIMESTAMP_TYPE, max_timestamp=now)
    HEADER.pack_into(buffer, 0, *header)
    checksum = crc32c(memoryview(buffer)[CRC_STARTS:])
    _CRC.pack_into(buffer, CRC_STARTS - _CRC.size, checksum)
    return header._replace(crc=checksum)


def build_batch(
    records: Sequence[tuple[bytes | None, bytes | None]],
    timestamp: int,
    *,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    attributes: int = 0,
) -> bytearray:
    """An uncompressed batch of `(key, value)` records that share one timestamp."""
    body = bytearray()
    for delta, (key, value) in enumerate(records):
        record = bytearray(b"\0\0")
        record += varint(delta) + _sized(key) + _sized(value) + b"\0"
        body += varint(len(record)) + record
    header = BatchHeader(
        0, 0, 0, 2, 0, attributes, len(records) - 1, timestamp, timestamp, producer_id, producer_epoch, base_sequence,
        len(records),
    )  # fmt: skip
    return seal_batch(header, bytes(body))


def build_marker(producer_id: int, producer_epoch: int, commit: bool, timestamp: int) -> bytearray:
    """The control batch that ends a transaction in one partition."""
    record = (_MARKER_KEY.pack(0, int(commit)), _MARKER_VALUE.pack(0, 0))
    return build_batch(
        [record],
        timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        attributes=TRANSACTIONAL | CONTROL,
    )


def marker_commits(batch: bytes | memoryview) -> bool:
    """Whether this control batch commits; the other kind aborts."""
    key = next(iter_records(batch)).key
    if key is None or len(key) < _MARKER_KEY.size:
        raise BadBatch("a control record without its key")
    return _MARKER_KEY.unpack_from(key)[1] == 1


def iter_records(batch: bytes | memoryview) -> Iterator[Record]:
    """The records of one whole batch. Raises BadBatch on damage."""
    header = read_header(batch)
    body = read_body(batch, header)
    by_log = bool(header.attributes & TIMESTAMP_TYPE)
    at = 0
    try:
        for _ in range(header.records):
            length, start = read_varint(body, at)
            if length < 0:
                raise BadBatch("a record of negative length")
            at = start + length
            timestamp_delta, position = read_varint(body, start + 1)
            offset_delta, position = read_varint(body, position)
            key, position = _read_sized(body, position)
            value, position = _read_sized(body, position)
            timestamp = header.max_timestamp if by_log else header.base_timestamp + timestamp_delta
            yield Record(header.base_offset + offset_delta, timestamp, key, value)
    except IndexError:
        raise BadBatch("a record reaches past its batch") from None


def read_body(batch: bytes | memoryview, header: BatchHeader) -> bytes:
    """The records of one whole batch as bytes, unpacked. Raises BadBatch."""
    body = bytes(batch[HEADER_SIZE : header.size])
    codec = header.attributes & COMPRESSION_MASK
    try:
        return unpack(codec, body) if codec and header.records else body
    except BadCompression as bad:
        raise BadBatch(str(bad)) from bad


def seal_batch(header: BatchHeader, body: bytes) -> bytearray:
    """The batch of this header and body; length and checksum are put right."""
    batch = bytearray(HEADER_SIZE)
    batch += body
    HEADER.pack_into(batch, 0, *header._replace(length=len(batch) - LENGTH_STARTS))
    _CRC.pack_into(batch, CRC_STARTS - _CRC.size, crc32c(memoryview(batch)[CRC_STARTS:]))
    return batch


def recompress(batch: bytes | memoryview, codec: int) -> bytearray:
    """The same records under another compression, 0 for none. Raises BadBatch."""
    header = read_header(batch)
    body = read_body(batch, header)
    attributes = header.attributes & ~COMPRESSION_MASK | codec
    return seal_batch(header._replace(attributes=attributes), pack(codec, body) if codec else body)


def varint(value: int) -> bytes:
    """Zigzag, seven bits a byte."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(buffer: bytes, at: int) -> tuple[int, int]:
    """The zigzag number at `at`, and where the next field starts. Raises BadBatch when it is longer than 64 bits."""
    value = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise BadBatch("a number longer than 64 bits")


def _sized(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def _read_sized(buffer: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = read_varint(buffer, at)
    if length < 0:
        return None, at
    if at + length > len(buffer):
        raise BadBatch("a record reaches past its batch")
    return buffer[at : at + length], at + length
