"""Avro of others: the same bytes may stand for another kind of value, and then they are refused by name, or read as the
class says."""

import io
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro
import pytest
from tests.contracts.samples import Card, Colour, Line

from millstream import EpochMillis, EpochSeconds, FromNumber, FromText, LocalAsUtc
from millstream.contracts import avro_schema
from millstream.contracts.framing import framing
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.resolve import plain_decoder
from millstream.contracts.varint import long_bytes
from millstream.declare import Scale, Value
from millstream.declare.contract import ValueMeta
from millstream.errors import DeclarationError, DecodeError

MONEY = Annotated[Decimal, Scale(12, 2)]
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
MILLIS = int(NOON.timestamp()) * 1000


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name} | more


def connect(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "connect.version": 1, "connect.name": name} | more


def text(value: str) -> bytes:
    return raw(value.encode())


def raw(value: bytes) -> bytes:
    return long_bytes(len(value)) + value


DEBEZIUM = "io.debezium.time"
DECIMAL = connect("bytes", "org.apache.kafka.connect.data.Decimal", **{"connect.parameters": {"scale": "2"}})
SCALED = {
    "type": "record", "name": "VariableScaleDecimal", "namespace": "io.debezium.data",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
    "connect.name": "io.debezium.data.VariableScaleDecimal",
}  # fmt: skip
FIXED = {"type": "fixed", "name": "F", "size": 16}
READ: list[tuple[Any, bytes, Any, Any]] = [
    ("long", long_bytes(MILLIS), Annotated[datetime, EpochMillis], NOON),
    ("int", long_bytes(86_400), Annotated[datetime, EpochSeconds], datetime(1970, 1, 2, tzinfo=UTC)),
    (logical("long", "timestamp-millis"), long_bytes(MILLIS), datetime, NOON),
    (logical("long", "timestamp-millis"), long_bytes(MILLIS), Annotated[datetime, EpochSeconds], NOON),
    (logical("long", "timestamp-nanos"), long_bytes(MILLIS * 1_000_000 + 999), datetime, NOON),
    (logical("long", "local-timestamp-micros"), long_bytes(MILLIS * 1000), Annotated[datetime, LocalAsUtc], NOON),
    (connect("long", f"{DEBEZIUM}.Timestamp"), long_bytes(MILLIS), datetime, NOON),
    (connect("long", f"{DEBEZIUM}.MicroTimestamp"), long_bytes(MILLIS * 1000), datetime, NOON),
    (connect("long", f"{DEBEZIUM}.NanoTimestamp"), long_bytes(MILLIS * 1_000_000), datetime, NOON),
    (connect("string", f"{DEBEZIUM}.ZonedTimestamp"), text("2026-11-30T13:00:00+01:00"), datetime, NOON),
    (connect("long", f"{DEBEZIUM}.Timestamp"), long_bytes(MILLIS), int, MILLIS),
    (connect("int", f"{DEBEZIUM}.Date"), long_bytes(1), date, date(1970, 1, 2)),
    (connect("long", f"{DEBEZIUM}.MicroTime"), long_bytes(1_500_000), time, time(0, 0, 1, 500_000)),
    (connect("int", f"{DEBEZIUM}.Time"), long_bytes(1500), time, time(0, 0, 1, 500_000)),
    (connect("long", f"{DEBEZIUM}.MicroDuration"), long_bytes(1_500_000), timedelta, timedelta(seconds=1.5)),
    (DECIMAL, raw(b"\x7b"), MONEY, Decimal("1.23")),
    (DECIMAL | {"logicalType": "decimal", "precision": 64, "scale": 2}, raw(b"\x7b"), MONEY, Decimal("1.23")),
    (SCALED, long_bytes(1) + raw(b"\x0c"), MONEY, Decimal("1.20")),
    (connect("string", "io.debezium.data.Enum"), text("red"), Colour, Colour.RED),
    (connect("string", "io.debezium.data.Uuid"), text(str(UUID(int=7))), UUID, UUID(int=7)),
    ("string", text("1.23"), Annotated[Decimal, Scale(12, 2), FromText], Decimal("1.23")),
    ("string", text("2026-11-30T12:00:00Z"), Annotated[datetime, FromText], NOON),
    ("string", text("2026-11-30T12:00:00"), Annotated[datetime, FromText, LocalAsUtc], NOON),
    ("string", text("2026-11-30"), Annotated[date, FromText], date(2026, 11, 30)),
    ("string", text("blue"), Annotated[Colour, FromText], Colour.BLUE),
    ("string", text("PT1.5S"), Annotated[timedelta, FromText], timedelta(seconds=1.5)),
    ("long", long_bytes(3), Annotated[timedelta, FromNumber("days")], timedelta(3)),
    ("long", long_bytes(3000), Annotated[time, FromNumber("milliseconds")], time(0, 0, 3)),
    (logical("int", "time-millis"), long_bytes(3000), time, time(0, 0, 3)),
    # More digits than are declared: what was written is what is read.
    (logical("bytes", "decimal", precision=4, scale=2), raw(b"\x01\xe2\x40"), MONEY, Decimal("1234.56")),
    (logical("bytes", "decimal", precision=9, scale=4), raw((12_300).to_bytes(2, "big")), MONEY, Decimal("1.23")),
    (FIXED | {"logicalType": "decimal", "precision": 30, "scale": 2}, bytes(15) + b"\x7b", MONEY, Decimal("1.23")),
    (logical("bytes", "big-decimal"), raw(raw(b"\x7b") + long_bytes(2)), MONEY, Decimal("1.23")),
    (FIXED | {"logicalType": "uuid"}, UUID(int=7).bytes, UUID, UUID(int=7)),
    (logical("string", "uuid"), text(str(UUID(int=7))), UUID, UUID(int=7)),
    (logical("string", "uuid"), text("x"), str, "x"),
    ("string", text(str(UUID(int=7))), UUID, UUID(int=7)),
    ("int", long_bytes(-5), int, -5),
    ("float", struct.pack("<f", 0.5), float, 0.5),
    ("long", long_bytes(-5), float, -5.0),
    ("bytes", raw(b"abc"), str, "abc"),
    ("string", text("abc"), bytes, b"abc"),
    (logical("long", "date"), long_bytes(5), int, 5),  # not a day: Avro has no such type
    ({"type": "enum", "name": "Any", "symbols": ["x", "b", "a"]}, long_bytes(1), Literal["a", "b"], "b"),
    (["string", "long"], long_bytes(1) + long_bytes(5), int | str, 5),
    (["null", "string"], long_bytes(1) + text("x"), str, "x"),
    ({"type": "array", "items": "int"}, bytes.fromhex("03 04 02 04 00"), list[int], [1, 2]),  # as Java writes blocks
]  # fmt: skip

REFUSED: list[tuple[Any, bytes, Any, str]] = [
    ("string", text("1.23"), MONEY, "a string in the writer's schema, and Decimal in the class"),
    ("double", struct.pack("<d", 1.5), MONEY, "a double .* Decimal"),
    ("bytes", raw(b"\x7b"), MONEY, "a bytes .* Decimal"),
    ("long", long_bytes(MILLIS), datetime, "a long .* datetime"),
    ("long", long_bytes(MILLIS), timedelta, "a long .* timedelta"),
    ("int", long_bytes(5), date, "an int .* date"),
    ("int", long_bytes(5), time, "an int .* time"),
    ("string", text("2026-11-30"), date, "a string .* date"),
    (logical("long", "date"), long_bytes(5), date, "a long .* date"),
    (logical("long", "local-timestamp-millis"), long_bytes(MILLIS), datetime, r"a long \(local, 1000 a second\)"),
    (logical("long", "timestamp-millis"), long_bytes(MILLIS), int, r"a long \(moment, 1000 a second\) .* int"),
    (logical("long", "time-micros"), long_bytes(5), datetime, r"a long \(time.*datetime"),
    ({"type": "long", "unit": "microseconds"}, long_bytes(5), int, r"a long \(duration.*int"),
    (logical("int", "date"), long_bytes(5), int, r"an int \(date\) .* int"),
    (logical("bytes", "decimal", precision=4, scale=2), raw(b"\x7b"), bytes, r"a bytes \(decimal\) .* bytes"),
    (logical("bytes", "decimal", precision=4, scale=2), raw(b"\x7b"), str, r"a bytes \(decimal\) .* str"),
    (FIXED | {"size": 12, "logicalType": "duration"}, bytes(12), timedelta, "months, days and milliseconds"),
    ("boolean", b"\1", int, "a boolean .* int"),
    ("double", struct.pack("<d", 1.5), int, "a double .* int"),
    ({"type": "enum", "name": "Paint", "symbols": ["red"]}, b"\0", Colour, r"an enum others\.Paint .* Colour"),
    ({"type": "record", "name": "Paper", "fields": [{"name": "number", "type": "string"}]}, text("1"), Card, "Paper"),
    (["null", "string"], b"\0", str, "a null .* str"),
    ({"type": "array", "items": {"type": "array", "items": "string"}}, bytes.fromhex("020202610000"), dict[str, str],
     "an array .* dict"),
]  # fmt: skip

INVALID: list[tuple[Any, bytes, Any, str]] = [
    (logical("bytes", "decimal", precision=9, scale=4), raw(b"\x7b"), MONEY, "more than 12 digits, 2 of them after"),
    (connect("long", f"{DEBEZIUM}.MicroTime"), long_bytes(86_400_000_000), time, "hour must be in 0..23"),
    (connect("long", f"{DEBEZIUM}.MicroTimestamp"), long_bytes((1 << 63) - 1), datetime, "out of range|OverflowError"),
    ("string", text("abc"), Annotated[Decimal, Scale(12, 2), FromText], "no decimal"),
    ("string", text("NaN"), Annotated[Decimal, Scale(12, 2), FromText], "digits"),
    ("string", text("1e400"), Annotated[Decimal, Scale(12, 2), FromText], "digits"),
    ("string", text("2026-11-30T12:00:00"), Annotated[datetime, FromText], "without a zone"),
    ("string", text("tomorrow"), Annotated[datetime, FromText], "RFC3339"),
    ("string", text("green"), Annotated[Colour, FromText], "'green' is none of red, blue"),
    ({"type": "enum", "name": "Colour", "symbols": ["green"]}, b"\0", Colour, "'green' is none of red, blue"),
    ("string", text("no uuid"), UUID, "badly formed"),
    ("bytes", raw(b"\xff"), str, "utf-8"),
    (logical("bytes", "big-decimal"), raw(b"\x7b"), MONEY, "no big-decimal"),
    (logical("bytes", "big-decimal"), raw(raw(b"\x7b") + long_bytes(1 << 40)), MONEY, "a decimal of the scale"),
]  # fmt: skip


def decoded(of: Any, payload: bytes, annotation: Any, *, place: str = "") -> Any:
    """What a class with one field of this type makes of a foreign record."""
    if place == "list":
        of, annotation, payload = {"type": "array", "items": of}, tuple[annotation, ...], b"\2" + payload + b"\0"
    elif place == "map":
        of, annotation, payload = {"type": "map", "values": of}, dict[str, annotation], b"\2\2k" + payload + b"\0"
    elif place == "optional":
        of, annotation, payload = ["null", of], annotation | None, b"\2" + payload
    body = {"__annotations__": {"amount": annotation}, "__module__": __name__}
    contract: Any = ValueMeta("Foreign", (Value,), body, namespace="others")
    schema = {"type": "record", "name": "others.Foreign", "fields": [{"name": "amount", "type": of}]}
    return Expected([contract]).reader(1, Written("AVRO", schema))(framing(1) + payload).amount


PLACES = pytest.mark.parametrize("place", ["", "list", "map", "optional"])


@PLACES
@pytest.mark.parametrize(("of", "payload", "annotation", "value"), READ)
def test_what_is_read(of: Any, payload: bytes, annotation: Any, value: Any, place: str) -> None:
    if place == "optional" and isinstance(of, list):
        return
    found = decoded(of, payload, annotation, place=place)
    wanted = {"": value, "list": (value,), "map": {"k": value}, "optional": value}[place]
    assert found == wanted
    assert repr(found) == repr(wanted)


@PLACES
@pytest.mark.parametrize(("of", "payload", "annotation", "why"), REFUSED)
def test_what_is_refused_with_the_field(of: Any, payload: bytes, annotation: Any, why: str, place: str) -> None:
    if place == "optional" and isinstance(of, list):
        return
    with pytest.raises(
        DecodeError, match=rf"Foreign\.amount.*{why}" if place != "optional" else r"Foreign\.amount"
    ) as raised:
        decoded(of, payload, annotation, place=place)
    assert raised.value.reason == "incompatible_schema"


@PLACES
@pytest.mark.parametrize(("of", "payload", "annotation", "why"), INVALID)
def test_values_that_the_class_cannot_hold(of: Any, payload: bytes, annotation: Any, why: str, place: str) -> None:
    with pytest.raises(DecodeError, match=rf"Foreign\.amount.*({why})") as raised:
        decoded(of, payload, annotation, place=place)
    assert raised.value.reason == "invalid"


def test_a_field_that_nobody_wants_may_hold_anything() -> None:
    fields: list[dict[str, Any]] = [
        {"name": "when", "type": logical("int", "date")},
        {"name": "name", "type": "string"},
        {"name": "number", "type": "string"},
    ]
    schema = {"type": "record", "name": "Card", "namespace": "samples", "fields": fields}
    message = framing(1) + long_bytes((1 << 31) - 1) + raw(b"ok") + text("4111")
    assert Expected([Card]).reader(1, Written("AVRO", schema))(message) == Card(number="4111")


def test_a_type_may_be_used_before_it_is_declared() -> None:
    """Java 1.12 writes such schemas."""
    fields = [
        {"name": "first", "type": "Card"},
        {
            "name": "second",
            "type": {"type": "record", "name": "Card", "fields": [{"name": "number", "type": "string"}]},
        },
    ]

    class Two(Value, namespace="samples"):
        first: Card
        second: Card

    schema = {"type": "record", "name": "Two", "namespace": "samples", "fields": fields}
    read = Expected([Two]).reader(1, Written("AVRO", schema))
    assert read(framing(1) + text("1") + text("2")) == Two(first=Card(number="1"), second=Card(number="2"))


def test_short_names_that_fit_two_branches_are_refused() -> None:
    one: Any = ValueMeta("Card", (Value,), {"__annotations__": {"number": str}, "__module__": __name__}, namespace="a")
    other: Any = ValueMeta(
        "Card", (Value,), {"__annotations__": {"number": str}, "__module__": __name__}, namespace="b"
    )
    body = {"__annotations__": {"by": one | other}, "__module__": __name__}
    both: Any = ValueMeta("Both", (Value,), body, namespace="a")
    card = {"type": "record", "name": "c.Card", "fields": [{"name": "number", "type": "string"}]}
    schema = {"type": "record", "name": "a.Both", "fields": [{"name": "by", "type": card}]}
    with pytest.raises(DecodeError, match=r"Both\.by.*might be Card and Card"):
        Expected([both]).reader(1, Written("AVRO", schema))(framing(1) + text("1"))
    schema["fields"][0]["type"] = [card, card | {"name": "a.Card"}]
    only: Any = ValueMeta(
        "Both", (Value,), {"__annotations__": {"by": one | Line}, "__module__": __name__}, namespace="a"
    )
    read = Expected([only]).reader(1, Written("AVRO", schema))
    assert read(framing(1) + b"\2" + text("1")).by == one(number="1")
    with pytest.raises(DecodeError, match=r"Both\.by: a record c\.Card"):
        read(framing(1) + b"\0" + text("1"))


def test_our_own_values_that_are_out_of_range_name_the_field() -> None:
    class Dated(Value, namespace="others"):
        name: str
        day: date

    read = Expected([Dated]).reader(1, Written("AVRO", avro_schema(Dated)))
    with pytest.raises(DecodeError, match=r"invalid: Dated\.day: "):
        read(framing(1) + text("x") + long_bytes(1 << 30))


def test_fastavro_writes_what_we_read_without_a_class() -> None:
    """An upcaster by name gets a dict with all digits, and with times where the schema has times."""
    fields: list[dict[str, Any]] = [
        {"name": "at", "type": logical("long", "timestamp-millis")},
        {"name": "amount", "type": logical("bytes", "decimal", precision=9, scale=2)},
        {"name": "colour", "type": {"type": "enum", "name": "C", "symbols": ["red"]}},
        {"name": "more", "type": {"type": "map", "values": ["null", {"type": "array", "items": "long"}]}},
        {"name": "local", "type": logical("long", "local-timestamp-millis")},
    ]
    schema = {"type": "record", "name": "R", "fields": fields}
    value = {
        "at": NOON,
        "amount": Decimal("1.23"),
        "colour": "red",
        "more": {"a": None, "b": [1, 2]},
        "local": NOON.replace(tzinfo=None),
    }
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), value)
    assert plain_decoder(schema)(framing(1) + written.getvalue()) == value


def test_a_note_that_says_nothing_of_its_type_is_refused() -> None:
    for annotation in (
        Annotated[int, EpochMillis],
        Annotated[str, FromText],
        Annotated[date, LocalAsUtc],
        Annotated[date, EpochMillis],
    ):
        body = {"__annotations__": {"odd": annotation}, "__module__": __name__}
        with pytest.raises(DeclarationError, match=r"Odd\.odd: no schema can say"):
            avro_schema(ValueMeta("Odd", (Value,), body))


def test_a_type_without_a_namespace_has_that_of_its_declaration_wherever_it_is_named():
    """For the look at damaged bytes, too: what they lack was told as a schema that makes no sense."""
    size = {"type": "record", "name": "Size", "fields": [{"name": "grams", "type": "long"}]}
    part = {
        "type": "record",
        "name": "Part",
        "fields": [{"name": "size", "type": size}, {"name": "box", "type": "Size"}],
    }
    other = {"type": "record", "name": "b.Other", "fields": [{"name": "part", "type": "a.Part"}]}
    fields = [{"name": "part", "type": part}, {"name": "other", "type": other}]
    schema = {"type": "record", "name": "a.Whole", "fields": fields}
    message = b"\0\0\0\0\x07\x02\x04\x06\x08"
    sizes = [{"size": {"grams": n}, "box": {"grams": n + 1}} for n in (1, 3)]
    assert plain_decoder(schema)(message) == {"part": sizes[0], "other": {"part": sizes[1]}}
    with pytest.raises(DecodeError, match=r"truncated: .* Whole\.other\.part\.box\.grams"):
        plain_decoder(schema)(message[:-1])
