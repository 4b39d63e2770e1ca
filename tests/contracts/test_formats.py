"""Protobuf and JSON behind the same doors as Avro: topics, subjects, other versions, hostile bytes."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.samples import Card, Defaults, Everything, Line
from tests.contracts.strategies import everything
from tests.contracts.test_codec import SAMPLE

from millstream.contracts import Contracts, Registry, header_writer, json_schema, protobuf_schema
from millstream.contracts.framing import framing
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.meeting import Expected, Written
from millstream.contracts.protobuf import ProtobufCodec
from millstream.contracts.protobuf.resolving import messages_of
from millstream.declare import Alias, Event, Number, Topic, Value
from millstream.errors import DeclarationError, DecodeError, EncodeError

PROTOBUF = ProtobufCodec(Everything, 258)
JSON = JsonCodec(Everything, 258)


class Opened(Event, key="account", namespace="bank"):
    account: str
    card: Card | None = None
    limit: int = 100


class Closed(Event, key="account", namespace="bank", aliases=("old.Shut",)):
    account: Annotated[str, Alias("number")]
    why: str | None = None


protobuf_topic = Topic("formats.protobuf", Opened, Closed, format="protobuf")


class Seen(Event, key="page", namespace="web"):
    page: str
    by: str | Card | None = None


class Left(Event, key="page", namespace="web", aliases=("old.Gone",)):
    page: Annotated[str, Alias("url")]
    after: float = 0.0


json_topic = Topic("formats.json", Seen, Left, format="json_schema", subjects="record")


class Only(Event, key="id", namespace="web"):
    id: str


one_subject = Topic("formats.one", Only, subjects="topic")
EVENTS: list[tuple[Topic, Event]] = [
    (protobuf_topic, Opened(account="a", card=Card(number="1"))),
    (protobuf_topic, Closed(account="b", why="")),
    (json_topic, Seen(page="/", by=Card(number="1"))),
    (json_topic, Left(page="/", after=1.5)),
    (one_subject, Only(id="o")),
]


@pytest.mark.parametrize(("topic", "event"), EVENTS)
def test_every_format_goes_through_the_registry(registry_url: str, topic: Topic, event: Event) -> None:
    contracts = Contracts(Registry(registry_url))
    message = contracts.encode(event)
    assert contracts.decoder([topic]).decode(message) == event
    assert Contracts(Registry(registry_url)).decoder([topic]).decode(message) == event
    shown = contracts.decode_any(topic, message)
    assert shown == json.loads(json.dumps(shown))
    assert event.__struct_fields__[0] in shown
    contracts.decode_any(topic.name, message)


def test_topics_of_several_formats_share_a_decoder(registry_url: str) -> None:
    contracts = Contracts(Registry(registry_url))
    messages = [(event, contracts.encode(event)) for _, event in EVENTS]
    decode = Contracts(Registry(registry_url)).decoder([protobuf_topic, json_topic, one_subject]).decode
    assert [decode(message) for _, message in messages] == [event for event, _ in messages]


def test_subjects(registry_url: str) -> None:
    registry = Registry(registry_url)
    Contracts(registry).register([Opened, Seen, Only])
    assert {"formats.protobuf-bank.Opened", "web.Seen", "formats.one-value"} <= {*registry.subjects()}


def test_one_subject_is_for_one_class() -> None:
    class One(Event, key="id"):
        id: str

    class Two(Event, key="id"):
        id: str

    with pytest.raises(DeclarationError, match="list exactly one"):
        Topic("formats.two", One, Two, subjects="topic")


def test_headers_say_the_format() -> None:
    content = [dict(header_writer(of, "s")("1", "1", None, None))["content-type"] for of in (Opened, Seen, Only)]
    assert content == [b"application/protobuf", b"application/json", b"application/avro"]


def refuses(decode: Any, message: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        decode(message)
    return raised.value


@given(everything)
@settings(max_examples=60)
def test_what_is_written_is_read_again(event: Everything) -> None:
    for codec in (PROTOBUF, JSON):
        assert codec.decode(codec.encode(event)) == event


@given(everything, st.data())
@settings(max_examples=60)
def test_truncated_messages(event: Everything, data: st.DataObject) -> None:
    message = JSON.encode(event)
    refuses(JSON.decode, message[: data.draw(st.integers(5, len(message) - 1))])
    message = PROTOBUF.encode(event)
    end = data.draw(st.integers(5, len(message) - 1))
    try:
        event = PROTOBUF.decode(message[:end])
    except DecodeError:
        return
    assert len(PROTOBUF.encode(event)) == end  # it ends between two fields, of which the second may be absent


@pytest.mark.slow
@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_random_bytes(noise: bytes) -> None:
    refuses(PROTOBUF.decode, PROTOBUF.prefix + b"\0" + noise)
    refuses(JSON.decode, JSON.prefix + noise)
    for codec in (ProtobufCodec(Defaults, 1), JsonCodec(Defaults, 1)):
        try:
            value = codec.read(b"\0\0\0\0\1\0" + noise)
        except DecodeError:
            continue
        assert codec.decode(codec.encode(value)) == value


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300)
def test_flipped_bytes(flips: list[tuple[int, int]]) -> None:
    for codec in (PROTOBUF, JSON):
        message = bytearray(codec.encode(SAMPLE))
        for at, byte in flips:
            message[6 + at % (len(message) - 6)] = byte
        try:
            event = codec.decode(bytes(message))
        except DecodeError:
            continue
        assert codec.decode(codec.encode(event)) == event


class Tree(Value, namespace="formats"):
    left: "Tree | None" = None


def test_endless_nesting() -> None:
    tree = Tree()
    for _ in range(5000):
        tree = Tree(left=tree)
    for codec in (ProtobufCodec(Tree, 1), JsonCodec(Tree, 1)):
        with pytest.raises(EncodeError, match="nested too deep"):
            codec.encode(tree)
    deep = b""
    for _ in range(3000):
        size = len(deep)
        deep = b"\x0a" + (bytes((size,)) if size < 128 else bytes((size & 127 | 128, size >> 7))) + deep
    assert refuses(ProtobufCodec(Tree, 1).read, b"\0\0\0\0\1\0" + deep).reason == "too_deep"
    assert refuses(JsonCodec(Tree, 1).read, b"\0\0\0\0\1" + b'{"left":' * 100_000).reason == "too_deep"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("0a0561", "truncated"),
        ("0affffffffffffffffff7f61", "truncated"),  # a text of 2**63 - 1 bytes
        ("0affffffffffffffffffff01", "invalid"),  # a length of more than 64 bits
        ("0a01ff", "invalid"),  # no UTF-8
        ("0b", "invalid"),  # a group
        ("00", "invalid"),  # field 0
        ("0a0161 10", "truncated"),
        ("0a0161 1a04 31453939", "invalid"),  # a price of 1E99
        ("0a0161 1a03 4e614e", "invalid"),  # a price of NaN
        ("0a0161", "invalid"),  # no price at all
    ],
)
def test_hostile_protobuf(payload: str, reason: str) -> None:
    assert refuses(ProtobufCodec(Line, 1).read, b"\0\0\0\0\1\0" + bytes.fromhex(payload)).reason == reason


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ('{"product":"p","quantity":1,"price":"1E+999999999"}', "invalid"),
        ('{"product":"p","quantity":1,"price":"%s"}' % ("9" * 1_000_000), "invalid"),
        ('{"product":"p","quantity":1,"price":"1%s"}' % ("0" * 1_000_000), "invalid"),
        ('{"product":"p","quantity":%s,"price":"1"}' % ("9" * 1_000_000), "invalid"),
        ('{"product":"p","quantity":9223372036854775808,"price":"1"}', "invalid"),
        ('{"product":"p","quantity":1}', "invalid"),
        ('{"product"', "malformed_json"),
        ("", "malformed_json"),
    ],
)
def test_hostile_json(payload: str, reason: str) -> None:
    message = b"\0\0\0\0\1" + payload.encode()
    assert refuses(JsonCodec(Line, 1).read, message).reason == reason
    refuses(Expected([Line]).reader(1, Written("JSON", {"title": "samples.Line"})), message)


def test_protobuf_takes_fields_in_any_order_packed_or_not_and_passes_over_the_unknown() -> None:
    class Numbers(Value, namespace="formats"):
        many: tuple[int, ...] = ()
        name: Annotated[str, Number(2000)] = "none"
        far: Annotated[bool, Number(300_000)] = False

    codec = ProtobufCodec(Numbers, 1)
    whole = Numbers(many=(1, 300, -1), name="x", far=True)
    assert codec.decode(codec.encode(whole)) == whole
    far, name = bytes.fromhex("80be9201 01"), bytes.fromhex("827d 0178")
    unknown = bytes.fromhex("10 01 1a 02 6161 2d 00000000 31 0000000000000000")
    one_by_one = bytes.fromhex("08 01 08 ac02")
    packed = b"\x0a\x0a" + b"\xff" * 9 + b"\x01"
    assert codec.read(b"\0\0\0\0\1\0" + far + one_by_one + unknown + name + packed) == whole


def test_the_first_message_may_be_named_the_long_way() -> None:
    codec = ProtobufCodec(Opened, 9)
    assert codec.decode(framing(9) + b"\x02\x00" + b"\x0a\x01a") == Opened(account="a")
    assert refuses(codec.decode, framing(9) + b"\x02\x02" + b"\x0a\x01a").reason == "unexpected_type"
    assert refuses(codec.decode, framing(9)).reason == "truncated"


def test_a_message_that_is_not_the_first_of_its_file() -> None:
    text = """
        syntax = "proto3";
        package bank; /* message Comment { */
        message Other { string text = 1; message Opened {} enum Kind { A = 0; } }  // message No {
        message Opened { string account = 1; option (x) = "message Quoted {"; }
    """
    read = Expected([Opened, Closed]).reader(9, Written("PROTOBUF", text))
    assert read(framing(9) + b"\x02\x02" + b"\x0a\x01a") == Opened(account="a")
    assert refuses(read, framing(9) + b"\0").detail == "it is bank.Other; expected bank.Opened, bank.Closed"
    assert refuses(read, framing(9) + b"\x02\x08").reason == "unexpected_type"
    assert refuses(read, framing(9) + b"\xff\xff\xff\x0f").reason == "not_framed"
    assert refuses(read, framing(9)).reason == "truncated"
    old = Expected([Closed]).reader(9, Written("PROTOBUF", "package old; message Shut { string number = 1; }"))
    assert old(framing(9) + b"\0\x0a\x01a") == Closed(account="a")
    assert refuses(Expected([Closed]).reader(9, Written("PROTOBUF", "message A {" * 50)), b"x").reason == (
        "unreadable_schema"
    )


@pytest.mark.parametrize("text", ["/*" * 500_000, '"\\' * 500_000, "message A {}" * 100_000 + "{", "{}" * 500_000])
def test_giant_files_are_read_once(text: str) -> None:
    with pytest.raises(DecodeError, match=r"unreadable_schema: the \.proto file"):
        messages_of(text, {})


def test_other_versions_of_json_go_by_names() -> None:
    read = Expected([Seen, Left]).reader(9, Written("JSON", {"title": "old.Gone"}))
    assert read(framing(9) + b'{"url":"/","more":[1]}') == Left(page="/")
    assert refuses(read, framing(9) + b"{}").detail == "ValueError: Left: the field page is missing"
    short = Expected([Seen, Left]).reader(9, Written("JSON", {"title": "Left"}))
    assert short(framing(9) + b'{"page":"/","after":2}') == Left(page="/", after=2.0)
    assert refuses(Expected([Seen]).reader(9, Written("JSON", {})), b"").reason == "unexpected_type"
    assert refuses(Expected([Seen]).reader(9, Written("XML", "")), b"").reason == "unreadable_schema"


def test_json_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(EncodeError, match="JSON has no inf"):
        JsonCodec(Left, 1).encode(Left(page="/", after=float("inf")))


def test_numbers_in_protobuf() -> None:
    class Numbered(Value, namespace="formats"):
        one: str
        seven: Annotated[str, Number(7)]
        eight: datetime = datetime(2026, 1, 1, tzinfo=UTC)
        three: Annotated[int | None, Number(3)] = None

    lines = [line for line in protobuf_schema(Numbered).splitlines() if line.startswith("  ")]
    fields = [line.split()[-1] for line in lines]
    assert fields == ["1;", "7;", "8;", "3;"]

    class Twice(Value, namespace="formats"):
        one: str
        two: Annotated[str, Number(1)]

    class Reserved(Value, namespace="formats"):
        one: Annotated[str, Number(19_000)]

    for wrong, message in ((Twice, r"Twice.two: Twice.one has the number 1"), (Reserved, "Reserved.one: .* 19000")):
        with pytest.raises(DeclarationError, match=message):
            protobuf_schema(wrong)


def test_the_json_schema_says_what_fields_say() -> None:
    region = json_schema(Everything)["properties"]["region"]
    assert region == {
        "anyOf": [{"type": "null"}, {"type": "string"}],
        "description": "Where it happened. Deprecated: country says it better",
        "deprecated": True,
        "default": None,
    }
