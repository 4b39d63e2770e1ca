"""The `.proto` text of a contract."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from uuid import UUID

from millstream.contracts.protobuf.messages import (
    Element,
    Foreign,
    Message,
    Part,
    Plan,
    Refused,
    enum_numbers,
    enum_stem,
    enum_symbols,
    plan_of,
)
from millstream.declare.contract import Value
from millstream.declare.shape import REQUIRED, Decimals, OneOf, Record, Scalar, Symbols
from millstream.errors import DeclarationError

_SCALARS: dict[type, tuple[str, str]] = {
    str: ("string", ""),
    int: ("int64", ""),
    bool: ("bool", ""),
    float: ("double", ""),
    bytes: ("bytes", ""),
    datetime: ("google.protobuf.Timestamp", ""),
    timedelta: ("google.protobuf.Duration", ""),
    date: ("string", "a date, as in 2026-11-23"),
    time: ("string", "a time of day, as in 12:30:00.5"),
    UUID: ("string", "a UUID"),
}
_IMPORTS = {datetime: "google/protobuf/timestamp.proto", timedelta: "google/protobuf/duration.proto"}


def protobuf_schema(contract: type[Value]) -> str:
    """The `.proto` file of a class (proto3), the same text for the same class. Its own message comes first.

    Decimals, UUIDs, dates and times of day are text; fields with a default and optional ones are `optional`.
    Raises `DeclarationError` naming the class, the field and the remedy where something cannot be expressed.

    >>> class Counted(Value, namespace="stock"):
    ...     product: str
    ...     quantity: int = 0
    >>> print(protobuf_schema(Counted))
    syntax = "proto3";
    package stock;
    <BLANKLINE>
    message Counted {
      string product = 1;
      optional int64 quantity = 2;
    }
    <BLANKLINE>
    """
    plan = plan_of(contract)
    blocks = [_head(plan)]
    blocks += [_message(message) for message in plan.messages]
    blocks += [_enum(name, symbols) for name, symbols in plan.enums.items()]
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def _head(plan: Plan) -> Iterator[str]:
    yield 'syntax = "proto3";'
    if plan.package:
        yield f"package {plan.package};"
    elements = [part.element for message in plan.messages for part in message.parts]
    used = {element.python for element in elements if isinstance(element, Scalar)}
    if imports := sorted(path for python, path in _IMPORTS.items() if python in used):
        yield ""
        yield from (f'import "{path}";' for path in imports)


def _message(message: Message) -> Iterator[str]:
    if isinstance(message.shape, Record):
        yield from _comment((message.shape.python.__doc__ or "").strip().partition("\n")[0], "")
    yield f"message {message.name} {{"
    if isinstance(message.shape, OneOf):
        yield "  oneof branch {"
        yield from (f"    {_type(part.element)} {part.name} = {part.number};{_remark(part)}" for part in message.parts)
        yield "  }"
    else:
        for part in message.parts:
            yield from _comment(part.doc, "  ")
            options = " [deprecated = true]" if part.deprecated else ""
            yield f"  {_label(part)} {part.name} = {part.number}{options};{_remark(part)}"
    yield "}"


def _label(part: Part) -> str:
    kind = _type(part.element)
    match part.presence:
        case "implicit":
            return kind
        case "explicit":
            return f"optional {kind}" if part.absent is not REQUIRED else kind
        case "repeated":
            return f"repeated {kind}"
        case "map":
            return f"map<string, {kind}>"


def _type(element: Element) -> str:
    match element:
        case Message(name=name):
            return name
        case Symbols(name=name):
            return name.rpartition(".")[2]
        case Decimals():
            return "string"
        case Scalar(python=python):
            return _SCALARS[python][0]
        case Foreign() | Refused():
            raise AssertionError("nothing is written in another schema than the class's own")


def _remark(part: Part) -> str:
    match part.element:
        case Decimals(precision, scale):
            return f"  // a decimal of {precision} digits, {scale} after the point"
        case Scalar(python=python) if remark := _SCALARS[python][1]:
            return f"  // {remark}"
        case _:
            return ""


def _comment(text: str, indent: str) -> Iterator[str]:
    if text:
        yield f"{indent}// {' '.join(text.split())}"


def _enum(name: str, symbols: Symbols) -> Iterator[str]:
    """The names of values are unique in the whole package, so they begin with the name of the enumeration."""
    stem, own = enum_stem(name), enum_numbers(symbols)
    numbers = {called: own[symbol] for called, symbol in enum_symbols(symbols).items()}
    if len(numbers) != len(symbols.members):
        raise DeclarationError(f"{symbols.name}: in Protobuf two of its symbols would be the same; rename one")
    if 0 not in numbers.values():
        if "UNSPECIFIED" in numbers:
            raise DeclarationError(f"{symbols.name}: Protobuf needs UNSPECIFIED for 0; rename the symbol")
        numbers = {"UNSPECIFIED": 0} | numbers
    yield f"enum {name} {{"
    for symbol, number in sorted(numbers.items(), key=lambda item: item[1] != 0):
        yield f"  {stem}_{symbol} = {number};"
    yield "}"
