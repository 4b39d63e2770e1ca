"""Reads what was written with another schema: Avro's resolution rules, by fastavro."""

import io
from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

from millstream.contracts.reading import shape_of
from millstream.contracts.schema import Schema, avro_schema
from millstream.contracts.shape import (
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
from millstream.contracts.varint import EPOCH, time_of_day
from millstream.contracts.walk import Walker
from millstream.declare.contract import Value, full_name
from millstream.errors import DecodeError


def resolving_decoder(contract: type[Value], writer: Schema) -> Callable[[bytes], Any]:
    """A function from messages written with the schema `writer` to the class as it is today.

    Raises `DecodeError` (`unreadable_schema`) here where the schema makes no sense; the function raises
    `DecodeError`, with `incompatible_schema` where no rule leads from one schema to the other.
    """
    read = _reader(writer, avro_schema(contract))
    record = shape_of(contract)

    def decode(message: bytes) -> Any:
        try:
            return _struct(record, read(message))
        except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
            raise DecodeError("invalid", f"{full_name(contract)}: {error}") from error

    return decode


def plain_decoder(writer: Schema) -> Callable[[bytes], Any]:
    """A function from messages written with the schema `writer` to dicts, as `resolving_decoder` without a class."""
    return _reader(writer, None)


def _reader(writer: Schema, ours: Schema | None) -> Callable[[bytes], Any]:
    fastavro, resolution_error = _fastavro()
    try:
        walker = Walker(writer)
        parsed = fastavro.parse_schema(writer)
        reader = None if ours is None else fastavro.parse_schema(ours)
    except DecodeError:
        raise
    except Exception as error:  # fastavro lets many classes out for a schema that makes no sense
        raise DecodeError("unreadable_schema", f"{type(error).__name__}: {str(error)[:500]}") from error

    def read(message: bytes) -> Any:
        walker.check(message, 5)
        try:
            return fastavro.schemaless_reader(
                io.BytesIO(message[5:]),
                parsed,
                reader,
                return_named_type=ours is not None,
            )
        except resolution_error as error:
            raise DecodeError("incompatible_schema", str(error)) from error
        except Exception as error:
            raise DecodeError("invalid", f"{type(error).__name__}: {error}") from error

    return read


@cache
def _fastavro() -> tuple[Any, type[Exception]]:
    import fastavro  # 9 MB that a service does without until it meets another version
    from fastavro._read_common import SchemaResolutionError

    return fastavro, SchemaResolutionError


def _struct(shape: Shape | None, value: Any) -> Any:
    """From what fastavro returns, with defaults as plain JSON, to what the class wants."""
    match shape:
        case None:
            return None
        case Record(fields=fields):
            return shape.python(**{field.attribute: _struct(field.shape, value[field.name]) for field in fields})
        case Items(container, item):
            return container(_struct(item, part) for part in value)
        case Fixed(parts=parts):
            return tuple(_struct(part, value[name]) for name, part in zip(part_names(parts), parts, strict=True))
        case Entries(entry):
            return {key: _struct(entry, part) for key, part in value.items()}
        case Symbols(members=members):
            return members[value]
        case OneOf(branches):
            return _branch(branches, value)
        case Decimals(scale=scale):
            return _decimal(value, scale)
        case Scalar(python=python):
            if isinstance(value, python):
                return value
            if python is bytes:
                return value.encode("latin-1")
            if python is UUID:
                return UUID(value)
            if python is datetime:
                return EPOCH + timedelta(microseconds=value)
            if python is timedelta:
                return timedelta(microseconds=value)
            if python is time:
                return time_of_day(value)
            return python(value)


def _decimal(value: Any, scale: int) -> Decimal:
    if isinstance(value, str):
        value = value.encode("latin-1")
    return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale) if isinstance(value, bytes) else value


def _branch(branches: tuple[Shape | None, ...], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple) and len(value) == 2:  # fastavro names records and enumerations
        name, value = value
        return _struct(next(b for b in branches if isinstance(b, Record | Fixed | Symbols) and b.name == name), value)
    present = [branch for branch in branches if branch is not None]
    if len(present) == 1:
        return _struct(present[0], value)
    present.sort(key=lambda branch: isinstance(branch, Record | Fixed | Symbols))  # without a name only in defaults
    for looks_like in (_decoded_class, _default_class):
        for branch in present:
            if type(value) is looks_like(branch):
                return _struct(branch, value)
    raise ValueError(f"{value!r} is none of {', '.join(python_class(b).__name__ for b in present)}")


def _decoded_class(branch: Shape) -> type:
    match branch:
        case Record() | Fixed():
            return dict
        case Items():
            return list
        case Symbols():
            return str
        case Scalar(python=python) if python is timedelta:
            return int
        case _:
            return python_class(branch)


def _default_class(branch: Shape) -> type:
    return int if isinstance(branch, Scalar) and branch.avro in ("int", "long") else str
