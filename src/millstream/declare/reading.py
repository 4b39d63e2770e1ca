"""Reads the annotations of a contract, once, into its shape; refuses with a remedy what no schema can say."""

import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args, get_origin
from uuid import UUID

import msgspec

from millstream.declare.contract import Value, declared_fields, former_names, full_name
from millstream.declare.foreign import Foreign, FromNumber, LocalAsUtc
from millstream.declare.notes import Alias, Deprecated, Doc, Number
from millstream.declare.scale import Scale
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Field,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    avro_name,
    python_class,
)
from millstream.errors import DeclarationError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SCALARS = {
    str: Scalar(str, "string"),
    int: Scalar(int, "long"),
    bool: Scalar(bool, "boolean"),
    float: Scalar(float, "double"),
    bytes: Scalar(bytes, "bytes"),
    datetime: Scalar(datetime, "long", "timestamp-micros"),
    date: Scalar(date, "int", "date"),
    time: Scalar(time, "long", "time-micros"),
    timedelta: Scalar(timedelta, "long"),  # Avro's own duration has months and no microseconds
    UUID: Scalar(UUID, "string", "uuid"),
}


@cache
def shape_of(contract: type[Value]) -> Record:
    """The shape of a class. Raises `DeclarationError` for a field whose type no schema can express."""
    return _Reader().record(contract)


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
        record = self._records[contract] = Record(contract, name, aliases=tuple(former_names(contract)))
        self._open.add(contract)
        record.fields.extend(self._fields(contract))
        self._open.discard(contract)
        _unambiguous(record)
        return record

    def _fields(self, contract: type[Value]) -> Iterator[Field]:
        for declared in declared_fields(contract):
            where = f"{contract.__name__}.{declared.name}"
            _, notes = _unwrap(declared.type)
            aliases = tuple(note.name for note in notes if isinstance(note, Alias))
            for name in (declared.encode_name, *aliases):
                if not _NAME.match(name):
                    raise DeclarationError(f"{where} is called {name!r} on the wire: use letters, digits and _ only")
            default = _default(declared)
            shape = self._shape(declared.type, _Place(contract, declared.encode_name, where), default)
            yield Field(
                declared.name,
                declared.encode_name,
                shape,
                default,
                aliases,
                next((note.text for note in notes if isinstance(note, Doc)), None),
                next((note.why for note in notes if isinstance(note, Deprecated)), None),
                next((note.number for note in notes if isinstance(note, Number)), None),
            )

    def _shape(self, annotation: Any, place: "_Place", default: Any = REQUIRED) -> Shape:
        annotation, notes = _unwrap(annotation)
        if place.inside and any(isinstance(note, Alias | Deprecated | Number) for note in notes):
            raise place.refuse(annotation, "Alias, Deprecated and Number are said of a whole field: put them outermost")
        foreign = _foreign(annotation, notes, place)
        if annotation is Decimal:
            return _decimals(notes, foreign, place)
        if annotation in _SCALARS:
            return replace(_SCALARS[annotation], foreign=foreign) if foreign else _SCALARS[annotation]
        if isinstance(annotation, type) and issubclass(annotation, Value):
            return self.record(annotation)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return self._enum(annotation, foreign, place)
        origin, arguments, inside = get_origin(annotation), get_args(annotation), replace(place, inside=True)
        if origin is Literal:
            return self._literal(arguments, foreign, place)
        if origin in (types.UnionType, typing.Union):
            return self._union(arguments, inside, default)
        if origin in (list, set, frozenset) or (origin is tuple and arguments[1:] == (...,)):
            return self._items(origin, arguments[0], inside)
        if origin is tuple and arguments:
            name = self._named_after(place, arguments)
            return Fixed(name, tuple(self._shape(part, inside) for part in arguments))
        if origin is dict:
            if _unwrap(arguments[0])[0] is not str:
                raise place.refuse(annotation, "keys of a dict are str on the wire: use dict[str, …]")
            return Entries(self._shape(arguments[1], inside))
        raise place.refuse(annotation, _remedy(annotation))

    def _items(self, container: type, annotation: Any, place: "_Place") -> Items:
        item = self._shape(annotation, place)
        if self._is_empty(item):
            raise place.refuse(
                python_class(item), "items without fields have no bytes to count: give the class a field"
            )
        if container in (set, frozenset) and not _hashable(item):
            raise place.refuse(f"a {container.__name__} of {annotation}", "its items are not hashable: use a tuple")
        return Items(container, item)

    def _is_empty(self, shape: Shape) -> bool:
        match shape:
            case Record(fields=fields):
                return shape.python not in self._open and all(self._is_empty(field.shape) for field in fields)
            case Fixed(parts=parts):
                return all(self._is_empty(part) for part in parts)
            case _:
                return False

    def _enum(self, enum: type[Enum], foreign: tuple[Foreign, ...], place: "_Place") -> Symbols:
        name = f"{place.namespace}.{enum.__name__}"
        self._take(name, enum, place.where)
        symbols = _symbols([(member.name, member.value, member) for member in enum], place, enum)
        return Symbols(name, enum, symbols, foreign)

    def _literal(self, values: tuple[Any, ...], foreign: tuple[Foreign, ...], place: "_Place") -> Symbols:
        symbols = _symbols(
            [(f"_{value}".replace("-", "minus"), value, value) for value in values], place, Literal[values]
        )
        python = cast("type[object]", type(values[0]))
        return Symbols(self._named_after(place, values), python, symbols, foreign)

    def _union(self, annotations: tuple[Any, ...], place: "_Place", default: Any) -> OneOf:
        branches = [None if annotation is type(None) else self._shape(annotation, place) for annotation in annotations]
        written = tuple(branches)
        # Avro wants the branch of the default first; without one, null first is what readers expect.
        branches.sort(key=lambda branch: branch is not None)
        if default is not REQUIRED:
            branches.sort(key=lambda branch: python_class(branch) is not type(default))
        for what in (python_class, avro_name):
            names = [what(branch) for branch in branches]
            if twice := [branch for branch in branches if names.count(what(branch)) > 1]:
                clash = " and ".join(python_class(branch).__name__ for branch in twice)
                raise place.refuse(clash, "the branches of a union must differ on the wire: put one of them in a Value")
        return OneOf(tuple(branches), written)

    def _named_after(self, place: "_Place", owner: object) -> str:
        """A name for a type that has none of its own."""
        name = stem = f"{full_name(place.contract)}{place.field.title().replace('_', '')}"
        number = 1
        while self._names.setdefault(name, owner) != owner:
            number += 1
            name = f"{stem}{number}"
        return name

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
    inside: bool = False

    @property
    def namespace(self) -> str:
        return full_name(self.contract).rpartition(".")[0]

    def refuse(self, what: Any, remedy: str) -> DeclarationError:
        text = what if isinstance(what, str) else getattr(what, "__qualname__", None) or repr(what)
        return DeclarationError(f"{self.where}: no schema can say {text}; {remedy}")


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    annotation = getattr(annotation, "__value__", annotation)  # `type Money = …` of Python 3.12
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        return inner, tuple(notes)
    return annotation, ()


_COUNTED: dict[Any, tuple[str, ...]] = {
    datetime: ("seconds", "milliseconds", "microseconds", "nanoseconds"),
    time: ("seconds", "milliseconds", "microseconds", "nanoseconds"),
    timedelta: ("days", "seconds", "milliseconds", "microseconds", "nanoseconds"),
    date: ("days",),
}


def _foreign(annotation: Any, notes: tuple[Any, ...], place: _Place) -> tuple[Foreign, ...]:
    """The notes on how others write it. Raises where one says nothing of such a type."""
    foreign = tuple(note for note in notes if isinstance(note, Foreign))
    for note in foreign:
        if isinstance(note, FromNumber):
            fits = note.unit in _COUNTED.get(annotation, ())
        elif note is LocalAsUtc:
            fits = annotation is datetime
        else:
            fits = (
                annotation in (datetime, date, time, timedelta, Decimal)
                or get_origin(annotation) is Literal
                or (isinstance(annotation, type) and issubclass(annotation, Enum))
            )
        if not fits:
            name = getattr(cast("object", annotation), "__name__", None) or f"{annotation}"
            raise place.refuse(f"{note!r} of {name}", "take the note away")
    return foreign


def _decimals(notes: tuple[Any, ...], foreign: tuple[Foreign, ...], place: _Place) -> Decimals:
    scale = next((note for note in notes if isinstance(note, Scale)), None)
    if scale is None:
        raise place.refuse(
            "Decimal without a scale", "write Annotated[Decimal, Scale(18, 4)]: 18 digits, 4 after the point"
        )
    if not 0 <= scale.scale <= scale.precision or scale.precision < 1:
        raise place.refuse(repr(scale), "the scale must lie between 0 and the precision")
    return Decimals(scale.precision, scale.scale, foreign)


def _symbols(members: list[tuple[str, Any, Any]], place: _Place, what: Any) -> dict[str, Any]:
    """Text is its own symbol; a number goes by the name that it has in Python."""
    symbols: dict[str, Any] = {}
    kinds = {int if isinstance(value, int) else str for _, value, _ in members}
    for name, value, member in members:
        if isinstance(value, bool) or not isinstance(value, str | int) or len(kinds) > 1:
            raise place.refuse(what, f"{value!r} stands beside others: make it a StrEnum, or an IntEnum, or a Literal")
        symbol = str.__str__(value) if isinstance(value, str) else name
        if not _NAME.match(symbol):
            raise place.refuse(what, f"the symbol {symbol!r} may have letters, digits and _ only: rename it")
        symbols[symbol] = member
    return symbols


def _hashable(shape: Shape | None, above: tuple[Shape, ...] = ()) -> bool:
    match shape:
        case Items(container, item):
            return container in (tuple, frozenset) and _hashable(item, above)
        case Entries():
            return False
        case Fixed(parts=parts) | OneOf(branches=parts):
            return all(_hashable(part, above) for part in parts)
        case Record(fields=fields) if shape not in above:
            return all(_hashable(field.shape, (*above, shape)) for field in fields)
        case _:
            return True


def _default(declared: msgspec.structs.FieldInfo) -> Any:
    if declared.default is not REQUIRED:
        return declared.default
    if declared.default_factory in (list, dict, tuple, set, frozenset):
        return cast("Any", declared.default_factory)()
    return REQUIRED


def _unambiguous(record: Record) -> None:
    owners: dict[str, str] = {}
    for field in record.fields:
        for name in (field.name, *field.aliases):
            if owners.setdefault(name, field.attribute) != field.attribute:
                raise DeclarationError(
                    f"{record.python.__name__}.{field.attribute}: {owners[name]} is or was called {name}, too; "
                    "a name leads to one field"
                )


def _remedy(annotation: Any) -> str:
    if annotation in (tuple, list, dict, set, frozenset) or get_origin(annotation) is tuple:
        return "say what it holds, as in tuple[OrderLine, ...] or dict[str, int], or make it a Value with named fields"
    if annotation is Any or annotation is object:
        return "name the type; a union of Value classes can hold several"
    if isinstance(annotation, type) and (
        hasattr(annotation, "__dataclass_fields__") or issubclass(annotation, msgspec.Struct)
    ):
        return f"make {annotation.__name__} a subclass of millstream.Value"
    return (
        "use str, int, bool, float, bytes, Decimal with a Scale, datetime, date, time, timedelta, UUID, an Enum, "
        "a Literal, a Value, or a tuple, list, set, dict or union of these"
    )
