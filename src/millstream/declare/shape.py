"""The shape of a contract on the wire: a small tree, the same for all formats. `reading.py` makes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from millstream.declare.contract import Value
from millstream.declare.foreign import Foreign

REQUIRED = msgspec.NODEFAULT
"""The default of a field that has none."""


@dataclass(eq=False, slots=True)
class Scalar:
    """A value without parts. `python` is its exact class, `avro` its Avro type, `logical` the logical type or None."""

    python: type
    avro: str
    logical: str | None = None
    foreign: tuple[Foreign, ...] = ()
    """Notes on how plain numbers or texts of others are read."""


@dataclass(eq=False, slots=True)
class Decimals:
    """A decimal of at most `precision` digits, `scale` of them after the point."""

    precision: int
    scale: int
    foreign: tuple[Foreign, ...] = ()


@dataclass(eq=False, slots=True)
class Symbols:
    """An enumeration. `members` maps each symbol to the Python value; JSON has `.value` or the value itself."""

    name: str
    python: type
    members: dict[str, Any]
    foreign: tuple[Foreign, ...] = ()


@dataclass(eq=False, slots=True)
class Items:
    """A `tuple`, `list`, `set` or `frozenset` of any length."""

    container: type
    item: "Shape"


@dataclass(eq=False, slots=True)
class Fixed:
    """A tuple of these parts in this order. Avro and Protobuf know it as a record of the fields `part_names` gives."""

    name: str
    parts: "tuple[Shape, ...]"


@dataclass(eq=False, slots=True)
class Entries:
    """A `dict` by text."""

    value: "Shape"


@dataclass(eq=False, slots=True)
class OneOf:
    """A union; `None` stands for null. The branches are in the order of Avro, `written` is that of the annotation."""

    branches: "tuple[Shape | None, ...]"
    written: "tuple[Shape | None, ...]"


@dataclass(eq=False, slots=True)
class Field:
    """A field: `attribute` in Python, `name` on the wire."""

    attribute: str
    name: str
    shape: "Shape"
    default: Any
    """An immutable default, an empty collection, or `REQUIRED`."""
    aliases: tuple[str, ...] = ()
    doc: str | None = None
    deprecated: str | None = None
    number: int | None = None


@dataclass(eq=False, slots=True)
class Record:
    """A `Value` class. `recursive` where it is reached again from its own fields."""

    python: type[Value]
    name: str
    fields: list[Field] = field(default_factory=lambda: list[Field]())
    aliases: tuple[str, ...] = ()
    recursive: bool = False


Shape: TypeAlias = Scalar | Decimals | Symbols | Items | Fixed | Entries | OneOf | Record


def python_class(shape: Shape | None) -> type:
    """The class that a value of this shape has, exactly."""
    match shape:
        case None:
            return type(None)
        case Decimals():
            return Decimal
        case Items(container=container):
            return container
        case Fixed():
            return tuple
        case Entries():
            return dict
        case OneOf():
            return object
        case _:
            return shape.python


def records_in(shape: Shape | None) -> Iterator[Record]:
    """Yield each record of a shape once: itself, and those inside it at any depth."""
    done: set[int] = set()
    waiting = [shape]
    while waiting:
        match waiting.pop():
            case Record(fields=fields) as record if id(record) not in done:
                done.add(id(record))
                yield record
                waiting += [field.shape for field in reversed(fields)]
            case Items(item=inner) | Entries(value=inner):
                waiting.append(inner)
            case Fixed(parts=parts) | OneOf(branches=parts):
                waiting += reversed(parts)
            case _:
                pass


def avro_name(shape: Shape | None) -> str:
    """The name by which Avro tells the branches of a union apart."""
    match shape:
        case None:
            return "null"
        case Scalar(avro=avro):
            return avro
        case Decimals():
            return "bytes"
        case Items():
            return "array"
        case Entries():
            return "map"
        case OneOf():
            return "union"
        case Symbols(name=name) | Record(name=name) | Fixed(name=name):
            return name


def part_names(parts: Sequence[object]) -> list[str]:
    """The names of the parts of a `Fixed`, where they need some."""
    return [f"part{number}" for number in range(1, len(parts) + 1)]
