"""The Avro schema of a contract, and when two schemas have the same bytes."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from millstream.contracts.meaning import meaning_of
from millstream.contracts.varint import days_since_epoch, micros_in, micros_of_day, micros_since_epoch
from millstream.declare.contract import Value
from millstream.declare.misfit import misfit
from millstream.declare.reading import shape_of
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
    part_names,
    python_class,
)
from millstream.errors import DeclarationError

Schema = dict[str, Any] | list[Any] | str
"""An Avro schema as parsed JSON."""


def avro_schema(contract: type[Value]) -> dict[str, Any]:
    """The Avro record schema of a class: names, types, defaults, and the first line of its docstring.

    Raises `DeclarationError` naming the class, the field and the remedy where a type cannot be expressed.

    >>> class StockCounted(Value, namespace="inventory"):
    ...     product: str
    ...     quantity: int = 0
    >>> avro_schema(StockCounted)["fields"][1]
    {'name': 'quantity', 'type': 'long', 'default': 0}
    """
    return _record(shape_of(contract), set())


def schema_text(contract: type[Value]) -> str:
    """The schema as it is registered: compact JSON, the same bytes for the same class."""
    return msgspec.json.encode(avro_schema(contract)).decode()


def _record(record: Record, seen: set[str]) -> dict[str, Any]:
    seen.add(record.name)
    namespace, _, name = record.name.rpartition(".")
    head: dict[str, Any] = {"type": "record", "name": name, "namespace": namespace}
    if doc := (record.python.__doc__ or "").strip().partition("\n")[0]:
        head["doc"] = doc
    if record.aliases:
        head["aliases"] = list(record.aliases)
    return head | {"fields": [_field(field, record, seen) for field in record.fields]}


def _field(field: Field, record: Record, seen: set[str]) -> dict[str, Any]:
    declared: dict[str, Any] = {"name": field.name, "type": _type(field.shape, seen)}
    if doc := described(field):
        declared["doc"] = doc
    if field.aliases:
        declared["aliases"] = list(field.aliases)
    if field.deprecated is not None:
        declared["deprecated"] = field.deprecated
    if field.default is not REQUIRED:
        if problem := misfit(field.shape, field.default, "the default"):
            raise DeclarationError(f"{record.python.__name__}.{field.attribute}: {problem}")
        declared["default"] = _default(field.shape, field.default)
    return declared


def described(field: Field) -> str:
    """The documentation of a field, on one line."""
    gone = None if field.deprecated is None else f"Deprecated: {field.deprecated}"
    return " ".join(" ".join(text.split()) for text in (field.doc, gone) if text)


def _type(shape: Shape | None, seen: set[str]) -> Schema:
    match shape:
        case None:
            return "null"
        case Scalar(python=python, avro=avro) if python is timedelta:
            return {"type": avro, "unit": "microseconds"}
        case Scalar(avro=avro, logical=None):
            return avro
        case Scalar(avro=avro, logical=logical):
            return {"type": avro, "logicalType": logical}
        case Decimals(precision, scale):
            return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
        case Items(item=item):
            return {"type": "array", "items": _type(item, seen)}
        case Entries(value=value):
            return {"type": "map", "values": _type(value, seen)}
        case OneOf(branches):
            return [_type(branch, seen) for branch in branches]
        case Symbols(name=name) | Record(name=name) | Fixed(name=name) if name in seen:
            return name
        case Fixed(name=full, parts=parts):
            seen.add(full)
            namespace, _, name = full.rpartition(".")
            fields = [
                {"name": name, "type": _type(part, seen)} for name, part in zip(part_names(parts), parts, strict=True)
            ]
            return {"type": "record", "name": name, "namespace": namespace, "fields": fields}
        case Symbols(name=full):
            seen.add(full)
            namespace, _, name = full.rpartition(".")
            return {"type": "enum", "name": name, "namespace": namespace, "symbols": list(shape.members)}
        case Record():
            return _record(shape, seen)


def _default(shape: Shape | None, value: Any) -> Any:
    match shape, value:
        case OneOf(branches), _:
            # Inside another default it need not be the first, which Avro has allowed since 1.12.
            return _default(next((b for b in branches if python_class(b) is type(value)), branches[0]), value)
        case Record(fields=fields), _:
            return {field.name: _default(field.shape, getattr(value, field.attribute)) for field in fields}
        case Items(item=item), _:
            return [_default(item, part) for part in value]
        case Fixed(parts=parts), _:
            return {
                name: _default(part, inner) for name, part, inner in zip(part_names(parts), parts, value, strict=True)
            }
        case Symbols(members=members), _:
            return next(symbol for symbol, member in members.items() if member == value)
        case Entries(value=inner), _:
            return {key: _default(inner, part) for key, part in value.items()}
        case Decimals(scale=scale), Decimal():
            unscaled = int(value.scaleb(scale))
            return unscaled.to_bytes((unscaled.bit_length() >> 3) + 1, "big", signed=True).decode("latin-1")
        case _, bytes():
            return value.decode("latin-1")
        case _, datetime():
            return micros_since_epoch(value)
        case _, date():
            return days_since_epoch(value)
        case _, time():
            return micros_of_day(value)
        case _, timedelta():
            return micros_in(value)
        case _, UUID():
            return str(value)
        case _:
            return value


def same_bytes(ours: Schema, theirs: Schema) -> bool:
    """Return whether what one schema writes the other reads, field for field: documentation and defaults aside."""
    try:
        return _essence(ours, "") == _essence(theirs, "")
    except (AttributeError, TypeError, RecursionError):  # theirs makes no sense
        return False


def _essence(schema: Any, namespace: str) -> Any:
    """Unlike Avro's parsing canonical form this keeps logical types: a decimal's scale changes what bytes mean."""
    if isinstance(schema, list):
        return [_essence(branch, namespace) for branch in schema]
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES or "." in schema or not namespace else f"{namespace}.{schema}"
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    if kind in ("record", "enum", "fixed"):
        full = record_name(schema, namespace)
        inner = full.rpartition(".")[0]
        fields = [(field.get("name"), _essence(field.get("type"), inner)) for field in schema.get("fields") or ()]
        return (kind, full, fields, schema.get("symbols"), schema.get("size"), _logical(schema))
    if kind == "array":
        return (kind, _essence(schema.get("items"), namespace))
    if kind == "map":
        return (kind, _essence(schema.get("values"), namespace))
    essence, logical = _essence(kind, namespace), _logical(schema)
    return (essence, logical) if logical else essence


def _logical(schema: dict[str, Any]) -> tuple[Any, ...] | None:
    kind = schema.get("type")
    if not isinstance(kind, str) or (meaning := meaning_of(kind, schema)) == meaning_of(kind, kind):
        return None
    return (*meaning, schema.get("precision") if meaning.of == "decimal" else None)


PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})


def record_name(schema: dict[str, Any], namespace: str = "") -> str:
    """The full name of a named Avro type declared inside `namespace`."""
    name = str(schema.get("name"))
    if "." in name:
        return name
    namespace = schema.get("namespace", namespace)
    return f"{namespace}.{name}" if namespace else name
