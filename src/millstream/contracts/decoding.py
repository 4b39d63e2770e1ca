"""Generates the decoder of a contract: from bytes straight to the Struct, with no dict in between.

The generated code checks as little as it can. A slice past the end is short without an error, but then the position is
past the end too and never comes back: one comparison at the end finds every truncation.
"""

import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded
from typing import Any
from uuid import UUID

import msgspec

from millstream.contracts.lengths import read_block, read_length, read_step, read_timestamp
from millstream.contracts.source import Source
from millstream.contracts.varint import EPOCH_DAY, read_long, time_of_day
from millstream.declare.shape import (
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
)

Failed = Callable[[bytes, Exception], Exception]

_STEP = tuple(None if n & 129 else 1 + (n >> 1) for n in range(256))
_SMALL = tuple((n >> 1) ^ -(n & 1) for n in range(128))
# Eight bytes hold the microseconds of 1978 to 2112. Each table adds one byte's share as a float, exactly below 2**53,
# and has None where the byte cannot stand there, so that the sum fails by itself.
_MICROS = (
    [None if n < 128 or n & 1 else (n - 128) * 1.0 for n in range(256)],
    *([None if n < 128 else (n - 128) * float(1 << 7 * at) for n in range(256)] for at in range(1, 7)),
    [float(n << 49) if 0 < n < 16 else None for n in range(256)],
)


def generate_decoder(record: Record, failed: Failed) -> Callable[[bytes], Any]:
    """A function from a framed message to the Struct. The five prefix bytes are not looked at.

    Whatever goes wrong inside is handed to `failed` with the message; what that returns is raised.
    """
    source = Source()
    source.constants |= _RUNTIME | {"failed": failed}
    with source.block("def decode(b, p=5):"):
        with source.block("try:"):
            _unrolled(source, record, "x")
            with source.block("if p != len(b):"):
                source.line("raise ValueError")
            source.line("return x")
        with source.block("except Exception as error:"):
            source.line("raise failed(b, error) from None")
    for name, shape in source.parts():
        with source.block(f"def {name}(b, p):"):
            _unrolled(source, shape, "x")
            source.line("return x, p")
    return source.compile("decode", f"decode {record.name}")


def _read(source: Source, shape: Shape | None, target: str) -> None:
    if shape is None:
        source.line(f"{target} = None")
    elif function := source.apart(shape):
        source.line(f"{target}, p = {function}(b, p)")
    else:
        _unrolled(source, shape, target)


def _unrolled(source: Source, shape: Shape, target: str) -> None:
    match shape:
        case Scalar():
            _SCALARS[shape.python](source, target)
        case Decimals(precision, scale):
            traps = [Inexact, Rounded, InvalidOperation, Overflow]
            scaleb = source.constant("scaleb", Context(prec=precision, traps=traps).scaleb)
            exponent = source.constant("exponent", Decimal(-scale))
            _length(source)
            source.line(f'{target} = {scaleb}(unscaled({_SLICE}, "big", signed=True), {exponent})')
        case Symbols(members=members):
            by_number = {number << 1: member for number, member in enumerate(members.values())}
            _small(source, wide=len(members) > 64)
            source.line(f"{target} = {source.constant('symbols', by_number)}[n]")
        case Items():
            _items(source, shape, target)
        case Fixed(parts=parts):
            names = [source.fresh() for _ in parts]
            for name, part in zip(names, parts, strict=True):
                _read(source, part, name)
            source.line(f"{target} = ({', '.join(names)},)")
        case Entries(value=value):
            source.line(f"{target} = {{}}")
            with _blocks(source):
                key, inner = source.fresh("k"), source.fresh()
                _string(source, key)
                _read(source, value, inner)
                source.line(f"{target}[{key}] = {inner}")
            source.line("p += 1")
        case OneOf(branches):
            _small(source, wide=len(branches) > 64)
            for number, branch in enumerate(branches):
                with source.block(f"{'elif' if number else 'if'} n == {number << 1}:"):
                    _read(source, branch, target)
            with source.block("else:"):
                source.line("raise ValueError")
        case Record():
            names = [source.fresh() for _ in shape.fields]
            for name, field in zip(names, shape.fields, strict=True):
                _read(source, field.shape, name)
            given = ", ".join(f"{f.attribute}={name}" for name, f in zip(names, shape.fields, strict=True))
            source.line(f"{target} = {made(source, shape)}{given})")


def made(source: Source, record: Record) -> str:
    """The beginning of a call that makes a Struct.

    Before Python 3.12 a class whose metaclass is written in Python is called the slow way, with a tuple and a dict.
    Replacing all fields of another instance is not, and takes 80 ns instead of 220.
    """
    if sys.version_info >= (3, 12) or not record.fields or hasattr(record.python, "__post_init__"):
        return f"{source.constant('class_', record.python)}("
    blank = record.python(**dict.fromkeys(field.attribute for field in record.fields))
    return f"replace({source.constant('blank', blank)}, "


_SLICE = "b[p + 1:(p := p + n)]"
"""After `_length`: what the length in front of it counts."""


def _small(source: Source, wide: bool) -> None:
    """Leaves twice the number in n."""
    source.line("n = b[p]")
    source.line("p += 1")
    if wide:
        with source.block("if n & 129:"):
            source.line("n, p = length(b, p - 1)")


def _length(source: Source) -> None:
    """Leaves in n how far it is from the last byte of the length to the end of what it counts."""
    source.line("n = STEP[b[p]]")
    with source.block("if n is None:"):
        source.line("n, p = step(b, p)")


def _string(source: Source, target: str) -> None:
    _length(source)
    source.line(f"{target} = {_SLICE}.decode()")


def _bytes(source: Source, target: str) -> None:
    _length(source)
    source.line(f"{target} = {_SLICE}")


def _uuid(source: Source, target: str) -> None:
    _length(source)
    source.line(f"{target} = UUID({_SLICE}.decode())")


def _long(source: Source, target: str) -> None:
    source.line("n = b[p]")
    with source.block("if n < 128:"):
        source.line(f"{target} = SMALL[n]")
        source.line("p += 1")
    with source.block("elif (m := b[p + 1]) < 128:"):
        source.line("n += (m << 7) - 128")
        source.line(f"{target} = (n >> 1) ^ -(n & 1)")
        source.line("p += 2")
    with source.block("else:"):  # up to six bytes, which hold a time in milliseconds; more are rare
        source.line("n += (m << 7) - 16512 + SEVEN_2[m := b[p + 2]]")
        source.line("p += 3")
        with source.block("if m > 127:"):
            source.line("n += SEVEN_3[m := b[p]]")
            source.line("p += 1")
            with source.block("if m > 127:"):
                source.line("n += SEVEN_4[m := b[p]]")
                source.line("p += 1")
                with source.block("if m > 127:"):
                    source.line("n += SEVEN_5[m := b[p]]")
                    source.line("p += 1")
        with source.block("if m > 127:"):
            source.line(f"{target}, p = read_long(b, p - 6)")
        with source.block("else:"):
            source.line(f"{target} = (n >> 1) ^ -(n & 1)")


def _date(source: Source, target: str) -> None:
    _long(source, target)
    source.line(f"{target} = fromordinal({target} + EPOCH_DAY)")


def _time(source: Source, target: str) -> None:
    _long(source, target)
    source.line(f"{target} = time_of_day({target})")


def _duration(source: Source, target: str) -> None:
    _long(source, target)
    source.line(f"{target} = timedelta(0, 0, {target})")


def _boolean(source: Source, target: str) -> None:
    source.line(f"{target} = BOOLEANS[b[p]]")
    source.line("p += 1")


def _double(source: Source, target: str) -> None:
    source.line(f"({target},) = double(b, p)")
    source.line("p += 8")


def _timestamp(source: Source, target: str) -> None:
    with source.block("try:"):
        source.line("m0, m1, m2, m3, m4, m5, m6, m7 = b[p:p + 8]")
        terms = " + ".join(f"M{at}[m{at}]" for at in range(8))
        source.line(f"{target} = fromtimestamp(({terms}) / 2000000.0, UTC)")
        source.line("p += 8")
    with source.block("except (TypeError, ValueError):"):
        source.line(f"{target}, p = timestamp(b, p)")


_SCALARS: dict[type, Callable[[Source, str], None]] = {
    str: _string,
    bytes: _bytes,
    UUID: _uuid,
    int: _long,
    date: _date,
    bool: _boolean,
    float: _double,
    datetime: _timestamp,
    time: _time,
    timedelta: _duration,
}


def _items(source: Source, shape: Items, target: str) -> None:
    items, item = source.fresh("items"), source.fresh()
    source.line(f"{items} = []")
    with _blocks(source):
        _read(source, shape.item, item)
        source.line(f"{items}.append({item})")
    source.line("p += 1")
    source.line(f"{target} = {items}" if shape.container is list else f"{target} = {shape.container.__name__}({items})")


@contextmanager
def _blocks(source: Source) -> Iterator[None]:
    """The loops over the blocks of an array or a map, and over the items of a block."""
    with source.block("while n := b[p]:"):
        source.line("p += 1")
        with source.block("if n & 129:"):
            source.line("n, p = block(b, p - 1)")
        with source.block("for _ in range(n >> 1):"):
            yield


_RUNTIME: dict[str, Any] = {
    "SMALL": _SMALL,
    "BOOLEANS": (False, True),
    "EPOCH_DAY": EPOCH_DAY,
    "UTC": UTC,
    "UUID": UUID,
    "read_long": read_long,
    "STEP": _STEP,
    "step": read_step,
    "length": read_length,
    "block": read_block,
    "timestamp": read_timestamp,
    "fromtimestamp": datetime.fromtimestamp,
    "fromordinal": date.fromordinal,
    "time_of_day": time_of_day,
    "timedelta": timedelta,
    "unscaled": int.from_bytes,
    "double": struct.Struct("<d").unpack_from,
    "replace": msgspec.structs.replace,
    **{f"SEVEN_{at}": tuple((n & 127) << 7 * at for n in range(256)) for at in range(2, 6)},
} | {f"M{at}": tuple(table) for at, table in enumerate(_MICROS)}
