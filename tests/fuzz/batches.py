"""Record batches of every codec: sound, damaged under a right checksum, and bombs."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import cramjam
from crc32c import crc32c

from millstream.local.broker.log.batch import (
    CRC_STARTS,
    HEADER,
    HEADER_SIZE,
    LENGTH_STARTS,
    build_batch,
    read_header,
    varint,
)  # fmt: skip
from millstream.local.broker.wire.buffer import uvarint

CODECS: dict[int, Callable[[bytes], bytes]] = {
    0: bytes,
    1: lambda body: bytes(cramjam.gzip.compress(body)),
    2: lambda body: bytes(cramjam.snappy.compress_raw(body)),
    3: lambda body: bytes(cramjam.lz4.compress(body)),
    4: lambda body: bytes(cramjam.zstd.compress(body)),
}
BOMB_BYTES = 80 << 20
_JAVA_SNAPPY = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"


def record_set(chance: random.Random) -> bytes:
    """What a Produce request carries for one partition: mostly one batch, sound or not."""
    kind = chance.random()
    if kind < 0.02:
        return b""
    if kind < 0.04:
        return bomb(chance.choice((1, 2, 3, 4)))
    one = batch(chance)
    if kind < 0.35:
        one = damaged(chance, one)
    return one + (batch(chance) if kind > 0.96 else b"")


def batch(chance: random.Random) -> bytes:
    """A batch whose records, codec and producer were drawn."""
    records = [(_content(chance), _content(chance)) for _ in range(chance.choice((1, 1, 2, 5, 40)))]
    producer = chance.choice((-1, -1, 0, 1, 2, 1000, (1 << 63) - 1))
    built = build_batch(
        records,
        chance.choice((-1, 0, 1_700_000_000_000, (1 << 62))),
        producer_id=producer,
        producer_epoch=chance.choice((0, 0, 1, -1)) if producer >= 0 else -1,
        base_sequence=chance.choice((0, 0, 1, 2, 5, 0x7FFFFFFF)) if producer >= 0 else -1,
        attributes=chance.choice((0, 0, 0, 8, 16, 16, 32, 48, 64)),
    )
    codec = chance.choice((0, 0, 1, 2, 3, 4, 5, 7))
    body = bytes(built[HEADER_SIZE:])
    if codec == 2 and chance.random() < 0.5:
        block = CODECS[2](body)
        return with_body(built, codec, _JAVA_SNAPPY + struct.pack(">i", len(block)) + block)
    return with_body(built, codec, CODECS.get(codec, bytes)(body))


def with_body(built: bytes | bytearray, codec: int, body: bytes) -> bytes:
    """The batch with another body, its length and checksum right."""
    header = read_header(memoryview(built))
    whole = bytearray(HEADER_SIZE) + body
    header = header._replace(attributes=header.attributes & ~7 | codec, length=len(whole) - LENGTH_STARTS)
    HEADER.pack_into(whole, 0, *header)
    return sealed(whole)


def sealed(batch: bytes | bytearray) -> bytes:
    """The batch with a checksum that is right."""
    whole = bytearray(batch)
    struct.pack_into(">I", whole, CRC_STARTS - 4, crc32c(bytes(whole[CRC_STARTS:])))
    return bytes(whole)


def damaged(chance: random.Random, one: bytes) -> bytes:
    """Some bytes or the end of the batch changed; its checksum mostly made right again, so that the damage is met
    further in."""
    whole = bytearray(one)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(LENGTH_STARTS, len(whole)) if chance.random() < 0.3 else chance.randrange(len(whole))
        whole[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    if chance.random() < 0.3:
        whole = whole[: chance.randrange(len(whole) + 1)]
        if len(whole) >= HEADER_SIZE:
            struct.pack_into(">i", whole, 8, len(whole) - LENGTH_STARTS)
    if len(whole) >= HEADER_SIZE and chance.random() < 0.8:
        whole[16] = 2
        return sealed(whole)
    return bytes(whole)


@cache
def bomb(codec: int) -> bytes:
    """Few bytes that unpack to 80 MB, or say so."""
    return with_body(build_batch([(b"k", b"v")], 0), codec, _bomb_body(codec))


def _bomb_body(codec: int) -> bytes:
    head = b"\0\0\0" + varint(1) + b"k" + varint(BOMB_BYTES)
    parts = [varint(len(head) + BOMB_BYTES + 1) + head, *[bytes(1 << 20)] * (BOMB_BYTES >> 20), b"\0"]
    if codec == 2:  # has no streams; its length comes first
        return uvarint(1 << 31) + CODECS[2](parts[1])[4:]
    if codec == 1:
        packing = zlib.compressobj(wbits=31)
        return b"".join(map(packing.compress, parts)) + packing.flush()
    packing = (cramjam.lz4 if codec == 3 else cramjam.zstd).Compressor()
    for part in parts:
        packing.compress(part)
    return bytes(packing.finish())


def _content(chance: random.Random) -> bytes | None:
    return chance.choice((None, b"", b"k", b"key", b"value" * 20, chance.randbytes(30)))
