"""Generates the Protobuf encoder of a contract: from the Struct straight to framed bytes, one function a message.

As with Avro, it uses operations that fail by themselves on a wrong type, and leaves the words to `explain`.
"""

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any, NoReturn
from uuid import UUID

from millstream.contracts.protobuf.messages import (
    Element,
    Foreign,
    Message,
    Part,
    Plan,
    Refused,
    enum_numbers,
    wire_type,
)
from millstream.contracts.protobuf.wire import RUNTIME, DecimalText, varint
from millstream.contracts.source import Source
from millstream.declare.shape import Decimals, Entries, Fixed, Items, OneOf, Record, Scalar, Symbols, python_class

Failed = Callable[[Any, Exception], Exception]


def generate_encoder(plan: Plan, prefix: bytes, failed: Failed) -> Callable[[Any], bytes]:
    """A function from the Struct to `prefix` and its bytes.

    Whatever goes wrong inside is handed to `failed` with the Struct; what that returns is raised.
    """
    source = Source()
    source.constants |= _RUNTIME | {"failed": failed, "PREFIX": prefix}
    with source.block("def encode(x):"):
        with source.block("try:"):
            source.line(f"return PREFIX + write_{plan.messages[0].name}(x)")
        with source.block("except Exception as error:"):
            source.line("raise failed(x, error) from None")
    for message in plan.messages:
        with source.block(f"def write_{message.name}(x):"):
            _body(source, message)
    return source.compile("encode", f"encode {plan.messages[0].name}")


def _body(source: Source, message: Message) -> None:
    source.line("out = []")
    match message.shape:
        case Record(fields=fields):
            _insist(source, "x", source.constant("class_", message.shape.python))
            for part, field in zip(message.parts, fields, strict=True):
                source.line(f"v = x.{field.attribute}")
                _part(source, part)
        case Fixed(parts=parts):
            _insist(source, "x", "tuple")
            with source.block(f"if len(x) != {len(parts)}:"):
                source.line("refuse(x)")
            for at, part in enumerate(message.parts):
                source.line(f"v = x[{at}]")
                _part(source, part)
        case OneOf(branches, written):
            if None in branches:
                with source.block("if x is None:"):
                    source.line('return b""')
            source.line("v = x")
            present = [branch for branch in written if branch is not None]
            for at, (part, branch) in enumerate(zip(message.parts, present, strict=True)):
                name = source.constant("class_", python_class(branch))
                with source.block(f"{'elif' if at else 'if'} type(v) is {name}:"):
                    _tagged(source, part.element, part.number, "v", "out")
            with source.block("else:"):
                source.line("refuse(x)")
        case Items() | Entries():
            source.line("v = x")
            _part(source, message.parts[0])
    source.line("return join(out)")


def _part(source: Source, part: Part) -> None:
    match part.presence:
        case "implicit":
            _implicit(source, part)
        case "explicit" if part.nullable:
            with source.block("if v is not None:"):
                _tagged(source, part.element, part.number, "v", "out")
        case "explicit":
            _tagged(source, part.element, part.number, "v", "out")
        case "repeated":
            _insist(source, "v", part.container.__name__)
            if wire_type(part.element) == 2:
                with source.block("for i in v:"):
                    _tagged(source, part.element, part.number, "i", "out")
                return
            with source.block("if v:"):
                source.line("packed = []")
                with source.block("for i in v:"):
                    source.line(f"packed.append({_bytes(source, part.element, 'i')})")
                source.line("s = join(packed)")
                _sized(source, part.number, "s", "out")
        case "map":
            _insist(source, "v", "dict")
            with source.block("for k, i in v.items():"):
                source.line("s = k.encode()")
                source.line("entry = []")
                _sized(source, 1, "s", "entry")
                _tagged(source, part.element, 2, "i", "entry")
                source.line("s = join(entry)")
                _sized(source, part.number, "s", "out")


def _implicit(source: Source, part: Part) -> None:
    """Write nothing for what is zero or empty; it must be of the right class all the same."""
    if isinstance(part.element, Scalar) and part.element.python in (str, bytes, bool):
        source.line(f"s = {_bytes(source, part.element, 'v')}")
        with source.block("if v:"):
            _sized(source, part.number, "s", "out") if part.element.python is not bool else source.line(
                f"out += ({varint(part.number << 3)!r}, s)"
            )
    elif isinstance(part.element, Scalar) and part.element.python is int:
        _insist(source, "v", "int")
        with source.block("if v:"):
            _tagged(source, part.element, part.number, "v", "out")
    elif isinstance(part.element, Symbols):
        source.line(f"s = {_bytes(source, part.element, 'v')}")
        with source.block('if s != b"\\0":'):
            source.line(f"out += ({varint(part.number << 3)!r}, s)")
    else:  # a double has two zeros, and text forms are never empty
        _tagged(source, part.element, part.number, "v", "out")


def _tagged(source: Source, element: Element, number: int, value: str, out: str) -> None:
    written = _bytes(source, element, value)
    if wire_type(element) == 2:
        source.line(f"s = {written}")
        _sized(source, number, "s", out)
    else:
        source.line(f"{out} += ({varint(number << 3 | wire_type(element))!r}, {written})")


def _sized(source: Source, number: int, value: str, out: str) -> None:
    tag = varint(number << 3 | 2)
    source.line(f"n = len({value})")
    source.line(f"{out} += ({tag!r}, ONE[n] if n < 128 else varint(n), {value})")


def _bytes(source: Source, element: Element, value: str) -> str:
    """The expression of its bytes, after the statements that check it."""
    match element:
        case Message(name=name):
            return f"write_{name}({value})"
        case Symbols(members=members):
            numbers = {members[symbol]: varint(number) for symbol, number in enum_numbers(element).items()}
            return f"{source.constant('symbols', numbers)}[{value}]"
        case Decimals(precision, scale):
            return f"{source.constant('decimal', DecimalText(precision, scale).write)}({value})"
        case Scalar(python=python):
            return _scalar(source, python, value)
        case Foreign() | Refused():
            raise AssertionError("nothing is written in another schema than the class's own")


def _scalar(source: Source, python: type, value: str) -> str:
    if python is str:
        return f"{value}.encode()"
    if python is datetime:
        return f"timestamp({value})"
    if python is bool:
        return f'b"\\1" if {value} is True else b"\\0" if {value} is False else refuse({value})'
    if python is float:
        return f"double({value}) if type({value}) is float else whole_double({value})"
    _insist(source, value, python.__name__)
    if python is int:
        return f"ONE[{value}] if 0 <= {value} < 128 else varint({value})"
    if python is bytes:
        return value
    if python is timedelta:
        return f"duration({value})"
    if python is UUID:
        return f"str({value}).encode()"
    return f"{value}.isoformat().encode()" if python is date else f"time_text({value})"


def _insist(source: Source, value: str, name: str) -> None:
    with source.block(f"if type({value}) is not {name}:"):
        source.line(f"refuse({value})")


def _refuse(value: Any) -> NoReturn:
    raise TypeError(value)


def _whole_double(value: Any) -> bytes:
    if type(value) is not int:
        raise TypeError(value)
    return struct.pack("<d", value)


def _time_text(value: time) -> bytes:
    if value.tzinfo is not None:
        raise TypeError(value)
    return value.isoformat().encode()


_RUNTIME: dict[str, Any] = RUNTIME | {
    "UUID": UUID,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "double": struct.Struct("<d").pack,
    "whole_double": _whole_double,
    "time_text": _time_text,
    "refuse": _refuse,
}
