"""All requests but Produce and Fetch: read into kio's classes, answered from dictionaries.

A handler writes one dictionary with the fields of every version; each version's class takes those it knows. Durations
are milliseconds, arrays are any iterables of dictionaries or plain values, a field left out has its default.
"""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any, get_args

from kio.index import load_payload_module
from kio.schema.index import api_key_map
from kio.serial import entity_reader
from kio.static.constants import EntityType

from millstream.local.broker.wire.answers import Answer, item_of, writer
from millstream.local.broker.wire.bounds import check_bounds
from millstream.local.broker.wire.buffer import Malformed

Response = Answer

_OFTEN_SENT = 256
"""Bytes. Heartbeats and the steps of a transaction come again and again as the same few bytes; what was read of them
can be used again, for kio's classes are frozen."""


def read_request(key: int, version: int, body: bytes) -> Any:
    """The request as kio's class for this key and version. Raises Malformed."""
    return (_read_again if len(body) <= _OFTEN_SENT else _read)(key, version, body)


def _read(key: int, version: int, body: bytes) -> Any:
    read, check = _reader(key, version)
    check_bounds(_entity(key, version, EntityType.request), body)
    try:
        request = read(body, 0)[0]
    except Exception as error:  # kio has no common class for what it meets in a malformed body
        raise Malformed(f"API key {key}, version {version}: {error}") from error
    check(request)
    return request


_read_again = lru_cache(maxsize=128)(_read)


def write_response(key: int, version: int, response: Response) -> bytes:
    """The body of a response."""
    out: list[bytes] = []
    writer(_entity(key, version, EntityType.response))(out, response)
    return b"".join(out)


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
    arrays = [(field.name, item_of(field.type)) for field in fields(entity)]
    nested = [(name, _null_check(inner)) for name, inner in arrays if inner is not None and is_dataclass(inner)]

    def check(value: Any) -> None:
        for name in never_null:
            if getattr(value, name) is None:
                raise Malformed(f"{name} is null")
        for name, check_item in nested:
            for item in getattr(value, name) or ():
                check_item(item)

    return check
