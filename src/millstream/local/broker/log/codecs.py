"""The compressions of record batches: gzip, snappy, lz4, zstd. `cramjam` is imported when it is first needed."""

import zlib
from collections.abc import Callable
from typing import Any

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4

MAX_UNPACKED = 32 * 1024 * 1024
"""Bytes that one batch may hold: more is refused, for a few kilobytes can claim to be terabytes."""

_XERIAL = b"\x82SNAPPY\0" + (1).to_bytes(4, "big") * 2
_XERIAL_BLOCK = 32 * 1024
_LZ4_HEAD = bytes.fromhex("04224d18604082")
"""Independent blocks of 64 KiB, no checksums: what every Kafka client reads."""
_LZ4_BLOCK = 64 * 1024
_LZ4_STORED = 1 << 31


class BadCompression(Exception):
    """These bytes are not of that compression, or hold more than MAX_UNPACKED."""


def unpack(codec: int, packed: bytes) -> bytes:
    """Raises BadCompression.

    >>> unpack(LZ4, pack(LZ4, b"the same"))
    b'the same'
    """
    match codec:
        case 1:
            return _unpack_gzip(packed)
        case 2:
            return _unpack_snappy(packed)
        case 3:
            return _unpack_growing(_cramjam().lz4.decompress_into, packed, "lz4")
        case 4:
            return _unpack_growing(_cramjam().zstd.decompress_into, packed, "zstd")
    raise BadCompression(f"no compression has the number {codec}")


def pack(codec: int, data: bytes) -> bytes:
    match codec:
        case 1:
            packing = zlib.compressobj(wbits=31)
            return packing.compress(data) + packing.flush()
        case 2:
            return _pack_snappy(data)
        case 3:
            return _pack_lz4(data)
        case 4:
            return bytes(_cramjam().zstd.compress(data))
    raise BadCompression(f"no compression has the number {codec}")


def _cramjam() -> Any:
    import cramjam

    return cramjam


def _unpack_gzip(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacking.decompress(packed, MAX_UNPACKED)
    except zlib.error as error:
        raise BadCompression(f"no gzip: {error}") from error
    if not unpacking.eof:
        raise BadCompression(f"gzip that is cut short, or holds more than {MAX_UNPACKED} bytes")
    return unpacked


def _unpack_snappy(packed: bytes) -> bytes:
    """One raw block, as librdkafka sends it, or blocks in a frame, as Java does."""
    if not packed.startswith(_XERIAL[:8]):
        return _unpack_snappy_block(packed, MAX_UNPACKED)
    out, at = bytearray(), len(_XERIAL)
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4], "big")
        at += 4
        if not 0 < size <= len(packed) - at:
            raise BadCompression("snappy that is cut short")
        out += _unpack_snappy_block(packed[at : at + size], MAX_UNPACKED - len(out))
        at += size
    return bytes(out)


def _unpack_snappy_block(block: bytes, most: int) -> bytes:
    raw = _cramjam().snappy
    try:
        if raw.decompress_raw_len(block) > most:
            raise BadCompression(f"snappy that holds more than {MAX_UNPACKED} bytes")
        return bytes(raw.decompress_raw(block))
    except _cramjam().DecompressionError as error:
        raise BadCompression(f"no snappy: {error}") from error


def _unpack_growing(unpack_into: Callable[[bytes, bytearray], int], packed: bytes, name: str) -> bytes:
    room = min(max(8 * len(packed), 1 << 16), MAX_UNPACKED)
    while True:
        out = bytearray(room)
        try:
            size = unpack_into(packed, out)
            del out[size:]
            return bytes(out)
        except _cramjam().DecompressionError as error:
            # A buffer that is too small is told by its words alone; to try damage again would be a waste.
            if "whole buffer" not in str(error) or room == MAX_UNPACKED:
                reason = f"{name} that holds more than {MAX_UNPACKED} bytes" if room == MAX_UNPACKED else f"no {name}"
                raise BadCompression(f"{reason}: {error}") from error
            del out
            room = min(8 * room, MAX_UNPACKED)


def _pack_snappy(data: bytes) -> bytes:
    out = bytearray(_XERIAL)
    for at in range(0, len(data), _XERIAL_BLOCK):
        block = bytes(_cramjam().snappy.compress_raw(data[at : at + _XERIAL_BLOCK]))
        out += len(block).to_bytes(4, "big") + block
    return bytes(out)


def _pack_lz4(data: bytes) -> bytes:
    out = bytearray(_LZ4_HEAD)
    for at in range(0, len(data), _LZ4_BLOCK):
        plain = data[at : at + _LZ4_BLOCK]
        block = bytes(_cramjam().lz4.compress_block(plain, store_size=False))
        if len(block) < len(plain):
            out += len(block).to_bytes(4, "little") + block
        else:
            out += (len(plain) | _LZ4_STORED).to_bytes(4, "little") + plain
    return bytes(out + bytes(4))
