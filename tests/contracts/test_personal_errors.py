"""No error text quotes what a `Personal` field holds, whatever format it is written in and however wrong it is."""

import io
import json
import logging
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream import Event, FromText, Personal, Scale, Timer, Topic, Value, upcasts
from millstream.contracts.cloudevents import cloudevents_decoder, structured
from millstream.contracts.codec import codec_for
from millstream.contracts.described import describe, read_described
from millstream.contracts.foreign_json import json_decoder, json_encoder
from millstream.contracts.json_schema import JsonCodec, json_schema, json_writer
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.contracts.schema import avro_schema
from millstream.declare import full_name
from millstream.errors import ContractError, DecodeError, EncodeError
from millstream.runtime.task.timers import SetTimer, timer_decoder
from millstream.telemetry import configure_logs, get_logger

MARK = "7734129"
TEXT = f"ada.{MARK}@example.org"
NUMBER = int(MARK)


class Mood(Enum):
    GOOD = "good"
    BAD = "bad"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Address(Value, namespace="privacy"):
    street: Annotated[str, Personal]
    number: Annotated[int, Personal] = 1
    notes: dict[str, int] = msgspec.field(default_factory=dict)


class Phone(Value, namespace="privacy"):
    digits: str


class Customer(Event, key="customer_id", namespace="privacy"):
    customer_id: str
    email: Annotated[str, Personal] = ""
    age: Annotated[int, Personal] = 1
    weight: Annotated[float, Personal] = 1.0
    income: Annotated[Annotated[Decimal, Scale(12, 2)], Personal] = Decimal(1)
    born: Annotated[date, Personal, FromText] = date(2000, 1, 1)
    seen: Annotated[datetime, Personal, FromText] = datetime(2000, 1, 1, tzinfo=UTC)
    wakes: Annotated[time, Personal, FromText] = time(7)
    slept: Annotated[timedelta, Personal, FromText] = timedelta(hours=8)
    passport: Annotated[UUID, Personal] = UUID(int=7)
    photo: Annotated[bytes, Personal] = b""
    adult: Annotated[bool, Personal] = True
    mood: Annotated[Mood, Personal, FromText] = Mood.GOOD
    rank: Annotated[Rank, Personal] = Rank.LOW
    size: Annotated[Literal["s", "m"], Personal] = "s"
    maybe: Annotated[int | None, Personal] = None
    either: Annotated[int | str, Personal] = 1
    home: Address = Address(street="x")
    homes: tuple[Address, ...] = ()
    by_kind: dict[str, Address] = msgspec.field(default_factory=dict)
    whole: Annotated[Phone | None, Personal] = None
    emails: list[Annotated[str, Personal]] = msgspec.field(default_factory=list)
    numbers: Annotated[tuple[int, ...], Personal] = ()
    pair: tuple[str, Annotated[int, Personal]] = ("", 1)
    attributes: Annotated[dict[str, int], Personal] = msgspec.field(default_factory=dict)
    shoes: int = 40  # not personal itself, and what slips into it may be


class Reached(Customer, key="customer_id", namespace="privacy"):
    contact: Address | Phone = Phone(digits="")  # plain JSON cannot tell the two apart


class Plain(Event, key="id", namespace="privacy"):
    id: str
    shoes: int = 40


customers, reached = Topic("privacy.customers", Customer), Topic("privacy.reached", Reached)
plain = Topic("privacy.plain", Plain)

WRONG: dict[str, Any] = {
    "text": TEXT,
    "digits": MARK,
    "number": NUMBER,
    "large": int(MARK * 4),
    "real": float(NUMBER) + 0.5,
    "decimal": Decimal(f"{MARK}.{MARK}"),
    "digits before the point": Decimal(f"{MARK}" * 3),
    "payload of what is no number": Decimal(f"NaN{MARK}"),
    "bytes": TEXT.encode(),
    "duration": timedelta(days=NUMBER * 100, microseconds=NUMBER),
    "half a pair": f"{TEXT}\ud800",
    "list": [TEXT],
    "tuple": (TEXT, NUMBER),
    "map": {TEXT: TEXT},
    "map of numbers": {MARK: NUMBER},
    "wrong key": {NUMBER: 1},
    "map of what is too large": {TEXT: int(MARK * 4)},
    "nested": Address(street=TEXT),
    "nested, wrong inside": Address(street=NUMBER),  # type: ignore[arg-type]
    "nested, wrong in its map": Address(street="x", notes={TEXT: TEXT}),  # type: ignore[dict-item]
    "another nested": Phone(digits=TEXT),
    "whole record": Customer(customer_id="c-1", email=TEXT),
    "list of nested": (Address(street=NUMBER),),  # type: ignore[arg-type]
    "map of nested": {TEXT: Address(street=NUMBER)},  # type: ignore[arg-type]
}
ENCODERS: dict[str, tuple[type[Customer], Callable[[Any], bytes]]] = {
    "avro": (Reached, codec_for(Reached, 1).encode),
    "protobuf": (Reached, ProtobufCodec(Reached, 1).encode),
    "json_schema": (Reached, JsonCodec(Reached, 1).encode),
    "json": (Customer, json_encoder(Customer)),
    "cloudevents": (Reached, json_writer(Reached)),
    "described": (Reached, describe),
}


def fields_of(contract: type[msgspec.Struct]) -> list[str]:
    return [name for name in contract.__struct_fields__ if name != "customer_id"]


def logged(error: BaseException) -> str:
    """The log's line of an error, for machines."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure_logs("privacy", stream=stream)
        get_logger("privacy").error("failed", exc_info=error, error=str(error))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    return stream.getvalue()


def raised_by(function: Callable[[Any], Any], given: Any) -> ContractError | None:
    try:
        function(given)
    except ContractError as error:
        return error
    return None


def assert_silent(error: BaseException) -> None:
    notes = "".join(getattr(error, "__notes__", ()))
    shown = [str(error), repr(error), notes, "".join(traceback.format_exception(error))]
    assert not [text for text in shown if MARK in text], shown


@pytest.mark.parametrize("format", ENCODERS)
def test_what_cannot_be_written_is_not_quoted(format: str) -> None:
    contract, encode = ENCODERS[format]
    good = contract(customer_id="c-1")
    encode(good)
    refused: dict[str, int] = dict.fromkeys(fields_of(contract), 0)
    for field in refused:
        for wrong in WRONG.values():
            if (error := raised_by(encode, msgspec.structs.replace(good, **{field: wrong}))) is not None:
                assert_silent(error)
                assert f"{contract.__name__}.{field}" in str(error)
                refused[field] += 1
    assert min(refused.values()) > 10, refused


@pytest.mark.parametrize("format", [format for format in ENCODERS if format != "described"])
def test_what_is_no_such_record_is_not_quoted(format: str) -> None:
    _, encode = ENCODERS[format]
    for wrong in WRONG.values():
        if not isinstance(wrong, Customer):
            with pytest.raises(EncodeError) as raised:
                encode(wrong)
            assert_silent(raised.value)


def test_a_record_with_personal_fields_in_the_place_of_another_is_masked() -> None:
    encode = codec_for(Plain, 1).encode
    for wrong in (Address(street=TEXT), [Address(street=TEXT)], {"home": Address(street=TEXT)}):
        with pytest.raises(EncodeError, match=r"^Plain.shoes: .* is no int$") as raised:
            encode(Plain(id="p-1", shoes=wrong))  # type: ignore[arg-type]
        assert_silent(raised.value)
    with pytest.raises(EncodeError, match=TEXT):  # what nobody calls personal is quoted, which helps
        encode(Plain(id="p-1", shoes=TEXT))  # type: ignore[arg-type]


def test_the_log_is_silent_too() -> None:
    """Also of what led to an error."""
    raised: list[Exception] = []
    for contract, encode in ENCODERS.values():
        for wrong in (TEXT, NUMBER, {TEXT: TEXT}):
            with pytest.raises(EncodeError) as found:
                encode(contract(customer_id="c-1", whole=wrong))  # type: ignore[arg-type]
            raised.append(found.value)
    for decode in JSON_DECODERS.values():
        for wrong in (TEXT, NUMBER, {TEXT: TEXT}):
            with pytest.raises(DecodeError) as caught:
                decode({"customer_id": "c-1", "mood": wrong})
            raised.append(caught.value)
    for error in raised:
        assert MARK not in logged(error)


def _framed(decode: Callable[[bytes], Any], frame: bytes = b"\0\0\0\0\x01") -> Callable[[Any], Any]:
    return lambda document: decode(frame + json.dumps(document).encode())


_decode_whole = cloudevents_decoder(Expected([Reached]))


def _cloudevent(document: Any) -> Any:
    headers = [
        ("ce_id", b"e-1"),
        ("ce_source", b"/x"),
        ("ce_specversion", b"1.0"),
        ("ce_type", full_name(Reached).encode()),
    ]
    return _decode_whole(structured(json.dumps(document).encode(), headers))


class Bare(Event, key="customer_id", namespace="privacy"):
    """Nothing here is read in any other way than msgspec's own."""

    customer_id: str
    mood: Annotated[Mood, Personal] = Mood.GOOD
    size: Annotated[Literal["s", "m"], Personal] = "s"
    rank: Annotated[Rank, Personal] = Rank.LOW
    email: Annotated[str, Personal] = ""
    age: Annotated[int, Personal] = 1
    shoes: int = 40


bare = Topic("privacy.bare", Bare)
JSON_DECODERS: dict[str, Callable[[Any], Any]] = {
    "json": _framed(json_decoder(Customer), b""),
    "json of msgspec": _framed(json_decoder(Bare), b""),
    "json_schema": _framed(JsonCodec(Reached, 1).decode),
    "json_schema of msgspec": _framed(JsonCodec(Bare, 1).decode),
    "json_schema of others": _framed(
        Expected([Reached]).reader(1, Written("JSON", json_schema(Reached) | {"description": "another"}))
    ),
    "cloudevents": _cloudevent,
}
WRONG_JSON: list[Any] = [
    TEXT,
    MARK,
    NUMBER,
    int(MARK * 4),
    NUMBER + 0.5,
    [TEXT],
    [TEXT, TEXT],
    [NUMBER, TEXT, NUMBER],
    {TEXT: TEXT},
    {MARK: NUMBER},
    {TEXT: [TEXT]},
    {TEXT: {"street": NUMBER}},
    {"street": NUMBER},
    {"street": TEXT, "number": TEXT},
    {"street": TEXT, "notes": {TEXT: TEXT}},
    [{"street": [TEXT]}],
    {"Address": {"street": NUMBER}},
    {"Phone": {"digits": NUMBER}},
    f"7734129-13-{MARK}",
]


@pytest.mark.parametrize("format", JSON_DECODERS)
def test_json_that_does_not_fit_is_not_quoted(format: str) -> None:
    decode = JSON_DECODERS[format]
    decode({"customer_id": "c-1"})
    contract = Bare if "msgspec" in format else Customer if format == "json" else Reached
    refused: dict[str, int] = dict.fromkeys(fields_of(contract), 0)
    for field in refused:
        for wrong in WRONG_JSON:
            if (error := raised_by(decode, {"customer_id": "c-1", field: wrong})) is not None:
                assert_silent(error)
                assert field in str(error), error
                refused[field] += 1
    assert min(refused.values()) > 5, refused


class Sloppy(Event, key="customer_id", namespace="privacy"):
    """The customer as another writes it: all as text, and its fields of other types."""

    customer_id: str
    born: str = TEXT
    seen: str = TEXT
    wakes: str = TEXT
    slept: str = TEXT
    passport: str = TEXT
    mood: str = TEXT
    income: str = TEXT


WRITTEN_AS_TEXT = [name for name in Sloppy.__struct_fields__ if name != "customer_id"]


class Scanned(Event, key="customer_id", namespace="privacy"):
    customer_id: str
    born: Annotated[date, Personal, FromText]
    seen: Annotated[datetime, Personal, FromText]
    wakes: Annotated[time, Personal, FromText]
    slept: Annotated[timedelta, Personal, FromText]
    passport: Annotated[UUID, Personal]
    mood: Annotated[Mood, Personal, FromText]
    income: Annotated[Annotated[Decimal, Scale(12, 2)], Personal, FromText]


sloppy, scanned = Topic("privacy.sloppy", Sloppy), Topic("privacy.scanned", Scanned)
RIGHT_TEXTS = {
    "born": "2000-01-01",
    "seen": "2000-01-01T00:00:00Z",
    "wakes": "07:00:00",
    "slept": "PT8H",
    "passport": str(UUID(int=7)),
    "mood": "good",
    "income": "1.00",
}


def _as_written_by_others(schema: Any) -> Any:
    return json.loads(json.dumps(schema).replace("Sloppy", "Scanned"))


@pytest.mark.parametrize("field", WRITTEN_AS_TEXT)
def test_a_text_of_others_that_cannot_be_converted_is_not_quoted(field: str) -> None:
    read = Expected([Scanned]).reader(1, Written("AVRO", _as_written_by_others(avro_schema(Sloppy))))
    encode = codec_for(Sloppy, 1).encode
    read(encode(Sloppy(customer_id="c-1", **RIGHT_TEXTS)))
    for wrong in (TEXT, MARK * 3, f"{MARK}-01-01", f"2000-01-01T00:00:00+{MARK}", f"{MARK}" * 5):
        with pytest.raises(DecodeError) as raised:
            read(encode(Sloppy(customer_id="c-1", **RIGHT_TEXTS | {field: wrong})))
        assert_silent(raised.value)
        assert f"Scanned.{field}" in str(raised.value)


PROTO = "".join(f"  string {name} = {number};\n" for number, name in enumerate(["customer_id", *WRITTEN_AS_TEXT], 1))
PROTO = f'syntax = "proto3"; package privacy; message Scanned {{\n{PROTO}}}'


@pytest.mark.parametrize("field", [name for name in WRITTEN_AS_TEXT if name not in ("seen", "slept")])
def test_a_text_in_protobuf_that_cannot_be_converted_is_not_quoted(field: str) -> None:
    own = {name: text for name, text in RIGHT_TEXTS.items() if name != field}
    proto = PROTO
    for stamp, of in (("seen", "google.protobuf.Timestamp"), ("slept", "google.protobuf.Duration")):
        proto = proto.replace(f"string {stamp}", f"{of} {stamp}")
        own[stamp] = ""
    imports = "".join(f'import "google/protobuf/{name}.proto";' for name in ("timestamp", "duration"))
    read = Expected([Scanned]).reader(1, Written("PROTOBUF", proto.replace("package", f"{imports} package")))
    encode = ProtobufCodec(Sloppy, 1).encode
    for wrong in (TEXT, MARK * 3, f"{MARK}-01-01"):
        with pytest.raises(DecodeError) as raised:
            read(encode(Sloppy(customer_id="c-1", **own | {field: wrong})))
        assert_silent(raised.value)
        assert raised.value.reason == "invalid"
        assert f"Scanned.{field}" in str(raised.value)


def test_a_symbol_that_the_class_lacks_is_not_quoted() -> None:
    schema = json.loads(json.dumps(avro_schema(Bare)).replace('"good"', f'"m{MARK}"'))
    read = Expected([Bare]).reader(1, Written("AVRO", schema))
    with pytest.raises(DecodeError, match=r"Bare\.mood: a symbol that is none of good, bad") as raised:
        read(codec_for(Bare, 1).encode(Bare(customer_id="c-1")))
    assert_silent(raised.value)
    tag = ProtobufCodec(Bare, 1).encode(Bare(customer_id="c-1"))
    with pytest.raises(DecodeError, match=r"Bare\.mood: the enumeration has no such number") as raised:
        ProtobufCodec(Bare, 1).decode(tag + b"\x10" + b"\xb1\x86\xd8\x03")
    assert_silent(raised.value)


class Checked(Event, key="customer_id", namespace="privacy"):
    customer_id: str
    email: Annotated[str, Personal]

    def __post_init__(self) -> None:
        if self.email == TEXT:
            raise ValueError(f"{self.email} is no address")


class Unchecked(Event, key="customer_id", namespace="privacy"):
    customer_id: str
    email: str


checked, unchecked = Topic("privacy.checked", Checked), Topic("privacy.unchecked", Unchecked)
KNOWN = Unchecked(customer_id="c-1", email=TEXT)


def _described(value: bytes) -> Any:
    found = msgspec.msgpack.decode(value)
    found[1] = found[1].replace("Unchecked", "Checked")
    return read_described(Checked, msgspec.msgpack.encode(found))


def test_what_a_class_of_its_own_says_is_not_passed_on() -> None:
    avro = codec_for(Unchecked, 1).encode(KNOWN)
    foreign = {**avro_schema(Checked), "fields": list(reversed(avro_schema(Checked)["fields"]))}
    tries: list[Callable[[], Any]] = [
        lambda: codec_for(Checked, 1).decode(avro),
        lambda: Expected([Checked]).reader(1, Written("AVRO", foreign))(avro[:5] + avro[9:] + avro[5:9]),
        lambda: ProtobufCodec(Checked, 1).decode(ProtobufCodec(Unchecked, 1).encode(KNOWN)),
        lambda: JsonCodec(Checked, 1).decode(JsonCodec(Unchecked, 1).encode(KNOWN)),
        lambda: json_decoder(Checked)(msgspec.json.encode(KNOWN)),
        lambda: _described(describe(KNOWN)),
    ]
    for attempt in tries:
        with pytest.raises(DecodeError, match=r"Checked|the class") as raised:
            attempt()
        assert_silent(raised.value)


def test_what_an_upcaster_raises_is_not_passed_on() -> None:
    def fail(old: Any) -> Any:
        raise ValueError(f"cannot tell who {TEXT} is")

    def wrong(old: Any) -> Any:
        return Checked(customer_id="c-1", email=NUMBER)  # type: ignore[arg-type]

    for function in (fail, wrong):

        class Newer(Event, key="customer_id", namespace="privacy"):
            customer_id: str
            email: Annotated[str, Personal]

        Topic("privacy.newer", Newer)
        upcasts(Newer, "privacy.Unchecked")(function)
        read = Expected([Newer]).reader(1, Written("AVRO", avro_schema(Unchecked)))
        with pytest.raises(DecodeError, match="upcast_failed") as raised:
            read(codec_for(Unchecked, 1).encode(KNOWN))
        assert_silent(raised.value)


def test_a_timer_that_cannot_be_read_is_not_quoted() -> None:
    class Reminder(Timer, key="customer_id"):
        customer_id: str
        mood: Annotated[Mood, Personal]

    payload = msgspec.msgpack.encode({"customer_id": "c-1", "mood": TEXT})
    value = msgspec.msgpack.encode(
        SetTimer(
            type=full_name(Reminder),
            payload=payload,
            number=1,
            key="c-1",
            due=0.0,
            id="",
            correlation_id="",
            causation_id="",
        )
    )
    with pytest.raises(DecodeError) as raised:
        timer_decoder([Reminder])(value)
    assert_silent(raised.value)


KNOWN_BY_ALL: dict[str, Any] = {
    "customer_id": "c-1",
    "email": TEXT,
    "age": NUMBER,
    "photo": TEXT.encode(),
    "either": TEXT,
    "maybe": NUMBER,
    "home": Address(street=TEXT, notes={TEXT: NUMBER}),
    "homes": (Address(street=TEXT),),
    "by_kind": {TEXT: Address(street=TEXT)},
    "whole": Phone(digits=TEXT),
    "emails": [TEXT],
    "numbers": (NUMBER,),
    "pair": (TEXT, NUMBER),
    "attributes": {TEXT: NUMBER},
}
FULL = Reached(**KNOWN_BY_ALL, contact=Address(street=TEXT))
BYTES = {format: ENCODERS[format][1](FULL) for format in ("avro", "protobuf", "json_schema")} | {
    "json": json_encoder(Customer)(Customer(**KNOWN_BY_ALL))
}
FOREIGN_SCHEMA = {**avro_schema(Reached), "fields": [*avro_schema(Reached)["fields"], {"name": "gone", "type": "null"}]}
DECODERS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    "avro": ("avro", codec_for(Reached, 1).read),
    "avro of others": ("avro", Expected([Reached]).reader(1, Written("AVRO", FOREIGN_SCHEMA))),
    "protobuf": ("protobuf", ProtobufCodec(Reached, 1).read),
    "json_schema": ("json_schema", JsonCodec(Reached, 1).read),
    "json": ("json", json_decoder(Customer)),
}


def _damaged(value: bytes, at: int, by: bytes, cut: int) -> bytes:
    at = 5 + at % (len(value) - 5)
    return value[:at] + by + value[at + cut :]


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 5000), by=st.binary(max_size=3), cut=st.integers(0, 4))
def test_bytes_that_are_damaged_anywhere_are_not_quoted(at: int, by: bytes, cut: int) -> None:
    for format, decode in DECODERS.values():
        if (error := raised_by(decode, _damaged(BYTES[format], at, by, cut))) is not None:
            assert_silent(error)


def test_bytes_that_end_anywhere_are_not_quoted() -> None:
    for format, decode in DECODERS.values():
        value = BYTES[format]
        for end in range(5, len(value), 3):
            if (error := raised_by(decode, value[:end])) is not None:  # Protobuf may end after any field
                assert_silent(error)
