"""Classes that change: whatever fields come, go or change places, what was written before keeps its values.

A writer's class and a reader's class of the same name are drawn, with fields from one pool of types in any order; what
both have arrives as it was written, and what the reader alone has is its default: wherever a class can stand.
"""

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.samples import Card, Colour, Line, Money, Priority
from tests.contracts.strategies import Typed, card, line, moment, text, typed, whole
from tests.contracts.test_properties import QUICK

from millstream.contracts import avro_schema, codec_for, json_schema, protobuf_schema
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.declare import Alias, Value
from millstream.declare.contract import ValueMeta

DEFAULTS: list[tuple[Any, Any]] = [
    (str, "x"),
    (int, 7),
    (bool, True),
    (float, 1.5),
    (bytes, b"\xff\0"),
    (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    (date, date(2026, 11, 30)),
    (time, time(12, 30)),
    (timedelta, timedelta(seconds=-1)),
    (UUID, UUID(int=5)),
    (Money, Decimal("1.5000")),
    (Colour, Colour.BLUE),
    (Priority, Priority.HIGH),
    (Literal["new", "paid"], "paid"),
    (Literal[1, -3], -3),
    (Line, Line(product="p", quantity=1, price=Decimal("2.0000"))),
    (tuple[str, Priority], ("x", Priority.LOW)),
    (tuple[date, ...], (date(2026, 1, 2),)),
    (frozenset[int], frozenset({3})),
    (Card | Line, Card(number="4111")),
    (date | str | None, date(2026, 1, 3)),
]
DEFAULTS += [(of | None, given) for of, given in DEFAULTS[:16]] + [(of | None, None) for of, _ in DEFAULTS[:16]]


def made(name: str, fields: dict[str, Any], defaults: dict[str, Any]) -> Any:
    body = {"__annotations__": fields, "__module__": __name__} | defaults
    return ValueMeta(name, (Value,), body, namespace="evolution")


def avro(old: Any) -> tuple[Written, Callable[[Any], bytes]]:
    return Written("AVRO", avro_schema(old)), codec_for(old, 1).encode


def in_json(old: Any) -> tuple[Written, Callable[[Any], bytes]]:
    return Written("JSON", json_schema(old)), JsonCodec(old, 1).encode


def protobuf(old: Any) -> tuple[Written, Callable[[Any], bytes]]:
    return Written("PROTOBUF", protobuf_schema(old)), ProtobufCodec(old, 1).encode


FORMATS = pytest.mark.parametrize("of", [avro, in_json, protobuf])
Places = dict[str, Callable[[Any], tuple[Any, Callable[[Any], Any]]]]
PLACES: Places = {
    "itself": lambda part: (part, lambda value: value),
    "field": lambda part: (made("Holder", {"part": part}, {}), lambda value: {"part": value}),
    "optional": lambda part: (made("Holder", {"part": part | None}, {}), lambda value: {"part": value}),
    "union": lambda part: (made("Holder", {"part": Card | part}, {}), lambda value: {"part": value}),
    "list": lambda part: (made("Holder", {"part": list[part]}, {}), lambda value: {"part": [value, value]}),
    "map": lambda part: (made("Holder", {"part": dict[str, part]}, {}), lambda value: {"part": {"k": value}}),
    "tuple": lambda part: (made("Holder", {"part": tuple[int, part]}, {}), lambda value: {"part": (1, value)}),
}


def within(place: str, part: Any, value: Value) -> tuple[Any, Any]:
    """A class that has the part in this place, and a value of it."""
    holder, given = PLACES[place](part)
    return holder, value if place == "itself" else holder(**given(value))


def check(of: Callable[[Any], Any], old: tuple[Any, Any], new: tuple[Any, Any]) -> None:
    written, encode = of(old[0])
    assert Expected([new[0]]).reader(1, written)(encode(old[1])) == new[1]


@FORMATS
@pytest.mark.parametrize("place", PLACES)
def test_a_field_that_comes_with_a_default(of: Any, place: str) -> None:
    for annotation, default in DEFAULTS:
        old = made("Part", {"kept": str}, {})
        new = made("Part", {"kept": str, "added": annotation}, {"added": default})
        before, after = old(kept="k"), new(kept="k")
        check(of, within(place, old, before), within(place, new, after))


POOL: list[Typed] = [
    (Line, line),
    (Line | None, st.none() | line),
    (tuple[Line, ...], st.lists(line, max_size=2).map(tuple)),
    (dict[str, Line], st.dictionaries(text, line, max_size=2)),
    (Card | Line, card | line),
    (Colour, st.sampled_from(Colour)),
    (Colour | None, st.none() | st.sampled_from(Colour)),
    (list[Colour], st.lists(st.sampled_from(Colour), max_size=2)),
    (Literal["a", "b"], st.sampled_from(["a", "b"])),
    (tuple[int, Line], st.tuples(whole, line)),
    (datetime | Colour, moment | st.sampled_from(Colour)),
]


@pytest.mark.slow
@FORMATS
@given(st.data())
@settings(QUICK, max_examples=100)
def test_fields_that_come_go_and_change_places(of: Any, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(st.sampled_from(POOL) | typed, min_size=1, max_size=6))
    pool = {f"f{n}": one for n, one in enumerate(drawn)}
    written = data.draw(st.permutations(list(pool)).flatmap(lambda names: st.integers(1, len(names)).map(
        lambda size: names[:size])))  # fmt: skip
    read = data.draw(st.permutations(list(pool)))
    old = made("Part", {name: pool[name][0] for name in written}, {})
    before = old(**{name: data.draw(pool[name][1]) for name in written})
    annotations: dict[str, Any] = {name: pool[name][0] for name in read}
    defaults: dict[str, Any] = {}
    for name in set(read) - set(written):
        annotations[name], defaults[name] = annotations[name] | None, None
    new = made("Part", annotations, defaults)
    after = new(**{name: getattr(before, name) for name in written})
    place = data.draw(st.sampled_from(list(PLACES)))
    check(of, within(place, old, before), within(place, new, after))


class Shade(enum.StrEnum):
    LIGHT = "light"
    RED = "red"
    BLUE = "blue"


Shade.__name__ = Shade.__qualname__ = "Colour"


@FORMATS
def test_a_member_put_in_front_leaves_the_others_what_they_are(of: Any) -> None:
    old, new = made("Part", {"colour": Colour}, {}), made("Part", {"colour": Shade}, {})
    for member in Colour:
        check(of, (old, old(colour=member)), (new, new(colour=Shade(member.value))))


@FORMATS
def test_a_branch_put_in_front_leaves_the_others_what_they_are(of: Any) -> None:
    ticket = made("Ticket", {"code": str}, {})
    old, new = made("Part", {"by": Card | Line}, {}), made("Part", {"by": ticket | Card | Line}, {})
    check(of, (old, old(by=Card(number="1"))), (new, new(by=Card(number="1"))))


@FORMATS
def test_a_renamed_class_a_renamed_field_and_types_without_names(of: Any) -> None:
    old = made("Part", {"state": Literal["new", "paid"], "at": tuple[int, str]}, {})
    body = {
        "__annotations__": {
            "place": Annotated[tuple[int, str], Alias("at")],
            "phase": Annotated[Literal["new", "paid", "gone"], Alias("state")],
        },
        "__module__": __name__,
    }
    new: Any = ValueMeta("Piece", (Value,), body, namespace="evolution", aliases=("Part",))
    value = new(place=(1, "x"), phase="paid")
    check(of, (old, old(state="paid", at=(1, "x"))), (new, value))
    holder = made("Holder", {"part": new | Card}, {})
    before = made("Holder", {"part": Card | old}, {})
    if of is not in_json:  # a branch of a union goes by today's name there
        check(of, (before, before(part=old(state="paid", at=(1, "x")))), (holder, holder(part=value)))


@FORMATS
def test_the_own_name_of_a_field_stands_before_its_former_ones(of: Any) -> None:
    """The careful rename writes both for a while."""
    for names in (("customer", "client"), ("client", "customer")):
        old = made("Part", dict.fromkeys(names, str), {})
        body = {"__annotations__": {"client": Annotated[str, Alias("customer")]}, "__module__": __name__}
        new: Any = ValueMeta("Part", (Value,), body, namespace="evolution")
        check(of, (old, old(customer="former", client="today")), (new, new(client="today")))
