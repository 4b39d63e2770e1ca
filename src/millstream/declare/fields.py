"""Refuses, where a class is declared to travel, fields of types and defaults that its format cannot hold."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
from msgspec import inspect

from millstream.declare.contract import Value, declared_fields
from millstream.declare.misfit import misfit
from millstream.declare.reading import shape_of
from millstream.declare.shape import REQUIRED, Shape, records_in
from millstream.errors import DeclarationError

_SUPPORTED = (
    "use str, int, bool, float, bytes, Decimal, datetime, date, time, timedelta, UUID, an Enum, a Literal, a Value, a "
    "dataclass, or a tuple, list, set, dict or union of these"
)


def check_fields(contract: type[Value], format: str) -> None:
    """Raise `DeclarationError`, naming class and field, where records of a class cannot be written in a format.

    - `format`: of a topic, or `"msgpack"`, which timers are kept in. That and plain `"json"` take what msgspec takes,
      all others what a schema can express.
    """
    match format:
        case "json":
            _check_plain(contract, "JSON", msgspec.json.Decoder, set())
        case "msgpack":
            _check_plain(contract, "MessagePack", msgspec.msgpack.Decoder, set())
        case _:
            _check_defaults(shape_of(contract))


def _check_defaults(shape: Shape) -> None:
    for record in records_in(shape):
        for field in record.fields:
            if field.default is not REQUIRED and (problem := misfit(field.shape, field.default, "the default")):
                raise DeclarationError(f"{record.python.__name__}.{field.attribute}: {problem}")


def _check_plain(contract: type[msgspec.Struct], language: str, decoder: Callable[[Any], Any], done: set[type]) -> None:
    done.add(contract)
    for field in declared_fields(contract):
        where = f"{contract.__name__}.{field.name}"
        try:
            decoder(field.type)
            types = list(_parts(inspect.type_info(field.type)))
        except TypeError as error:
            raise DeclarationError(f"{where}: {language} cannot hold it: {str(error).partition(chr(10))[0]}") from None
        for part in types:
            if isinstance(part, inspect.CustomType):
                name = getattr(part.cls, "__qualname__", repr(part.cls))
                raise DeclarationError(f"{where}: no {language} is read as {name}; {_SUPPORTED}")
            if isinstance(part, inspect.StructType) and part.cls not in done:
                _check_plain(part.cls, language, decoder, done)


def _parts(of: Any) -> Iterator[inspect.Type]:
    """A type and those that it is made of, down to classes, whose fields are their own."""
    if isinstance(of, tuple):
        for part in cast("tuple[Any, ...]", of):
            yield from _parts(part)
    elif isinstance(of, inspect.Type):
        yield of
        if not isinstance(of, inspect.StructType):
            for name in of.__struct_fields__:
                yield from _parts(getattr(of, name))
