"""What a contract looks like on the wire: its annotations, read once into a small tree."""

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin
from uuid import UUID

import msgspec

from millstream.declare.contract import Value, full_name
from millstream.declare.scale import Scale
from millstream.errors import DeclarationError

REQUIRED = msgspec.NODEFAULT
"""The default of a field that has none."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(eq=False, slots=True)
class Scalar:
    """A value without parts. `python` is its exact class, `avro` its Avro type, `logical` the logical type or None."""

    python: type
    avro: str
    logical: str | None = None


@dataclass(eq=False, slots=True)
class Decimals:
    """A decimal of at most `precision` digits, `scale` of them after the point."""

    precision: int
    scale: int


@dataclass(eq=False, slots=True)
class Symbols:
    """An enumeration. `members` maps each symbol to the Python value."""

    name: str
    python: type
    members: dict[str, Any]


@dataclass(eq=False, slots=True)
class Items:
    """A `tuple` or `list` of any length."""

    container: type
    item: "Shape"


@dataclass(eq=False, slots=True)
class Entries:
    """A `dict` by text."""

    value: "Shape"


@dataclass(eq=False, slots=True)
class OneOf:
    """A union; `None` stands for null. The branches are in the order of the schema."""

    branches: "tuple[Shape | None, ...]"


@dataclass(eq=False, slots=True)
class Field:
    """A field: `attribute` in Python, `name` on the wire."""

    attribute: str
    name: str
    shape: "Shape"
    default: Any
    """An immutable default, an empty collection, or `REQUIRED`."""


@dataclass(eq=False, slots=True)
class Record:
    """A `Value` class. `recursive` where it is reached again from its own fields."""

    python: type[Value]
    name: str
    fields: list[Field] = field(default_factory=list)
    recursive: bool = False


Shape: TypeAlias = Scalar | Decimals | Symbols | Items | Entries | OneOf | Record

_SCALARS = {
    str: Scalar(str, "string"),
    int: Scalar(int, "long"),
    bool: Scalar(bool, "boolean"),
    float: Scalar(float, "double"),
    bytes: Scalar(bytes, "bytes"),
    datetime: Scalar(datetime, "long", "timestamp-micros"),
    date: Scalar(date, "int", "date"),
    UUID: Scalar(UUID, "string", "uuid"),
}


@cache
def shape_of(contract: type[Value]) -> Record:
    """The shape of a class. Raises `DeclarationError` for a field whose type no schema can express."""
    return _Reader().record(contract)


def python_class(shape: Shape | None) -> type:
    """The class that a value of this shape has, exactly."""
    match shape:
        case None:
            return type(None)
        case Decimals():
            return Decimal
        case Items(container=container):
            return container
        case Entries():
            return dict
        case OneOf():
            return object
        case _:
            return shape.python


class _Reader:
    """Reads one class and those that it contains, and keeps the names that they take."""

    def __init__(self) -> None:
        self._records: dict[type[Value], Record] = {}
        self._open: set[type[Value]] = set()
        self._names: dict[str, object] = {}

    def record(self, contract: type[Value]) -> Record:
        if (known := self._records.get(contract)) is not None:
            known.recursive = known.recursive or contract in self._open
            return known
        name = full_name(contract)
        self._take(name, contract, f"{contract.__name__}")
        record = self._records[contract] = Record(contract, name)
        self._open.add(contract)
        record.fields.extend(self._fields(contract))
        self._open.discard(contract)
        return record

    def _fields(self, contract: type[Value]) -> Iterator[Field]:
        for declared in msgspec.structs.fields(contract):
            where = f"{contract.__name__}.{declared.name}"
            if not _NAME.match(declared.encode_name):
                raise DeclarationError(
                    f"{where} is called {declared.encode_name!r} on the wire: use letters, digits and _ only"
                )
            default = _default(declared)
            shape = self._shape(declared.type, _Place(contract, declared.encode_name, where), default)
            yield Field(declared.name, declared.encode_name, shape, default)

    def _shape(self, annotation: Any, place: "_Place", default: Any = REQUIRED) -> Shape:
        annotation, notes = _unwrap(annotation)
        if annotation is Decimal:
            return _decimals(notes, place)
        if annotation in _SCALARS:
            return _SCALARS[annotation]
        if isinstance(annotation, type) and issubclass(annotation, Value):
            return self.record(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return self._enum(annotation, place)
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Literal:
            return self._literal(arguments, place)
        if origin in (types.UnionType, typing.Union):
            return self._union(arguments, place, default)
        if origin is list or (origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis):
            return self._items(origin, arguments[0], place)
        if origin is dict:
            if _unwrap(arguments[0])[0] is not str:
                raise place.refuse(annotation, "keys of a dict are str in Avro: use dict[str, …]")
            return Entries(self._shape(arguments[1], place))
        raise place.refuse(annotation, _remedy(annotation))

    def _items(self, container: type, annotation: Any, place: "_Place") -> Items:
        item = self._shape(annotation, place)
        if isinstance(item, Record) and item.python not in self._open and _is_empty(item):
            raise place.refuse(item.python, "items without fields have no bytes to count: give the class a field")
        return Items(container, item)

    def _enum(self, enum: type[Enum], place: "_Place") -> Symbols:
        name = f"{place.namespace}.{enum.__name__}"
        self._take(name, enum, place.where)
        return Symbols(name, enum, _symbols([(member.value, member) for member in enum], place, enum))

    def _literal(self, values: tuple[Any, ...], place: "_Place") -> Symbols:
        name = f"{full_name(place.contract)}{place.field.title().replace('_', '')}"
        self._take(name, values, place.where)
        return Symbols(name, str, _symbols([(value, value) for value in values], place, Literal[values]))

    def _union(self, annotations: tuple[Any, ...], place: "_Place", default: Any) -> OneOf:
        branches = [None if annotation is type(None) else self._shape(annotation, place) for annotation in annotations]
        # Avro wants the branch of the default first; without one, null first is what readers expect.
        branches.sort(key=lambda branch: branch is not None)
        if default is not REQUIRED:
            branches.sort(key=lambda branch: python_class(branch) is not type(default))
        for what in (python_class, avro_name):
            names = [what(branch) for branch in branches]
            if twice := [branch for branch in branches if names.count(what(branch)) > 1]:
                clash = " and ".join(python_class(branch).__name__ for branch in twice)
                raise place.refuse(clash, "the branches of a union must differ on the wire: put one of them in a Value")
        return OneOf(tuple(branches))

    def _take(self, name: str, owner: object, where: str) -> None:
        if self._names.setdefault(name, owner) != owner:
            raise DeclarationError(
                f"{where}: two different types are called {name} in one schema; rename one or give it a namespace="
            )


@dataclass(frozen=True, slots=True)
class _Place:
    contract: type[Value]
    field: str
    where: str

    @property
    def namespace(self) -> str:
        return full_name(self.contract).rpartition(".")[0]

    def refuse(self, what: Any, remedy: str) -> DeclarationError:
        text = what if isinstance(what, str) else getattr(what, "__qualname__", None) or repr(what)
        return DeclarationError(f"{self.where}: {text} has no Avro type; {remedy}")


def avro_name(shape: Shape | None) -> str:
    """What Avro tells the branches of a union apart by."""
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
        case Symbols(name=name) | Record(name=name):
            return name


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    annotation = getattr(annotation, "__value__", annotation)  # `type Money = …` of Python 3.12
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        return inner, tuple(notes)
    return annotation, ()


def _decimals(notes: tuple[Any, ...], place: _Place) -> Decimals:
    scale = next((note for note in notes if isinstance(note, Scale)), None)
    if scale is None:
        raise place.refuse(
            "Decimal without a scale", "write Annotated[Decimal, Scale(18, 4)]: 18 digits, 4 after the point"
        )
    if not 0 <= scale.scale <= scale.precision or scale.precision < 1:
        raise place.refuse(repr(scale), "the scale must lie between 0 and the precision")
    return Decimals(scale.precision, scale.scale)


def _symbols(pairs: list[tuple[Any, Any]], place: _Place, what: Any) -> dict[str, Any]:
    for value, _ in pairs:
        if not isinstance(value, str):
            raise place.refuse(what, f"{value!r} is no text: make it a StrEnum or a Literal of strings")
        if not _NAME.match(value):
            raise place.refuse(what, f"the symbol {value!r} may have letters, digits and _ only: rename it")
    return {str.__str__(value): member for value, member in pairs}


def _default(declared: msgspec.structs.FieldInfo) -> Any:
    if declared.default is not REQUIRED:
        return declared.default
    if declared.default_factory in (list, dict, tuple):
        return declared.default_factory()
    return REQUIRED


def _is_empty(record: Record) -> bool:
    return all(isinstance(inner.shape, Record) and _is_empty(inner.shape) for inner in record.fields)


def _remedy(annotation: Any) -> str:
    if annotation in (tuple, list, dict) or get_origin(annotation) is tuple:
        return "say what it holds, as in tuple[OrderLine, ...] or dict[str, int], or make it a Value with named fields"
    if annotation is Any or annotation is object:
        return "name the type; a union of Value classes can hold several"
    if isinstance(annotation, type) and (
        hasattr(annotation, "__dataclass_fields__") or issubclass(annotation, msgspec.Struct)
    ):
        return f"make {annotation.__name__} a subclass of millstream.Value"
    return (
        "use str, int, bool, float, bytes, Decimal with a Scale, datetime, date, UUID, a StrEnum, "
        "a Value, or a tuple, list, dict or union of these"
    )
