"""All requests but Produce and Fetch: read into kio's classes, answered from dictionaries.

A handler writes one dictionary with the fields of every version; each version's class takes those it knows. Durations
are milliseconds, arrays are any iterables of dictionaries or plain values, a field left out has its default.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import cache
from typing import Any, get_args, get_origin

from kio.index import load_payload_module
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType, uuid_zero

from millstream.local.broker.wire.bounds import check_bounds
from millstream.local.broker.wire.buffer import Malformed

Response = Mapping[str, Any]

_DEFAULTS = {
    "string": "", "bytes": b"", "bool": False, "uuid": uuid_zero, "error_code": ErrorCode.none,
    "timedelta_i32": timedelta(0), "timedelta_i64": timedelta(0), "float64": 0.0,
}  # fmt: skip


def read_request(key: int, version: int, body: bytes) -> Any:
    """The request as kio's class for this key and version. Raises Malformed."""
    read, check = _reader(key, version)
    check_bounds(_entity(key, version, EntityType.request), body)
    try:
        request = read(body, 0)[0]
    except Exception as error:  # kio has no common class for what it meets in a malformed body
        raise Malformed(f"API key {key}, version {version}: {error}") from error
    check(request)
    return request


def write_response(key: int, version: int, response: Response) -> bytes:
    """The body of a response."""
    build, write = _writer(key, version)
    buffer = io.BytesIO()
    write(buffer, build(response))
    return buffer.getvalue()


def millis(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)


@cache
def is_flexible(key: int, version: int) -> bool:
    return bool(_entity(key, version, EntityType.request).__flexible__)


@cache
def _entity(key: int, version: int, kind: Any) -> Any:
    module = load_payload_module(key, version, kind)
    title = "".join(part.title() for part in api_key_map[key].split("_"))
    return getattr(module, f"{title}{'Request' if kind is EntityType.request else 'Response'}")


@cache
def _reader(key: int, version: int) -> tuple[Callable[[bytes, int], tuple[Any, int]], Callable[[Any], None]]:
    entity = _entity(key, version, EntityType.request)
    return entity_reader(entity), _null_check(entity)


@cache
def _null_check(entity: type) -> Callable[[Any], None]:
    """Raises Malformed for a null where the schema has none: kio reads it as if it might be there."""
    never_null = [field.name for field in fields(entity) if type(None) not in get_args(field.type)]
    arrays = [(field.name, _item_type(field.type)) for field in fields(entity)]
    nested = [(name, _null_check(inner)) for name, inner in arrays if inner is not None and is_dataclass(inner)]

    def check(value: Any) -> None:
        for name in never_null:
            if getattr(value, name) is None:
                raise Malformed(f"{name} is null")
        for name, check_item in nested:
            for item in getattr(value, name) or ():
                check_item(item)

    return check


@cache
def _writer(key: int, version: int) -> tuple[Callable[[Response], Any], Callable[[io.BytesIO, Any], None]]:
    entity = _entity(key, version, EntityType.response)
    return _builder(entity), entity_writer(entity)


@cache
def _builder(entity: type) -> Callable[[Response], Any]:
    """From a dictionary to `entity`, converting what kio wants otherwise."""
    plan = [(field.name, _converter(field), _default(field)) for field in fields(entity)]

    def build(values: Response) -> Any:
        given = {}
        for name, convert, default in plan:
            value = values.get(name, default)
            given[name] = value if convert is None or value is None or value is default else convert(value)
        return entity(**given)

    return build


def _converter(field: Any) -> Callable[[Any], Any] | None:
    inner = _item_type(field.type)
    kafka_type = field.metadata.get("kafka_type")
    if inner is not None and is_dataclass(inner):
        build = _builder(inner)
        return lambda items: tuple(map(build, items))
    if inner is not None:
        return tuple
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return lambda milliseconds: timedelta(milliseconds=milliseconds)
    if kafka_type == "error_code":
        return ErrorCode
    return None


def _item_type(annotation: Any) -> Any:
    """What an array field holds, also where the array may be null; None for other fields."""
    options = (annotation, *get_args(annotation)) if get_origin(annotation) is not tuple else (annotation,)
    return next((get_args(option)[0] for option in options if get_origin(option) is tuple), None)


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    if _item_type(field.type) is not None:
        return ()
    if type(None) in get_args(field.type):
        return None
    return _DEFAULTS.get(field.metadata.get("kafka_type"), 0)
