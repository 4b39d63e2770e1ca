"""The messages that a contract is in Protobuf, and what is in each field: the plan that text and codecs share.

Protobuf has no nested lists, no null and no unions in lists: what it cannot hold in a field gets a message of its own.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal, TypeAlias

from millstream.contracts.meaning import Convert
from millstream.declare.contract import Value
from millstream.declare.reading import shape_of
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    part_names,
    python_class,
)
from millstream.errors import DeclarationError

_LARGEST = (1 << 29) - 1
_RESERVED = range(19_000, 20_000)


@dataclass(eq=False, slots=True)
class Message:
    """A message for a shape. A list or map in a message of its own has one part, a union has one for each branch."""

    name: str
    shape: "Record | Fixed | Items | Entries | OneOf"
    parts: "list[Part]" = field(default_factory=list)
    refused: str = ""
    """Why messages of another schema cannot be read as this one."""


@dataclass(eq=False, slots=True)
class Foreign:
    """A scalar of another schema: `kind` as its file says, `convert` from there; `zero` is what an absent one is."""

    kind: str
    convert: Convert
    zero: Any


@dataclass(eq=False, slots=True)
class Refused:
    """A field of another schema that the class has no place for: it may be absent."""

    kind: str
    why: str


Element: TypeAlias = Scalar | Decimals | Symbols | Message | Foreign | Refused
"""The content of a field, or of each place of a repeated one."""

Presence = Literal["implicit", "explicit", "repeated", "map"]
"""`implicit`: an absent field is zero or empty, as proto3 writes those. `explicit`: absent and zero are two things."""


@dataclass(eq=False, slots=True)
class Part:
    """One field of a message. `absent` is what its absence means, or `REQUIRED`."""

    number: int
    name: str
    attribute: str
    element: Element
    presence: Presence
    absent: Any = REQUIRED
    nullable: bool = False
    container: type = tuple
    doc: str = ""
    deprecated: bool = False


@dataclass(eq=False, slots=True)
class Plan:
    """All messages and enumerations of one `.proto` file, the contract's own message first."""

    package: str
    messages: list[Message] = field(default_factory=list)
    enums: dict[str, Symbols] = field(default_factory=dict)


@cache
def plan_of(contract: type[Value]) -> Plan:
    """The plan of a class. Raises `DeclarationError` naming the field where Protobuf has no number or name for it."""
    return _Planner(shape_of(contract)).plan


class _Planner:
    def __init__(self, record: Record) -> None:
        self.plan = Plan(record.name.rpartition(".")[0])
        self._known: dict[int, Message] = {}
        self._owners: dict[str, Any] = {}
        self._claim(record)
        self._message(record, "")

    def _claim(self, shape: Shape | None) -> None:
        """Classes take their names first, so that helpers have to find others."""
        match shape:
            case Record(name=name, fields=fields):
                if self._take(name, shape.python):
                    for inner in fields:
                        self._claim(inner.shape)
            case Symbols(name=name):
                self._take(name, shape.members)
                self.plan.enums.setdefault(_short(name), shape)
            case Items(item=inner) | Entries(value=inner):
                self._claim(inner)
            case Fixed(parts=parts) | OneOf(branches=parts):
                for part in parts:
                    self._claim(part)
            case _:
                pass

    def _take(self, name: str, owner: Any) -> bool:
        """Return whether the name was free. Raises where it belongs to another."""
        if (known := self._owners.get(_short(name))) is None:
            self._owners[_short(name)] = owner
            return True
        if known != owner:
            raise DeclarationError(f"two different types are called {_short(name)} in one .proto file; rename one")
        return False

    def _message(self, shape: "Record | Fixed | Items | Entries | OneOf", place: str) -> Message:
        if (known := self._known.get(id(shape))) is not None:
            return known
        name = _short(shape.name) if isinstance(shape, Record) else self._helper(place)
        message = self._known[id(shape)] = Message(name, shape)
        self.plan.messages.append(message)
        message.parts.extend(self._parts(message))
        return message

    def _helper(self, place: str) -> str:
        name, number = place, 1
        while name in self._owners:
            number += 1
            name = f"{place}{number}"
        self._owners[name] = name
        return name

    def _parts(self, message: Message) -> list[Part]:
        match message.shape:
            case Record(fields=fields):
                numbers = _numbers(message.shape)
                return [
                    self._part(
                        message.name, number, field.name, field.attribute, field.shape, field.default,
                        field.doc or "", field.deprecated,
                    )
                    for number, field in zip(numbers, fields, strict=True)
                ]  # fmt: skip
            case Fixed(parts=parts):
                numbered = enumerate(zip(part_names(parts), parts, strict=True), 1)
                return [self._part(message.name, number, name, name, part) for number, (name, part) in numbered]
            case OneOf(written=branches):
                present = [branch for branch in branches if branch is not None]
                return [
                    Part(number, _branch_of(branch), "", self._element(branch, f"{message.name}{number}"), "explicit")
                    for number, branch in enumerate(present, 1)
                ]
            case Items() | Entries():
                return [self._part(message.name, 1, "items", "", message.shape)]

    def _part(
        self,
        owner: str,
        number: int,
        name: str,
        attribute: str,
        shape: Shape,
        default: Any = REQUIRED,
        doc: str = "",
        deprecated: str | None = None,
    ) -> Part:
        place = f"{owner}{name.title().replace('_', '')}"
        if deprecated is not None:
            doc = f"{doc} Deprecated: {deprecated}".strip()
        part = Part(number, name, attribute, Scalar(str, "string"), "explicit", default, doc=doc)
        part.deprecated = deprecated is not None
        match shape:
            case Items(container, item) if default is REQUIRED or not default:
                part.element, part.presence, part.container = self._element(item, place), "repeated", container
            case Entries(value) if default is REQUIRED or not default:
                part.element, part.presence = self._element(value, place), "map"
            case OneOf(branches) if len(branches) == 2 and None in branches and default in (None, REQUIRED):
                inner = next(branch for branch in branches if branch is not None)
                part.element, part.nullable, part.absent = self._element(inner, place), True, None
            case OneOf(branches) if None in branches and default in (None, REQUIRED):
                part.element, part.nullable, part.absent = self._element(shape, place), True, None
            case _:
                part.element = self._element(shape, place)
                if default is REQUIRED and not is_message(part.element):
                    part.presence = "implicit"
        return part

    def _element(self, shape: Shape, place: str) -> Element:
        return shape if isinstance(shape, Scalar | Decimals | Symbols) else self._message(shape, place)


def is_message(element: Element) -> bool:
    """Return whether it is a message to Protobuf: absence can always be told from presence."""
    return isinstance(element, Message) or (isinstance(element, Scalar) and element.python in (datetime, timedelta))


_WIRE_TYPES = {
    "double": 1,
    "fixed64": 1,
    "sfixed64": 1,
    "float": 5,
    "fixed32": 5,
    "sfixed32": 5,
    "string": 2,
    "bytes": 2,
}


def wire_type(element: Element) -> int:
    """The wire type that its bytes begin with: 0 for a varint, 1 for eight bytes, 2 for a length, 5 for four bytes."""
    if isinstance(element, Foreign | Refused):
        return _WIRE_TYPES.get(element.kind, 0)
    if isinstance(element, Symbols) or (isinstance(element, Scalar) and element.python in (int, bool)):
        return 0
    return 1 if isinstance(element, Scalar) and element.python is float else 2


def enum_numbers(symbols: Symbols) -> dict[str, int]:
    """The number of each symbol: its own, where all have one that suits; else counted from 1."""
    values = [getattr(member, "value", member) for member in symbols.members.values()]
    if all(type(value) is int and 0 <= value < 1 << 31 for value in values):
        return dict(zip(symbols.members, values, strict=True))
    return {symbol: number for number, symbol in enumerate(symbols.members, 1)}


def _numbers(record: Record) -> list[int]:
    numbers: list[int] = []
    taken: dict[int, str] = {}
    for declared in record.fields:
        where = f"{record.python.__name__}.{declared.attribute}"
        number = declared.number if declared.number is not None else (numbers[-1] + 1 if numbers else 1)
        if not 1 <= number <= _LARGEST or number in _RESERVED:
            raise DeclarationError(f"{where}: Protobuf has no field number {number}; take 1 to 18999")
        if number in taken:
            raise DeclarationError(f"{where}: {taken[number]} has the number {number} already; give it another Number")
        taken[number] = where
        numbers.append(number)
    return numbers


def _branch_of(branch: Shape) -> str:
    return branch_name(
        branch.name if isinstance(branch, Record | Symbols) else f"{python_class(branch).__name__}_value"
    )


def branch_name(name: str) -> str:
    """Name the branch of a union after the name of its type."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _short(name)).lower()


def enum_stem(name: str) -> str:
    """The stem of the names of an enumeration's values: they are unique in a whole package."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _short(name)).upper()


def enum_symbols(symbols: Symbols) -> dict[str, str]:
    """The symbols by what they are called after the stem."""
    return {symbol.upper().lstrip("_") or symbol: symbol for symbol in symbols.members}


def _short(name: str) -> str:
    return name.rpartition(".")[2]
