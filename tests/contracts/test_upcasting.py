"""Upcasters: what was written long ago reaches handlers in today's form, whatever it was written in."""

import io
from typing import Any

import fastavro
import pytest

from millstream import upcasts
from millstream.contracts import avro_schema, json_schema, protobuf_schema
from millstream.contracts.codec import codec_for
from millstream.contracts.framing import framing
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.declare import Event, Value
from millstream.errors import DeclarationError, DecodeError


class Weighed(Event, key="parcel", namespace="scale"):
    parcel: str
    grams: int


class Weighing(Value, namespace="scale"):
    """The second form."""

    parcel: str
    kilograms: float


class Weight(Value, namespace="scale", aliases=("com.example.Weight",)):
    """The first one."""

    parcel: str
    pounds: float


@upcasts(Weighed, Weighing)
def from_kilograms(old: Weighing) -> Weighed:
    return Weighed(parcel=old.parcel, grams=round(old.kilograms * 1000))


@upcasts(Weighing, Weight)
def from_pounds(old: Weight) -> Weighing:
    return Weighing(parcel=old.parcel, kilograms=old.pounds * 0.45359237)


@upcasts(Weighed, Weight)
def by_way_of_kilograms(old: Weight) -> Weighed:
    return from_kilograms(from_pounds(old))


@upcasts(Weighed, "scale.Weighed", having="ounces")
def from_ounces(old: dict[str, Any]) -> Weighed:
    return Weighed(parcel=old["parcel"], grams=round(old["ounces"] * 28.349523125))


WEIGHED = Weighed(parcel="p", grams=500)
EXPECTED = Expected([Weighed])
OUNCES = Written("JSON", {"title": "scale.Weighed", "properties": {"ounces": {}}})


def avro(name: str, field: str, value: float) -> tuple[Written, bytes]:
    fields = [{"name": "parcel", "type": "string"}, {"name": field, "type": "double"}]
    schema = {"type": "record", "name": name, "fields": fields}
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), {"parcel": "p", field: value})
    return Written("AVRO", schema), framing(1) + written.getvalue()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (Written("AVRO", avro_schema(Weighing)), codec_for(Weighing, 1).encode(Weighing(parcel="p", kilograms=0.5))),
        (
            Written("PROTOBUF", protobuf_schema(Weighing)),
            ProtobufCodec(Weighing, 1).encode(Weighing(parcel="p", kilograms=0.5)),
        ),
        (Written("JSON", json_schema(Weighing)), JsonCodec(Weighing, 1).encode(Weighing(parcel="p", kilograms=0.5))),
        avro("com.example.Weight", "pounds", 1.10231),
        avro("scale.Weight", "pounds", 1.10231),
        avro("scale.Weighed", "ounces", 17.637),
        (OUNCES, b'\0\0\0\0\1{"parcel":"p","ounces":17.637}'),
        (Written("AVRO", avro_schema(Weighed)), codec_for(Weighed, 1).encode(WEIGHED)),
    ],
)
def test_all_forms_become_todays(written: Written, message: bytes) -> None:
    assert EXPECTED.reader(1, written)(message) == WEIGHED


def refused(written: Written, message: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        EXPECTED.reader(1, written)(message)
    return raised.value


def test_bytes_that_the_old_schema_does_not_have_are_no_fault_of_the_upcaster() -> None:
    written, message = avro("scale.Weighed", "ounces", 1.0)
    assert refused(written, message[:-1]).reason == "truncated"


def test_an_upcaster_that_fails_makes_a_dead_letter() -> None:
    error = refused(*avro("scale.Weighed", "ounces", float("inf")))
    assert error.reason == "upcast_failed"
    assert error.detail == "scale.Weighed to Weighed: OverflowError: cannot convert float infinity to integer"


def test_an_upcaster_that_returns_what_no_schema_holds() -> None:
    class Counted(Event, key="what", namespace="scale"):
        what: str
        number: int

    @upcasts(Counted, "scale.Count")
    def wrong(old: dict[str, Any]) -> Counted:
        return Counted(what=old["parcel"], number=old["number"])

    written, message = avro("scale.Count", "number", 1.5)
    with pytest.raises(DecodeError, match=r"scale\.Count to Counted: Counted\.number: 1\.5 is no int") as raised:
        Expected([Counted]).reader(1, written)(message)
    assert raised.value.reason == "upcast_failed"


def test_a_protobuf_message_is_upcast_from_a_class() -> None:
    text = "package scale; message Weighed { string parcel = 1; int64 grams = 2; }"
    assert EXPECTED.reader(1, Written("PROTOBUF", text))(framing(1) + b"\0\x0a\x01p\x10\x05").grams == 5
    text = "package scale; message Weighed { string parcel = 1; double ounces = 2; }"
    with pytest.raises(DecodeError, match=r"upcast scale\.Weighed from a Value class"):
        EXPECTED.reader(1, Written("PROTOBUF", text))(framing(1) + b"\0\x0a\x01p")

    class Sent(Event, key="id", namespace="scale"):
        id: str

    upcasts(Sent, "scale.Dispatched")(lambda old: Sent(id=old["id"]))
    with pytest.raises(DecodeError, match=r"upcast scale\.Dispatched from a Value class"):
        Expected([Sent]).reader(1, Written("PROTOBUF", "package scale; message Dispatched {}"))(framing(1) + b"\0")


def test_one_upcaster_for_one_old_form() -> None:
    with pytest.raises(DeclarationError, match=r"Weighed has an upcaster from scale\.Weighing already"):
        upcasts(Weighed, "scale.Weighing")(lambda old: WEIGHED)
