"""Requests of every API key and version, filled at random with values that mean something to a broker."""

import io
import random
import struct
from dataclasses import fields, is_dataclass
from datetime import timedelta
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

from kio.index import load_payload_module
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.serial import entity_writer
from kio.static.constants import EntityType
from tests.fuzz.batches import record_set

TOPICS = (
    *("plain", "compacted", "stamped", "small", "_schemas") * 4,
    "new",
    "",
    "__consumer_offsets",
    "\u00e9",
    "a" * 300,
)
IDS = (
    "g",
    "h",
    "x",
    "y",
    "",
    "consumer-1",
    "range",
    "consumer",
    "cleanup.policy",
    "compact",
    "retention.ms",
    "100",
    "1",
)
NUMBERS = (
    -(1 << 63),
    -(1 << 31),
    -32768,
    -2,
    -1,
    0,
    1,
    2,
    3,
    5,
    127,
    1000,
    30_000,
    0x7FFF,
    (1 << 31) - 1,
    (1 << 63) - 1,
)
BITS = {"int8": 8, "int16": 16, "uint16": 17, "int32": 32, "uint32": 33, "int64": 64, "timedelta_i32": 32}
_LIKELY = {
    "acks": (-1, 0, 1),
    "index": (0, 1),
    "partition": (0, 1),
    "partition_index": (0, 1),
    "producer_epoch": (0, 1),
}
SEEN_IDS: list[UUID] = []
"""Ids of topics that are there, noted by whoever makes the broker."""


@cache
def versions_of(key: int) -> list[int]:
    """Every version of the request that kio can write."""
    found = []
    for version in range(32):
        try:
            load_payload_module(key, version, EntityType.request)
        except Exception:
            continue
        found.append(version)
    return found


def request(chance: random.Random, key: int, version: int) -> bytes:
    """One valid request, without its length."""
    form = _form(key, version)
    header = form.__header_schema__
    named = {"request_api_key": key, "request_api_version": version, "correlation_id": chance.randrange(1 << 31)}
    written = io.BytesIO()
    entity_writer(header)(written, header(**named, client_id=chance.choice(("fuzz", "", None))))
    entity_writer(form)(written, _filled(chance, form, 0))
    return written.getvalue()


def framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


@cache
def _form(key: int, version: int) -> Any:
    module = load_payload_module(key, version, EntityType.request)
    return getattr(module, "".join(part.title() for part in api_key_map[key].split("_")) + "Request")


@cache
def _plan(form: type) -> list[tuple[str, Any, Any]]:
    hints = get_type_hints(form)
    return [(field.name, hints[field.name], field.metadata.get("kafka_type")) for field in fields(form)]  # type: ignore[arg-type]


def _filled(chance: random.Random, form: Any, depth: int) -> Any:
    return form(**{name: _value(chance, name, hint, kind, depth) for name, hint, kind in _plan(form)})


def _value(chance: random.Random, name: str, hint: Any, kind: str | None, depth: int) -> Any:
    options = get_args(hint) if get_origin(hint) is not tuple else ()
    if type(None) in options and chance.random() < (0.02 if name == "records" else 0.3):
        return None
    inner = next((option for option in (hint, *options) if option is not type(None) and _is_known(option)), hint)
    if get_origin(inner) is tuple:
        count = 0 if depth > 2 else chance.choice((0, 1, 1, 1, 2, 3))
        return tuple(_value(chance, name, get_args(inner)[0], kind, depth + 1) for _ in range(count))
    if is_dataclass(inner):
        return _filled(chance, inner, depth + 1)
    return _plain(chance, name, kind)


def _is_known(option: Any) -> bool:
    return get_origin(option) is tuple or is_dataclass(option)


def _plain(chance: random.Random, name: str, kind: str | None) -> Any:
    if kind == "string":
        return chance.choice(TOPICS if "topic" in name or name == "name" or chance.random() < 0.2 else IDS)
    if kind == "records" or (kind in ("bytes", None) and name == "records"):
        return record_set(chance)
    if kind == "bytes":
        return chance.randbytes(chance.choice((0, 1, 8, 64)))
    if kind == "bool":
        return chance.random() < 0.5
    if kind == "uuid":
        return chance.choice(SEEN_IDS) if SEEN_IDS and chance.random() < 0.8 else UUID(int=chance.randrange(4))
    if kind == "float64":
        return chance.choice((0.0, -1.0, float("inf"), float("nan")))
    if kind == "error_code":
        return chance.choice(list(ErrorCode))
    bits = BITS[kind or "int32"] if kind != "timedelta_i64" else 40
    if name in _LIKELY and chance.random() < 0.9:
        return chance.choice(_LIKELY[name])
    number = chance.choice(NUMBERS[4:12] if chance.random() < 0.8 else NUMBERS)
    number = max(-(1 << bits - 1), min(number, (1 << bits - 1) - 1))
    if kind in ("uint16", "uint32"):
        number = max(number, 0)
    return timedelta(milliseconds=number) if str(kind).startswith("timedelta") else number
