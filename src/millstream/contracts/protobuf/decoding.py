"""Generates the Protobuf decoder of a contract: from bytes straight to the Struct.

One function for each message. Its fields stand in a row of `if`s in the order of their numbers, which is the order in
which everybody writes them: one pass reads a whole message, and what comes in another order takes further passes.
"""

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec

from millstream.contracts.decoding import made
from millstream.contracts.protobuf.messages import (
    Element,
    Foreign,
    Message,
    Part,
    Plan,
    Refused,
    enum_numbers,
    is_message,
    wire_type,
)
from millstream.contracts.protobuf.wire import KINDS, RUNTIME, DecimalText, varint
from millstream.contracts.source import Source
from millstream.declare.shape import REQUIRED, Decimals, Entries, Fixed, Items, OneOf, Record, Scalar, Symbols
from millstream.errors import DecodeError

Failed = Callable[[bytes, Exception, int], Exception]

_ZERO: dict[type, str] = {str: '""', bytes: 'b""', int: "0", bool: "False", float: "0.0"}


def generate_decoder(plan: Plan, failed: Failed, *, traced: list[str] | None = None) -> Callable[..., Any]:
    """A function from a framed message, and where its payload begins, to the Struct.

    Whatever goes wrong inside is handed to `failed` with the message and where it begins; what that returns is raised.
    `traced` holds the
    name of the field that is being read: for a second reading, of what the first has refused.
    """
    source = _Source(traced is not None)
    source.constants |= _RUNTIME | {"failed": failed, "at": traced}
    with source.block("def decode(b, p=6):"):
        with source.block("try:"):
            source.line(f"return read_{plan.messages[0].name}(b, p, len(b))")
        with source.block("except Exception as error:"):
            source.line("raise failed(b, error, p) from None")
    for message in plan.messages:
        _function(source, message)
    return source.compile("decode", f"decode {plan.messages[0].name}")


class _Source(Source):
    def __init__(self, is_traced: bool) -> None:
        super().__init__()
        self.is_traced = is_traced


def _function(source: _Source, message: Message) -> None:
    with source.block(f"def read_{message.name}(b, p, e):"):
        if message.refused:
            source.line(f"refuse({message.refused!r})")
            return
        names = [f"v{at}" for at, _ in enumerate(message.parts)]
        if isinstance(message.shape, OneOf):
            source.line("v = MISSING")
            names = ["v"] * len(message.parts)
        else:
            for name, part in zip(names, message.parts, strict=True):
                source.line(f"{name} = {_before(source, part)}")
        _loop(source, message, names)
        if not isinstance(message.shape, OneOf):
            for name, part in zip(names, message.parts, strict=True):
                _settle(source, message, name, part)
        source.line(f"return {_result(source, message, names)}")


def _loop(source: _Source, message: Message, names: list[str]) -> None:
    wide = any(part.number > 15 for part in message.parts)
    look = "t = (b[p] if b[p] < 128 or p + 1 == e else b[p] + (b[p + 1] << 8)) if p < e else 0"
    look = look if wide else "t = b[p] if p < e else 0"
    with source.block("while p < e:"):
        source.line("r = p")
        source.line(look)
        written = [pair for pair in zip(names, message.parts, strict=True) if pair[1].number]
        for name, part in sorted(written, key=lambda pair: pair[1].number):
            for kind in _wire_types(part):
                tag = part.number << 3 | kind
                size = (tag.bit_length() + 6) // 7
                if size > 2:  # larger numbers are looked for one by one
                    with source.block(f"if b[p:p + {size}] == {varint(tag)!r}:"):
                        source.line(f"p += {size}")
                        _trace(source, message, part)
                        _field(source, part, name, kind)
                        source.line(look)
                    continue
                seen = int.from_bytes(varint(tag), "little")
                repeated = part.presence in ("repeated", "map") and not (kind == 2 and wire_type(part.element) != 2)
                with source.block(f"{'while' if repeated else 'if'} t == {seen}:"):
                    source.line(f"p += {size}")
                    _trace(source, message, part)
                    _field(source, part, name, kind)
                    source.line(look)
        with source.block("if p == r:"):
            source.line("p = skip(b, p, e)")
    with source.block("if p != e:"):
        source.line("raise EOFError")


def _trace(source: _Source, message: Message, part: Part) -> None:
    if source.is_traced:
        owner = message.shape.python.__name__ if isinstance(message.shape, Record) else message.name
        source.line(f"at[0] = {f'{owner}.{part.attribute or part.name}'!r}")


def _wire_types(part: Part) -> list[int]:
    """A list of numbers may come packed or one by one."""
    own = wire_type(part.element)
    if part.presence == "map":
        return [2]
    return [2, own] if part.presence == "repeated" and own != 2 else [own]


def _before(source: Source, part: Part) -> str:
    match part.presence:
        case "repeated":
            return "[]"
        case "map":
            return "{}"
        case "implicit" if isinstance(part.element, Scalar) and part.element.python in _ZERO:
            return _ZERO[part.element.python]
        case "implicit" if isinstance(part.element, Symbols):
            zero = {number: symbol for symbol, number in enum_numbers(part.element).items()}.get(0)
            return "MISSING" if zero is None else source.constant("zero", part.element.members[zero])
        case "implicit" if isinstance(part.element, Foreign) and part.element.zero is not REQUIRED:
            return source.constant("zero", part.element.zero)
        case _ if part.absent is REQUIRED:
            return "MISSING"
        case _:
            return source.constant("absent", part.absent)


def _settle(source: Source, message: Message, name: str, part: Part) -> None:
    if part.presence == "repeated" and part.container is not list:
        source.line(f"{name} = {part.container.__name__}({name})")
    if _before(source, part) == "MISSING":
        with source.block(f"if {name} is MISSING:"):
            source.line(f"missing({message.name + '.' + part.name!r})")


def _result(source: Source, message: Message, names: list[str]) -> str:
    match message.shape:
        case Record(fields=fields):
            given = ", ".join(f"{field.attribute}={name}" for field, name in zip(fields, names, strict=True))
            return f"{made(source, message.shape)}{given})"
        case Fixed():
            return f"({', '.join(names)},)"
        case OneOf(branches):
            empty = "None" if None in branches else f"missing({message.name + ' without a branch'!r})"
            return f"{empty} if v is MISSING else v"
        case Items() | Entries():
            return names[0]


def _field(source: Source, part: Part, name: str, kind: int) -> None:
    match part.presence:
        case "map":
            _entry(source, part, name)
        case "repeated" if kind == 2 and wire_type(part.element) != 2:
            _length(source)
            source.line("q = p + n")
            with source.block("if q > e:"):
                source.line("raise EOFError")
            with source.block("while p < q:"):
                _value(source, part.element, "x")
                source.line(f"{name}.append(x)")
            with source.block("if p != q:"):
                source.line("raise EOFError")
        case "repeated":
            _value(source, part.element, "x")
            source.line(f"{name}.append(x)")
        case _:
            _value(source, part.element, name)


def _entry(source: Source, part: Part, name: str) -> None:
    """Key and value are fields 1 and 2 of a message of their own, either of which may be absent."""
    kind = wire_type(part.element)
    element = part.element
    absent = "MISSING"
    if isinstance(element, Scalar) and element.python in _ZERO:
        absent = _ZERO[element.python]
    elif isinstance(element, Foreign) and element.zero is not REQUIRED:
        absent = source.constant("zero", element.zero)
    elif isinstance(element, Message):
        absent = f'read_{element.name}(b"", 0, 0)'
    _length(source)
    source.line("f = p + n")
    with source.block("if f > e:"):
        source.line("raise EOFError")
    source.line('k = ""')
    source.line("x = MISSING")
    with source.block("while p < f:"):
        with source.block("if b[p] == 10:"):
            source.line("p += 1")
            _length(source)
            source.line("k = b[p:(p := p + n)].decode()")
        with source.block(f"elif b[p] == {16 | kind}:"):
            source.line("p += 1")
            _value(source, element, "x", end="f")
        with source.block("else:"):
            source.line("p = skip(b, p, f)")
    with source.block("if p != f:"):
        source.line("raise EOFError")
    with source.block("if x is MISSING:"):
        source.line(f"x = {absent if absent != 'MISSING' else f'missing({part.name!r})'}")
    source.line(f"{name}[k] = x")


def _length(source: Source) -> None:
    source.line("n = b[p]")
    source.line("p += 1")
    with source.block("if n > 127:"):
        source.line("n, p = read_varint(b, p - 1)")


def _value(source: Source, element: Element, target: str, end: str = "e") -> None:
    match element:
        case Symbols(members=members):
            by_number = {number: members[symbol] for symbol, number in enum_numbers(element).items()}
            _length(source)
            source.line(f"{target} = {source.constant('symbols', by_number)}[n]")
        case Decimals(precision, scale):
            read = source.constant("decimal", DecimalText(precision, scale).read)
            _length(source)
            source.line(f"{target} = {read}(b[p:(p := p + n)])")
        case _ if is_message(element):
            read = f"read_{element.name}" if isinstance(element, Message) else _STAMPS[element.python]  # pyright: ignore[reportAttributeAccessIssue]
            _length(source)
            source.line("q = p + n")
            with source.block(f"if q > {end}:"):
                source.line("raise EOFError")
            source.line(f"{target} = {read}(b, p, q)")
            source.line("p = q")
        case Scalar(python=python):
            _scalar(source, python, target)
        case Foreign(kind=kind, convert=convert):
            source.line(f"{target}, p = read_{kind}(b, p)")
            source.line(f"{target} = {source.constant('convert', convert)}({target})")
        case Refused(why=why):
            source.line(f"refuse({why!r})")


_STAMPS = {datetime: "read_timestamp", timedelta: "read_duration"}


def _scalar(source: Source, python: type, target: str) -> None:
    if python is float:
        source.line(f"({target},) = double(b, p)")
        source.line("p += 8")
        return
    if python is int:
        source.line(f"{target} = b[p]")
        source.line("p += 1")
        with source.block(f"if {target} > 127:"):
            source.line(f"{target}, p = read_signed(b, p - 1)")
        return
    _length(source)
    made_of = {
        bool: "n != 0",
        bytes: "b[p:(p := p + n)]",
        str: "b[p:(p := p + n)].decode()",
        UUID: "UUID(b[p:(p := p + n)].decode())",
        date: "date(b[p:(p := p + n)].decode())",
        time: "time_(b[p:(p := p + n)].decode())",
    }
    source.line(f"{target} = {made_of[python]}")


def _missing(what: str) -> Any:
    raise DecodeError("invalid", f"{what} is missing")


def _refuse(why: str) -> Any:
    raise DecodeError("incompatible_schema", why)


def _time(text: str) -> time:
    if (moment := time.fromisoformat(text)).tzinfo is not None:
        raise ValueError(f"{text} has a time zone")
    return moment


_RUNTIME: dict[str, Any] = (
    RUNTIME
    | {f"read_{kind}": read for kind, read in KINDS.items()}
    | {
        "MISSING": REQUIRED,
        "missing": _missing,
        "refuse": _refuse,
        "UUID": UUID,
        "date": date.fromisoformat,
        "time_": _time,
        "double": struct.Struct("<d").unpack_from,
        "replace": msgspec.structs.replace,
    }
)
