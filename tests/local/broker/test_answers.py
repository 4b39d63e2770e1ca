"""Answers are written from dictionaries; kio reads them back."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, get_args
from uuid import UUID

import pytest
from kio.index import load_payload_module
from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map
from kio.serial import entity_reader
from kio.static.constants import EntityType

from millstream.local.broker.api.table import APIS
from millstream.local.broker.wire.answers import item_of
from millstream.local.broker.wire.control import read_request, write_response

SPOKEN = [(key, v) for key, api in APIS.items() if key > 1 for v in range(api.lowest, api.highest + 1)]


def response_class(key: int, version: int) -> Any:
    title = "".join(part.title() for part in api_key_map[key].split("_"))
    return getattr(load_payload_module(key, version, EntityType.response), f"{title}Response")


def nested(annotation: Any) -> Any:
    return next((option for option in (annotation, *get_args(annotation)) if is_dataclass(option)), None)


def filled(entity: Any, numbers: Iterator[int]) -> dict[str, Any]:
    """Every field of `entity` with a value of its own, in the form that `write_response` takes."""

    def value(annotation: Any, kind: str | None) -> Any:
        number = next(numbers) % 100 + 1
        inner = nested(annotation)
        if inner is not None:
            return filled(inner, numbers)
        return {
            "string": f"text {number}", "bytes": b"%d" % number, "bool": bool(number % 2), "uuid": UUID(int=number),
            "error_code": ErrorCode(number), "float64": number / 4, "datetime_i64": datetime.fromtimestamp(number, UTC),
        }.get(str(kind), number)  # fmt: skip

    answer: dict[str, Any] = {}
    for field in fields(entity):
        kind, item = field.metadata.get("kafka_type"), item_of(field.type)
        answer[field.name] = value(field.type, kind) if item is None else [value(item, kind) for _ in range(2)]
    return answer


def seen(read: Any) -> Any:
    """What kio read, in the form of `filled`."""
    if is_dataclass(read):
        return {field.name: seen(getattr(read, field.name)) for field in fields(read)}
    if isinstance(read, tuple):
        return [seen(item) for item in read]
    return read // timedelta(milliseconds=1) if isinstance(read, timedelta) else read


@pytest.mark.parametrize(("key", "version"), SPOKEN)
def test_what_is_written_is_what_kio_reads(key: int, version: int) -> None:
    entity = response_class(key, version)
    answer = filled(entity, count(1))
    written = write_response(key, version, answer)
    read, size = entity_reader(entity)(written, 0)
    assert size == len(written)
    assert seen(read) == answer


@pytest.mark.parametrize(("key", "version"), SPOKEN)
def test_a_field_that_is_left_out_has_its_default(key: int, version: int) -> None:
    entity = response_class(key, version)
    read, _ = entity_reader(entity)(write_response(key, version, {}), 0)
    for field in fields(entity):
        if item_of(field.type) is not None:
            assert not getattr(read, field.name)
        elif isinstance(field.default, int | str):
            assert getattr(read, field.name) == field.default


def test_an_array_may_be_null_or_any_iterable() -> None:
    names = ["a", "b"]
    topics = ({"name": name, "partitions": iter([{"partition_index": 3}])} for name in names)
    read, _ = entity_reader(response_class(9, 7))(write_response(9, 7, {"topics": topics}), 0)
    assert [(topic.name, topic.partitions[0].partition_index) for topic in read.topics] == [("a", 3), ("b", 3)]
    read, _ = entity_reader(response_class(75, 0))(write_response(75, 0, {"topics": [
        {"partitions": [{"last_known_elr": None}]}]}), 0)  # fmt: skip
    assert read.topics[0].partitions[0].last_known_elr is None


def test_the_same_bytes_are_the_same_request() -> None:
    heartbeat = b"\0\x01g\0\0\0\x01\0\x01m"
    first = read_request(12, 0, heartbeat)
    assert (first.group_id, first.generation_id, first.member_id) == ("g", 1, "m")
    assert read_request(12, 0, heartbeat) is first
    assert read_request(12, 0, heartbeat[:-1] + b"n").member_id == "n"
