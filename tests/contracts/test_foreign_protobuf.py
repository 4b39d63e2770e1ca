"""Protobuf of others, written by Google's library: read by the writer's file, or refused with the field's name."""

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from tests.contracts.samples import Card, Invoice, Money
from tests.contracts.test_properties import INCLUDED

from millstream import EpochMillis
from millstream.contracts import Registry, protobuf_schema
from millstream.contracts.framing import framing
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.declare import Alias, Number, Scale, Value
from millstream.declare.contract import ValueMeta
from millstream.errors import DecodeError

HEAD = """
syntax = "proto3";
package others;
import "google/protobuf/wrappers.proto";
import "google/protobuf/timestamp.proto";
"""


def contract(fields: dict[str, Any], defaults: dict[str, Any] | None = None, name: str = "Foreign", **more: Any) -> Any:
    body = {"__annotations__": fields, "__module__": __name__} | (defaults or {})
    return ValueMeta(name, (Value,), body, namespace="others", **more)


def google(text: str, folder: Path) -> Any:
    (folder / "foreign.proto").write_text(text)
    compiled = folder / "foreign.bin"
    arguments = ["protoc", f"-I{folder}", f"-I{INCLUDED}", f"--descriptor_set_out={compiled}", "--include_imports"]
    assert protoc.main([*arguments, str(folder / "foreign.proto")]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("others.Foreign"))


def read(of: Any, text: str, message: bytes) -> Any:
    return Expected([of]).reader(1, Written("PROTOBUF", text))(framing(1) + b"\0" + message)


def refused(of: Any, text: str, message: bytes = b"") -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        read(of, text, message)
    return raised.value


WHOLE = ["int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64"]


def test_numbers_of_every_kind_alone_repeated_and_in_maps(tmp_path: Path) -> None:
    """-5 as a sint64 came as 9, and a fixed64 as 0."""
    kinds = [*WHOLE, "float", "double", "bool", "string", "bytes"]
    lines, at = [], 0
    for kind in kinds:
        for declared in (f"{kind} one_{kind}", f"repeated {kind} some_{kind}", f"map<string, {kind}> map_{kind}"):
            at += 1
            lines.append(f"  {declared} = {at + 40};")
    text = f"{HEAD}message Foreign {{\n" + "\n".join(lines) + "\n}"
    types: dict[str, Any] = dict.fromkeys(WHOLE, int) | {
        "float": float, "double": float, "bool": bool, "string": str, "bytes": bytes
    }  # fmt: skip
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for kind in kinds:
        number = 5 if kind.startswith(("u", "fixed")) else -5
        value = {"float": 0.5, "double": -0.1, "bool": True, "string": "é", "bytes": b"\xff"}.get(kind, number)
        empty = type(value)()
        fields |= {f"one_{kind}": types[kind], f"some_{kind}": list[types[kind]], f"map_{kind}": dict[str, types[kind]]}
        values |= {f"one_{kind}": value, f"some_{kind}": [value, empty, value], f"map_{kind}": {"k": value, "e": empty}}
    of = contract(fields)
    written = google(text, tmp_path)(**values)
    assert read(of, text, written.SerializeToString()) == of(**values)
    zeros = {name: type(value)() for name, value in values.items()}
    assert read(of, text, b"") == of(**zeros)


def test_wrappers_and_times(tmp_path: Path) -> None:
    text = (
        HEAD
        + """message Foreign {
        google.protobuf.Int64Value whole = 1; google.protobuf.StringValue text = 2;
        google.protobuf.DoubleValue real = 3;
        google.protobuf.BoolValue truth = 4; google.protobuf.Timestamp at = 5; sint64 millis = 6; string day = 7;
        string amount = 8; google.protobuf.UInt32Value gone = 9; google.protobuf.BytesValue raw = 10; }"""
    )
    of = contract(
        {
            "whole": int | None, "text": str, "real": float, "truth": bool | None, "at": datetime,
            "millis": Annotated[datetime, EpochMillis], "day": date, "amount": Annotated[Decimal, Scale(9, 2)],
            "gone": int | None, "raw": bytes,
        }
    )  # fmt: skip
    message: Any = google(text, tmp_path)(millis=-1000, day="2026-11-30", amount="1.5")
    message.whole.value, message.text.value, message.real.value = -5, "", 0.5
    message.truth.value, message.raw.value, message.at.seconds = False, b"\xff", 60
    assert read(of, text, message.SerializeToString()) == of(
        whole=-5,
        text="",
        real=0.5,
        truth=False,
        at=datetime(1970, 1, 1, 0, 1, tzinfo=UTC),
        millis=datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        day=date(2026, 11, 30),
        amount=Decimal("1.50"),
        gone=None,
        raw=b"\xff",
    )


def test_fields_go_by_name_and_then_by_number() -> None:
    of = contract({"grams": int, "parcel": Annotated[str, Alias("pkg")]})
    message = b"\x0a\x01p\x38\x05"
    for parcel in ("parcel", "pkg"):
        text = f"{HEAD}message Foreign {{ string {parcel} = 1; int64 grams = 7; }}"
        assert read(of, text, message) == of(grams=5, parcel="p")
    renamed = contract({"mass": int, "label": str})
    text = f"{HEAD}message Foreign {{ string parcel = 2; int64 grams = 1; }}"
    assert read(renamed, text, b"\x08\x05\x12\x01p") == renamed(mass=5, label="p")


def test_a_field_put_in_front_takes_no_number_of_another() -> None:
    old, new = contract({"a": str, "b": str}), contract({"c": str | None, "a": str, "b": str}, {"c": None})
    assert read(new, protobuf_schema(old), ProtobufCodec(old, 1).encode(old(a="x", b="y"))[6:]) == new(a="x", b="y")


@pytest.mark.parametrize(
    ("fields", "body", "why"),
    [
        ({"grams": int}, "string grams = 1;", "Foreign.grams: string in the writer's schema, and int in the class"),
        ({"grams": int}, "bool grams = 1;", "Foreign.grams: bool in the writer's schema, and int in the class"),
        ({"grams": int}, "double grams = 1;", "Foreign.grams: double in the writer's schema, and int in the class"),
        ({"ok": bool}, "int32 ok = 1;", "Foreign.ok: int32 in the writer's schema, and bool in the class"),
        ({"price": Money}, "double price = 1;", "Foreign.price: double in the writer's schema, and Decimal"),
        ({"at": datetime}, "int64 at = 1;", "Foreign.at: int64 in the writer's schema, and datetime in the class"),
        ({"at": datetime}, "string at = 1;", "Foreign.at: string in the writer's schema, and datetime in the class"),
        ({"n": int}, "repeated int64 n = 1;", "Foreign.n: the writer's others.Foreign.n is repeated int64"),
        ({"n": list[int]}, "int64 n = 1;", "Foreign.n: the writer's others.Foreign.n is int64"),
        ({"n": dict[str, int]}, "map<int32, int64> n = 1;", "Foreign.n: the keys of the writer's others.Foreign.n are"),
        ({"grams": int}, "int64 mass = 2;", "Foreign.grams: the writer's others.Foreign has no such field"),
        ({"of": Card}, "int64 of = 1;", "Foreign.of: int64 in the writer's schema, and Card in the class"),
        ({"of": Card}, "Odd of = 1; message Odd { int64 number = 1; }", "Card.number: int64 in the writer's schema"),
        ({"of": Card}, "Far of = 1;", "Foreign.of: the writer's Far is not declared in its schema"),
        ({"n": Annotated[int, Number(3)]}, "int64 n = 1;", "Foreign.n: it has the number 1 in the writer's"),
        ({"by": Card | Invoice}, "string by = 1;", "Foreign.by: string in the writer's schema, and ForeignBy"),
    ],
)  # fmt: skip
def test_what_is_refused_with_the_field(fields: dict[str, Any], body: str, why: str) -> None:
    message = b"\x0a\x00" if "Odd" in body else b""
    error = refused(contract(fields), f"{HEAD}message Foreign {{ {body} }}", message)
    assert (error.reason, error.detail[: len(why)]) == ("incompatible_schema", why)


def test_unsigned_numbers_beyond_a_long_are_refused() -> None:
    for kind, message in (("uint64", b"\x08" + b"\xff" * 9 + b"\x01"), ("fixed64", b"\x09" + b"\xff" * 8)):
        error = refused(contract({"n": int}), f"{HEAD}message Foreign {{ {kind} n = 1; }}", message)
        assert error.detail.startswith("Foreign.n: ValueError: 18446744073709551615 does not fit 64 bits")


def test_what_is_absent_is_what_the_writer_says_it_is() -> None:
    of = contract({"n": int, "m": int | None, "o": int}, {"n": 100, "m": None, "o": 7})
    text = HEAD + "message Foreign { int64 n = 1; int64 m = 2; optional int64 o = 3; }"
    assert read(of, text, b"") == of(n=0, m=0, o=7)
    needed = contract({"n": int})
    assert refused(needed, HEAD + "message Foreign { optional int64 n = 1; }").detail == "Foreign.n is missing"
    old = 'syntax = "proto2"; package others; message Foreign { optional int64 n = 1 [default = 5]; }'
    assert refused(of, old).detail == "Foreign.n is missing"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Priority(IntEnum):
    LOW = 0
    HIGH = 10


def test_numbers_that_an_enumeration_lacks_name_the_field() -> None:
    of = contract({"colour": Colour, "priority": Priority})
    codec = ProtobufCodec(of, 1)
    assert codec.decode(codec.encode(of(colour=Colour.RED, priority=Priority.LOW))).colour is Colour.RED
    for message, why in (
        (b"\x08\x07", "Foreign.colour: the enumeration has no number 7"),
        (b"\x08\x01\x10\x07", "Foreign.priority: the enumeration has no number 7"),
        (b"", "Foreign.colour is missing"),
    ):
        with pytest.raises(DecodeError) as raised:
            codec.read(framing(1) + b"\0" + message)
        assert (raised.value.reason, raised.value.detail) == ("invalid", why)


def test_enumerations_go_by_the_names_of_the_writer() -> None:
    of = contract({"colour": Colour, "all": list[Colour], "by": dict[str, Colour]})
    body = "Colour colour = 1; repeated Colour all = 2; map<string, Colour> by = 3;"
    for names in ("BLUE = 0; RED = 5; GREEN = 6;", "COLOUR_BLUE = 0; COLOUR_RED = 5; COLOUR_GREEN = 6;"):
        text = f"{HEAD}message Foreign {{ {body} }} enum Colour {{ {names} }}"
        message = bytes.fromhex("0805 12020500 1a050a016b1005 1a030a0165")
        red, blue = Colour.RED, Colour.BLUE
        assert read(of, text, message) == of(colour=red, all=[red, blue], by={"k": red, "e": blue})
        green = names.split()[-3]
        assert refused(of, text, b"\x08\x06").detail == f"Foreign.colour: 6 ({green}) is none of red, blue"
        assert refused(of, text, b"\x08\x09").detail == "Foreign.colour: the number 9 is none of red, blue"
    text = f"{HEAD}message Foreign {{ {body} }} enum Colour {{ NO = 0; YES = 1; }}"
    assert refused(of, text).detail == "Foreign.colour: the writer's Colour has none of red, blue"


def test_a_branch_that_the_class_lacks_is_not_none() -> None:
    old, new = contract({"by": Card | Invoice | None}), contract({"by": Card | Money | None})
    message = ProtobufCodec(old, 1).encode(old(by=Invoice(due=date(2026, 1, 1))))[6:]
    error = refused(new, protobuf_schema(old), message)
    assert error.detail == "ForeignBy: the writer's others.ForeignBy holds invoice, which the class does not have"
    message = ProtobufCodec(old, 1).encode(old(by=None))[6:]
    assert read(new, protobuf_schema(old), message) == new(by=None)


def test_values_that_the_class_cannot_hold_name_the_field() -> None:
    of = contract({"name": str, "price": Money, "day": date, "at": datetime})
    codec = ProtobufCodec(of, 1)
    for message, why in (
        (b"\x0a\x01\xff", "Foreign.name: UnicodeDecodeError"),
        (b"\x12\x03NaN", "Foreign.price: ValueError"),
        (b"\x12\x07" + b"1.23456", "Foreign.price: Inexact"),
        (b"\x1a\x03abc", "Foreign.day: ValueError"),
        (b"\x22\x0b\x10" + b"\xff" * 9 + b"\x01", "Foreign.at: ValueError: -1 nanoseconds"),
    ):
        with pytest.raises(DecodeError) as raised:
            codec.read(framing(1) + b"\0" + message)
        assert raised.value.detail.startswith(why)


def test_types_of_imported_files_are_fetched(registry_url: str) -> None:
    common = 'syntax = "proto3"; package shop; message Code { string text = 2; }'
    card = 'syntax = "proto3"; package shop; import "code.proto"; message Card { Code number = 4; }'
    text = 'syntax = "proto3"; package others; import "card.proto"; message Foreign { shop.Card by = 1; }'
    schema_id = 0
    for subject, schema, references in (
        ("imported-code", common, []),
        ("imported-card", card, [{"name": "code.proto", "subject": "imported-code", "version": 1}]),
        ("imported-foreign", text, [{"name": "card.proto", "subject": "imported-card", "version": 1}]),
    ):
        body = {"schema": schema, "schemaType": "PROTOBUF", "references": references}
        url = f"{registry_url}/subjects/{subject}/versions"
        schema_id = httpx.post(url, json=body).raise_for_status().json()["id"]

    of = contract({"by": contract({"number": contract({"text": str}, name="Code")}, name="Card")})
    written = Registry(registry_url).written(schema_id)
    assert written is not None
    assert {*written.imports} == {"card.proto", "code.proto"}
    value = Expected([of]).reader(1, written)(framing(1) + b"\0\x0a\x05\x22\x03\x12\x01x")
    assert value.by.number.text == "x"


def test_types_of_imported_files_are_read() -> None:
    text = 'syntax = "proto3"; package others; import "shop/card.proto"; message Foreign { shop.Card by = 1; }'
    card = 'syntax = "proto3"; package shop; message Card { string number = 4; }'
    of = contract({"by": Card})
    read_imported = Expected([of]).reader(1, Written("PROTOBUF", text, {"shop/card.proto": card}))
    assert read_imported(framing(1) + b"\0\x0a\x03\x22\x01x") == of(by=Card(number="x"))
