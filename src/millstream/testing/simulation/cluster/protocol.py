"""Kafka's protocol from the client's side: requests from keyword arguments, answers as kio reads them.

Arguments have kio's field names; nested structures are dictionaries, durations milliseconds. What is left out has its
default, or is empty.
"""

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple, get_args, get_origin
from uuid import UUID

import msgspec
from kio.index import load_entity_schema
from kio.serial import entity_reader, entity_writer
from kio.static.constants import EntityType

VERSIONS = {
    "produce": 7, "fetch": 11, "list_offsets": 5, "metadata": 9, "offset_commit": 7, "offset_fetch": 7,
    "join_group": 5, "heartbeat": 3, "leave_group": 1, "sync_group": 3, "list_groups": 4, "create_topics": 5,
    "delete_topics": 5, "init_producer_id": 4, "add_partitions_to_txn": 3, "add_offsets_to_txn": 3, "end_txn": 3,
    "txn_offset_commit": 3, "describe_configs": 2, "create_partitions": 1, "describe_topic_partitions": 0,
    "describe_groups": 4,
}  # fmt: skip
"""The version of each request that simulated clients send."""


class Api(NamedTuple):
    """The functions that write one kind of request and read its answer."""

    key: int
    head: bytes
    flexible_request: bool
    flexible_answer: bool
    build: Callable[[Mapping[str, Any]], Any]
    write: Callable[[io.BytesIO, Any], None]
    read: Callable[[bytes, int], tuple[Any, int]]


_pack, _unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


@cache
def api(name: str) -> Api:
    """Return the API of this name."""
    version = VERSIONS[name]
    request: Any = load_entity_schema(name, version, EntityType.request)
    answer: Any = load_entity_schema(name, version, EntityType.response)
    return Api(
        request.__api_key__,
        struct.pack(">hh", request.__api_key__, version),
        bool(request.__flexible__),
        bool(answer.__flexible__),
        _builder(request),
        entity_writer(request),
        entity_reader(answer),
    )


def request(name: str, client_id: str, values: Mapping[str, Any]) -> bytes:
    """Write a request's frame, without its length. Answers come in order, so all have the same correlation id."""
    return _frame(name, client_id, _pack(values))


@lru_cache(4_000)
def _frame(name: str, client_id: str, packed: bytes) -> bytes:
    # Clients send the same requests again and again, and packing one is a hundred times as fast as kio is.
    values, found = _unpack(packed), api(name)
    client = client_id.encode()
    buffer = io.BytesIO()
    buffer.write(found.head + struct.pack(">ih", 0, len(client)) + client + b"\0" * found.flexible_request)
    found.write(buffer, found.build(values))
    return buffer.getvalue()


def answer(name: str, frame: bytes) -> Any:
    """Read the answer in a frame without its length."""
    found = api(name)
    return found.read(frame, 5 if found.flexible_answer else 4)[0]


_EMPTY = {"string": "", "bytes": b"", "bool": False, "uuid": UUID(int=0), "float64": 0.0}


@cache
def _builder(entity: Any) -> Callable[[Mapping[str, Any]], Any]:
    plan = [(field.name, _converter(field), _default(field)) for field in fields(entity)]
    names = {name for name, *_ in plan}

    def build(values: Mapping[str, Any]) -> Any:
        if not values.keys() <= names:
            raise TypeError(f"{entity.__name__} has no {sorted(values.keys() - names)}; it has {sorted(names)}")
        return entity(
            **{
                name: default if name not in values else _converted(convert, values[name])
                for name, convert, default in plan
            }
        )

    return build


def _converted(convert: Callable[[Any], Any] | None, value: Any) -> Any:
    return value if convert is None or value is None else convert(value)


def _converter(field: Any) -> Callable[[Any], Any] | None:
    item = _item(field.type)
    if item is not None and is_dataclass(item):
        build = _builder(item)
        return lambda items: tuple(map(build, items))
    if item is not None:
        return tuple
    if str(field.metadata.get("kafka_type")).startswith("timedelta"):
        return lambda milliseconds: timedelta(milliseconds=milliseconds)
    return None


def _item(annotation: Any) -> Any:
    """Return the type of an array's items; None for what is no array."""
    options = (annotation,) if get_origin(annotation) is tuple else get_args(annotation)
    return next((get_args(option)[0] for option in options if get_origin(option) is tuple), None)


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    if _item(field.type) is not None:
        return ()
    if type(None) in get_args(field.type):
        return None
    kind = str(field.metadata.get("kafka_type"))
    return timedelta(0) if kind.startswith("timedelta") else _EMPTY.get(kind, 0)
