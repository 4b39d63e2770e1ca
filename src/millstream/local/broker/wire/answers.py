"""Answers, written from dictionaries by a plan that is made once of each of kio's classes.

Fields of fixed size that follow one another are packed by one call: an answer with a thousand partitions must not hold
up everybody else.
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from typing import Any, get_args, get_origin
from uuid import UUID

from millstream.local.broker.wire.buffer import array_size, string, uvarint

Answer = Mapping[str, Any]
Step = Callable[[list[bytes], Answer], None]
Value = Callable[[list[bytes], Any], None]

_FORMATS = {
    "bool": "?", "int8": "b", "int16": "h", "uint16": "H", "error_code": "h", "int32": "i", "uint32": "I",
    "timedelta_i32": "i", "int64": "q", "timedelta_i64": "q", "float64": "d",
}  # fmt: skip
_I64 = struct.Struct(">q")
_EMPTY: dict[str | None, Any] = {
    "string": "", "bytes": b"", "records": b"", "uuid": UUID(int=0), "datetime_i64": datetime.fromtimestamp(0, UTC),
}  # fmt: skip


@cache
def writer(entity: Any) -> Value:
    """Appends the bytes of an `entity`, given as a dictionary. A field left out has its default, durations are
    milliseconds, times are datetimes, arrays any iterables."""
    steps = list(_steps([field for field in fields(entity) if "tag" not in field.metadata], entity.__flexible__))
    if entity.__flexible__:
        steps.append(_tags(sorted((f for f in fields(entity) if "tag" in f.metadata), key=lambda f: f.metadata["tag"])))

    def write(out: list[bytes], values: Answer) -> None:
        for step in steps:
            step(out, values)

    return write


def item_of(annotation: Any) -> Any:
    """What an array field holds, also where the array may be null; None for other fields."""
    options = (annotation, *get_args(annotation)) if get_origin(annotation) is not tuple else (annotation,)
    return next((get_args(option)[0] for option in options if get_origin(option) is tuple), None)


def _steps(plain: list[Any], flexible: bool) -> Iterator[Step]:
    for fixed, run in groupby(plain, key=lambda field: _format(field) is not None):
        if fixed:
            yield _fixed(list(run))
        else:
            yield from (_single(field, flexible) for field in run)


def _format(field: Any) -> str | None:
    return _FORMATS.get(field.metadata.get("kafka_type")) if item_of(field.type) is None else None


def _fixed(run: list[Any]) -> Step:
    pack = struct.Struct(">" + "".join(str(_format(field)) for field in run)).pack
    plan = [(field.name, _default(field)) for field in run]
    if len(plan) == 1:
        name, default = plan[0]
        return lambda out, values: out.append(pack(values.get(name, default)))
    return lambda out, values: out.append(pack(*[values.get(name, default) for name, default in plan]))


def _single(field: Any, flexible: bool) -> Step:
    name, default, write = field.name, _default(field), _value(field, flexible)
    return lambda out, values: write(out, values.get(name, default))


def _tags(tagged: list[Any]) -> Step:
    """Tagged fields stand at the end, and only those that have not their default."""
    plan = [(f.name, uvarint(f.metadata["tag"]), _default(f), _value(f, True)) for f in tagged]

    def write(out: list[bytes], values: Answer) -> None:
        given = [entry for entry in plan if values.get(entry[0], entry[2]) != entry[2]]
        out.append(uvarint(len(given)))
        for name, tag, _, write_value in given:
            data: list[bytes] = []
            write_value(data, values[name])
            out += (tag, uvarint(sum(map(len, data))), *data)

    return write if plan else lambda out, values: out.append(b"\0")


def _value(field: Any, flexible: bool) -> Value:
    item, kind = item_of(field.type), field.metadata.get("kafka_type")
    if item is not None:
        return _array(item, kind, flexible)
    entity = next((option for option in (field.type, *get_args(field.type)) if is_dataclass(option)), None)
    if entity is None:
        return _primitive(kind, flexible)
    return _nullable(writer(entity)) if type(None) in get_args(field.type) else writer(entity)


def _array(item: Any, kind: str | None, flexible: bool) -> Value:
    null = b"\0" if flexible else b"\xff\xff\xff\xff"
    write_item = writer(item) if is_dataclass(item) else _primitive(kind, flexible)

    def write(out: list[bytes], items: Any) -> None:
        if items is None:
            out.append(null)
            return
        listed: Sequence[Any] = items if isinstance(items, list | tuple) else tuple(items)
        out.append(array_size(len(listed), flexible=flexible))
        for one in listed:
            write_item(out, one)

    return write


def _primitive(kind: str | None, flexible: bool) -> Value:
    if kind == "string":
        return lambda out, value: out.append(string(value, flexible=flexible))
    if kind in ("bytes", "records"):
        return lambda out, value: out.extend(_blob(value, flexible))
    if kind == "uuid":
        return lambda out, value: out.append((value or _EMPTY["uuid"]).bytes)
    if kind == "datetime_i64":
        return lambda out, value: out.append(_I64.pack(round(value.timestamp() * 1000)))
    pack = struct.Struct(">" + _FORMATS[str(kind)]).pack
    return lambda out, value: out.append(pack(value))


def _blob(value: bytes | None, flexible: bool) -> tuple[bytes, ...]:
    size = -1 if value is None else len(value)
    return (uvarint(size + 1) if flexible else struct.pack(">i", size), value or b"")


def _nullable(write: Value) -> Value:
    def write_or_null(out: list[bytes], value: Answer | None) -> None:
        out.append(b"\xff" if value is None else b"\1")
        if value is not None:
            write(out, value)

    return write_or_null


def _default(field: Any) -> Any:
    kind = field.metadata.get("kafka_type")
    if field.default is not MISSING:
        return field.default // timedelta(milliseconds=1) if isinstance(field.default, timedelta) else field.default
    if item_of(field.type) is not None:
        return ()
    if type(None) in get_args(field.type) and kind not in _FORMATS:
        return None
    return _EMPTY.get(kind, 0)
