"""Schemas: what a class looks like to others, and which classes cannot."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Annotated, Any, Literal

import fastavro
import msgspec
import pytest
from tests.contracts.samples import Card, Colour, Defaults, Everything, Line, Money

from millstream.contracts import avro_schema, codec_for, schema_text
from millstream.contracts.schema import same_bytes
from millstream.declare import Alias, Number, Scale, Value
from millstream.declare.contract import ValueMeta
from millstream.errors import DeclarationError


def test_a_record() -> None:
    class Priced(Value, namespace="shop"):
        """A price.

        More words.
        """

        product: str
        price: Money
        state: Literal["new", "used"] = "new"
        note: str | None = None

    assert avro_schema(Priced) == {
        "type": "record",
        "name": "Priced",
        "namespace": "shop",
        "doc": "A price.",
        "fields": [
            {"name": "product", "type": "string"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}},
            {
                "name": "state",
                "type": {"type": "enum", "name": "PricedState", "namespace": "shop", "symbols": ["new", "used"]},
                "default": "new",
            },
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    }


def types_of(contract: type[Value]) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in avro_schema(contract)["fields"]}


def test_every_type() -> None:
    types = types_of(Everything)
    assert types["moment"] == {"type": "long", "logicalType": "timestamp-micros"}
    assert types["day"] == {"type": "int", "logicalType": "date"}
    assert types["uuid"] == {"type": "string", "logicalType": "uuid"}
    assert types["colour"]["symbols"] == ["red", "blue"]
    assert types["maybe_payment"] == ["null", "samples.Card", "samples.Invoice"]
    assert types["scalar"] == ["null", "long", "string", "boolean"]
    assert types["boxes"] == {"type": "map", "values": {"type": "array", "items": "samples.Line"}}
    assert types["clock"] == {"type": "long", "logicalType": "time-micros"}
    assert types["took"] == {"type": "long", "unit": "microseconds"}
    assert types["priority"]["symbols"] == ["LOW", "HIGH"]
    assert types["grade"]["symbols"] == ["_1", "_2", "_minus3"]
    assert [part["type"] for part in types["place"]["fields"]] == ["string", "long", ["null", "samples.Line"]]
    assert types["reached"][1]["items"]["name"] == "EverythingReached"
    assert types["tree"]["fields"][1] == {"name": "left", "type": ["null", "samples.Tree"], "default": None}
    fastavro.parse_schema(avro_schema(Everything))


def test_defaults_are_what_another_reader_fills_in() -> None:
    empty = fastavro.parse_schema({"type": "record", "name": "Defaults", "namespace": "samples", "fields": []})
    filled: Any = fastavro.schemaless_reader(io.BytesIO(b""), empty, fastavro.parse_schema(avro_schema(Defaults)))
    assert filled["money"] == ":\x98"  # fastavro leaves logical types of defaults to us
    assert filled["line"] == {"product": "p", "quantity": 1, "price": "N "}
    assert {name: filled[name] for name in ("text", "maybe", "maybe_text", "whole", "colour", "numbers", "raw")} == {
        "text": "x",
        "maybe": None,
        "maybe_text": "y",
        "whole": 7,
        "colour": "blue",
        "numbers": [],
        "raw": "\xff",
    }
    codec = codec_for(Defaults, 1)
    assert codec.decode(codec.encode(Defaults())) == Defaults()


def test_what_a_field_says_beside_its_type() -> None:
    assert avro_schema(Everything)["fields"][-1] == {
        "name": "region",
        "type": ["null", "string"],
        "doc": "Where it happened. Deprecated: country says it better",
        "aliases": ["area"],
        "deprecated": "country says it better",
        "default": None,
    }


def test_types_without_a_name_get_one_each() -> None:
    class Nested(Value, namespace="shop"):
        pairs: tuple[tuple[str, int], tuple[int, str], Literal["x"]]

    fields = types_of(Nested)["pairs"]["fields"]
    assert [part["type"]["name"] for part in fields] == ["NestedPairs2", "NestedPairs3", "NestedPairs4"]


def test_a_name_leads_to_one_field() -> None:
    class Twice(Value):
        old: str
        new: Annotated[str, Alias("old")]

    with pytest.raises(DeclarationError, match=r"Twice\.new: old is or was called old"):
        avro_schema(Twice)


def test_names_on_the_wire() -> None:
    class Renamed(Value, namespace="shop", rename="camel"):
        order_id: str

    assert [*types_of(Renamed)] == ["orderId"]
    codec = codec_for(Renamed, 1)
    assert codec.decode(codec.encode(Renamed(order_id="o-1"))) == Renamed(order_id="o-1")


class Plain(msgspec.Struct):
    x: int


@dataclass
class Data:
    x: int


class Holding(Value):
    numbers: list[int]


class Dashed(StrEnum):
    IN_TRANSIT = "in-transit"


class Mixed(Enum):
    A = "a"
    B = 2


class Nothing(Value, namespace="shop"):
    pass


@pytest.mark.parametrize(
    ("annotation", "remedy"),
    [
        (Decimal, r"Annotated\[Decimal, Scale\(18, 4\)\]"),
        (Annotated[Decimal, Scale(4, 5)], "between 0 and the precision"),
        (Any, "name the type"),
        (object, "name the type"),
        (list, "say what it holds"),
        (tuple, "say what it holds"),
        (tuple[()], "a Value with named fields"),
        (set, "say what it holds"),
        (dict[int, str], "keys of a dict are str"),
        (set[list[int]], "use a tuple"),
        (frozenset[Holding], "use a tuple"),
        (tuple[Annotated[int, Number(3)], ...], "put them outermost"),
        (complex, "use str, int"),
        (Plain, "make Plain a subclass of millstream.Value"),
        (Data, "make Data a subclass of millstream.Value"),
        (Mixed, "StrEnum"),
        (Dashed, "'in-transit'"),
        (Literal[1, "b"], "StrEnum"),
        (Literal[True], "StrEnum"),
        (Literal["a b"], "'a b'"),
        (str | Colour | Literal["x"], "differ on the wire"),
        (bytes | Money, "differ on the wire"),
        (tuple[int, ...] | list[int], "differ on the wire"),
        (tuple[Nothing, ...], "give the class a field"),
    ],
)
def test_what_cannot_be_said_is_refused_with_a_remedy(annotation: Any, remedy: str) -> None:
    wrong: Any = ValueMeta("Wrong", (Value,), {"__annotations__": {"part": annotation}, "__module__": __name__})
    with pytest.raises(DeclarationError, match=rf"Wrong\.part: .*{remedy}"):
        avro_schema(wrong)


def test_a_default_that_the_schema_cannot_hold() -> None:
    class Odd(Value, namespace="shop"):
        price: Money = Decimal("1.23456")

    with pytest.raises(DeclarationError, match=r"Odd\.price: the default"):
        avro_schema(Odd)


def test_two_classes_of_one_name() -> None:
    def line() -> Any:
        return ValueMeta("Line", (Value,), {"__annotations__": {"x": int}}, namespace="samples")

    both: Any = ValueMeta("Both", (Value,), {"__annotations__": {"a": Line, "b": line()}}, namespace="shop")
    with pytest.raises(DeclarationError, match=r"two different types are called samples\.Line"):
        avro_schema(both)


def test_the_text_is_stable_and_compact() -> None:
    assert schema_text(Card) == (
        '{"type":"record","name":"Card","namespace":"samples","fields":[{"name":"number","type":"string"}]}'
    )


def change(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda schema: schema["fields"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (lambda schema: schema.update(doc="words", aliases=["Old"]), True),
        (lambda schema: schema.update(name="samples.Line") or schema.pop("namespace"), True),
        (change(doc="words", default="x"), True),
        (change(type={"type": "string", "avro.java.string": "String"}), True),
        (change(type="bytes"), False),
        (change(name="article"), False),
        (lambda schema: schema.update(name="Row"), False),
        (lambda schema: schema["fields"].reverse(), False),
        (lambda schema: schema["fields"][2]["type"].update(scale=2), False),
        (lambda schema: schema["fields"][2].update(type="bytes"), False),
    ],
)
def test_which_schemas_have_the_same_bytes(edit: Callable[[dict[str, Any]], Any], same: bool) -> None:
    other = msgspec.json.decode(schema_text(Line))
    edit(other)
    assert same_bytes(avro_schema(Line), other) is same
