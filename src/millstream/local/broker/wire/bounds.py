"""What a request announces, held against the bytes that are there: kio takes memory for every item it is promised."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin

from millstream.local.broker.wire.buffer import Malformed, Reader

MAX_ITEMS = 50_000
"""In all arrays of one request together: a few bytes each where they come from, a thousand in the answer."""

_SIZES = {
    "bool": 1, "int8": 1, "int16": 2, "uint16": 2, "error_code": 2, "int32": 4, "uint32": 4, "timedelta_i32": 4,
    "int64": 8, "timedelta_i64": 8, "datetime_i64": 8, "float64": 8, "uuid": 16,
}  # fmt: skip


class Walk(Reader):
    """Goes over a request without reading it."""

    __slots__ = ("items",)

    def __init__(self, data: memoryview, flexible: bool) -> None:
        super().__init__(data, flexible)
        self.items = 0

    def skip(self, size: int) -> None:
        self.at += max(size, 0)
        if self.at > len(self.data):
            raise Malformed("the request ends too early")

    def skip_string(self) -> None:
        self.skip(self.uvarint() - 1 if self.flexible else self.int16())

    def skip_bytes(self) -> None:
        self.skip(self.uvarint() - 1 if self.flexible else self.int32())

    def array(self) -> range:
        """The items that follow. Raises Malformed if they cannot all be there, or are too many."""
        count = max(self.count(), 0)
        self.items += count
        if self.items > MAX_ITEMS:
            raise Malformed(f"arrays of more than {MAX_ITEMS} items in one request")
        return range(count)


Step = Callable[[Walk], None]


def check_bounds(entity: Any, body: bytes) -> None:
    """Raises Malformed unless every item, string and blob of a request of this class is within `body`."""
    _over(entity)(Walk(memoryview(body), bool(entity.__flexible__)))


@cache
def _over(entity: Any) -> Step:
    steps = [
        _step(field.type, field.metadata.get("kafka_type")) for field in fields(entity) if "tag" not in field.metadata
    ]

    def walk(at: Walk) -> None:
        for step in steps:
            step(at)
        at.tags()

    return walk


def _step(annotation: Any, kind: str | None) -> Step:
    options = (annotation,) if get_origin(annotation) is tuple else (annotation, *get_args(annotation))
    item = next((get_args(option)[0] for option in options if get_origin(option) is tuple), None)
    entity = next((option for option in options if is_dataclass(option)), None)
    if item is not None:
        return _over_array(_over(item) if is_dataclass(item) else _step(item, kind))
    if entity is not None:
        return _over(entity) if type(None) not in options else _over_optional(_over(entity))
    if kind == "string":
        return Walk.skip_string
    if kind in ("bytes", "records"):
        return Walk.skip_bytes
    size = _SIZES[str(kind)]
    return lambda at: at.skip(size)


def _over_array(step: Step) -> Step:
    def walk(at: Walk) -> None:
        for _ in at.array():
            step(at)

    return walk


def _over_optional(step: Step) -> Step:
    def walk(at: Walk) -> None:
        if at.int8() >= 0:
            step(at)

    return walk
