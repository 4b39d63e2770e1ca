"""Protobuf's numbers and lengths, and how to pass over what is not known."""

import struct
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

from millstream.contracts.varint import EPOCH

_LONGEST_DECIMAL = 1000
_ONE_BYTE = tuple(bytes((n,)) for n in range(128))


def varint(number: int) -> bytes:
    """A number from 0, or one of 64 bits below it, as Protobuf writes it. Raises `OverflowError` beyond.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    if not -0x8000000000000000 <= number <= 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"{number} does not fit 64 bits")
    number &= 0xFFFFFFFFFFFFFFFF
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def read_varint(data: Sequence[int], at: int) -> tuple[int, int]:
    """The number at `at` without a sign, and where it ends. Raises `IndexError` at the end, `OverflowError`."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise OverflowError("a number longer than 64 bits")


def read_signed(data: Sequence[int], at: int) -> tuple[int, int]:
    """As `read_varint`, with a sign."""
    number, at = read_varint(data, at)
    return (number - (1 << 64) if number >> 63 else number), at


def skip(data: Sequence[int], at: int, end: int) -> int:
    """Return where the field at `at` ends, of which only the wire type is known. Raises `ValueError`, `EOFError`."""
    tag, at = read_varint(data, at)
    if not 0 < tag >> 3 < 1 << 29:
        raise ValueError(f"no field has the number {tag >> 3}")
    match tag & 7:
        case 0:
            _, at = read_varint(data, at)
        case 1:
            at += 8
        case 2:
            size, at = read_varint(data, at)
            at += size
        case 5:
            at += 4
        case other:
            raise ValueError(f"field {tag >> 3} has the wire type {other}, which proto3 does not write")
    if at > end:
        raise EOFError
    return at


def read_pair(data: Sequence[int], at: int, end: int) -> tuple[int, int]:
    """The seconds and nanoseconds of a Timestamp or Duration."""
    seconds = nanos = 0
    while at < end:
        if (tag := data[at]) == 8:
            seconds, at = read_signed(data, at + 1)
        elif tag == 16:
            nanos, at = read_signed(data, at + 1)
        else:
            at = skip(data, at, end)
    if at != end:
        raise EOFError
    return seconds, nanos


def read_timestamp(data: Sequence[int], at: int, end: int) -> datetime:
    seconds, nanos = read_pair(data, at, end)
    if not 0 <= nanos < 1_000_000_000:
        raise ValueError(f"{nanos} nanoseconds")
    return EPOCH + timedelta(0, seconds, nanos // 1000)


def read_duration(data: Sequence[int], at: int, end: int) -> timedelta:
    seconds, nanos = read_pair(data, at, end)
    if abs(nanos) > 999_999_999 or seconds * nanos < 0:
        raise ValueError(f"{seconds} seconds and {nanos} nanoseconds")
    return within_64_bits(timedelta(0, seconds, nanos // 1000 if nanos >= 0 else -(-nanos // 1000)))


def within_64_bits(value: timedelta) -> timedelta:
    """Raises `OverflowError` for a duration that Avro could not hold: in one format it would be written, and read in
    another it would not."""
    micros = (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds
    if not -0x8000000000000000 <= micros <= 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"{value!r} has more microseconds than 64 bits hold")
    return value


def pair(seconds: int, nanos: int) -> bytes:
    """A Timestamp or Duration."""
    written = b"\x08" + varint(seconds) if seconds else b""
    return written + b"\x10" + varint(nanos) if nanos else written


def timestamp(moment: datetime) -> bytes:
    """Raises `TypeError` for a datetime without a time zone."""
    gap = moment - EPOCH
    return pair(gap.days * 86400 + gap.seconds, gap.microseconds * 1000)


def duration(value: timedelta) -> bytes:
    """Seconds and nanoseconds have the same sign."""
    within_64_bits(value)
    seconds, micros = value.days * 86400 + value.seconds, value.microseconds
    if seconds < 0 and micros:
        seconds, micros = seconds + 1, micros - 1_000_000
    return pair(seconds, micros * 1000)


class DecimalText:
    """Decimals of one precision and scale as text, both ways."""

    def __init__(self, precision: int, scale: int) -> None:
        self._context = Context(prec=max(precision, scale), traps=[Inexact, InvalidOperation])
        self._unit = Decimal(1).scaleb(-scale)
        self._bound = Decimal(1).scaleb(precision - scale)

    def read(self, raw: bytes) -> Decimal:
        """Raises `ArithmeticError` or `ValueError` for what is no such decimal."""
        if len(raw) > _LONGEST_DECIMAL:
            raise ValueError(f"a decimal of {len(raw)} bytes")
        return self._fitting(Decimal(raw.decode()))

    def write(self, value: Any) -> bytes:
        """All digits that the scale has. Raises as `read` does."""
        if not isinstance(value, Decimal):
            raise TypeError(value)
        return format(self._fitting(value), "f").encode()

    def _fitting(self, value: Decimal) -> Decimal:
        if not value.is_finite() or not -self._bound < value < self._bound:
            raise ValueError(f"{value} does not fit")
        return value.quantize(self._unit, context=self._context)


def _read_zigzag(data: Sequence[int], at: int) -> tuple[int, int]:
    number, at = read_varint(data, at)
    return (number >> 1) ^ -(number & 1), at


def _read_unsigned(data: Sequence[int], at: int) -> tuple[int, int]:
    number, at = read_varint(data, at)
    return _within_a_long(number), at


def _read_bool(data: Sequence[int], at: int) -> tuple[bool, int]:
    number, at = read_varint(data, at)
    return number != 0, at


def _within_a_long(number: int) -> int:
    if number >> 63:
        raise ValueError(f"{number} does not fit 64 bits with a sign")
    return number


def _fixed(form: str) -> Callable[[bytes, int], tuple[Any, int]]:
    read, size = struct.Struct(form).unpack_from, struct.calcsize(form)

    def read_fixed(data: bytes, at: int) -> tuple[Any, int]:
        if at + size > len(data):
            raise EOFError
        [number] = read(data, at)
        return _within_a_long(number) if form == "<Q" else number, at + size

    return read_fixed


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = read_varint(data, at)
    if size > len(data) - at:
        raise EOFError
    return data[at : at + size], at + size


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    raw, at = _read_bytes(data, at)
    return raw.decode(), at


KINDS: dict[str, Callable[[bytes, int], tuple[Any, int]]] = {
    "int32": read_signed,
    "int64": read_signed,
    "enum": read_signed,
    "uint32": _read_unsigned,
    "uint64": _read_unsigned,
    "sint32": _read_zigzag,
    "sint64": _read_zigzag,
    "bool": _read_bool,
    "fixed32": _fixed("<I"),
    "fixed64": _fixed("<Q"),
    "sfixed32": _fixed("<i"),
    "sfixed64": _fixed("<q"),
    "float": _fixed("<f"),
    "double": _fixed("<d"),
    "string": _read_text,
    "bytes": _read_bytes,
}
"""Readers of each scalar of a `.proto` file, where the class has another one."""

RUNTIME: dict[str, Any] = {
    "ONE": _ONE_BYTE,
    "varint": varint,
    "read_varint": read_varint,
    "read_signed": read_signed,
    "skip": skip,
    "read_timestamp": read_timestamp,
    "read_duration": read_duration,
    "timestamp": timestamp,
    "duration": duration,
    "join": b"".join,
}
