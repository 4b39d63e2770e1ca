"""The generated codecs: they lose nothing, agree with fastavro, refuse what is wrong, and never break on bad bytes."""

import io
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.samples import Card, Colour, Everything, Line, Priority, Tree
from tests.contracts.strategies import everything

from millstream.contracts import avro_schema, codec_for
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.protobuf import ProtobufCodec
from millstream.contracts.resolve import resolving_decoder
from millstream.declare import Value
from millstream.errors import DecodeError, EncodeError

CODEC = codec_for(Everything, 258)
PROTOBUF = ProtobufCodec(Everything, 258)
JSON = JsonCodec(Everything, 258)
SCHEMA = fastavro.parse_schema(avro_schema(Everything))
UNRESOLVED = resolving_decoder(Everything, avro_schema(Everything))
LINE = Line(product="p", quantity=1, price=Decimal(1))
SAMPLE = Everything(
    id="e-1",
    whole=-3,
    truth=True,
    real=0.5,
    raw=b"\0\xff",
    money=Decimal("12.3400"),
    moment=datetime(2026, 11, 23, 12, 0, 0, 123456, UTC),
    day=date(2026, 11, 23),
    uuid=UUID(int=7),
    colour=Colour.BLUE,
    kind="large",
    maybe=None,
    maybe_when=None,
    payment=Card(number="4111"),
    maybe_payment=None,
    scalar="s",
    lines=(LINE, LINE),
    numbers=[1, 2],
    grid=((Decimal(1),),),
    labels={"a": "b"},
    boxes={"c": (LINE,)},
    tree=Tree(label="root", left=Tree(label="leaf")),
    clock=time(23, 59, 59, 999999),
    took=timedelta(minutes=-3, microseconds=1),
    priority=Priority.HIGH,
    grade=-3,
    place=("home", 7, LINE),
    seen=frozenset({"a"}),
    codes={1 << 40},
    reached=frozenset({(Colour.RED, date(2026, 11, 23))}),
    region="north",
)


@given(everything)
@settings(max_examples=150)
def test_what_is_written_is_read_again(event: Everything) -> None:
    assert CODEC.decode(CODEC.encode(event)) == event


@given(everything)
@settings(max_examples=100)
def test_fastavro_reads_what_we_write_and_writes_what_we_read(event: Everything) -> None:
    message = CODEC.encode(event)
    assert message[:5] == b"\0\0\0\1\2"
    plain = fastavro.schemaless_reader(io.BytesIO(message[5:]), SCHEMA, None, return_record_name=True)
    written = io.BytesIO()
    fastavro.schemaless_writer(written, SCHEMA, plain)
    assert CODEC.read(message[:5] + written.getvalue()) == event
    assert UNRESOLVED(message) == event


@given(everything, st.data())
@settings(max_examples=100)
def test_a_truncated_message_is_a_decode_error(event: Everything, data: st.DataObject) -> None:
    message = CODEC.encode(event)
    end = data.draw(st.integers(5, len(message) - 1))
    with pytest.raises(DecodeError) as raised:
        CODEC.decode(message[:end])
    assert raised.value.reason == "truncated"
    with pytest.raises(DecodeError, match="1 bytes follow") as raised:
        CODEC.decode(message + b"\0")
    assert raised.value.reason == "trailing_bytes"


@given(st.binary(max_size=300))
@settings(max_examples=500)
def test_random_bytes_are_decode_errors(noise: bytes) -> None:
    for message in (noise, CODEC.prefix + noise):
        with pytest.raises(DecodeError):
            CODEC.decode(message)
    with pytest.raises(DecodeError):
        UNRESOLVED(CODEC.prefix + noise)


@given(st.lists(st.tuples(st.integers(5, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500)
def test_flipped_bytes_decode_or_are_decode_errors(flips: list[tuple[int, int]]) -> None:
    message = bytearray(CODEC.encode(SAMPLE))
    for at, byte in flips:
        message[5 + at % (len(message) - 5)] = byte
    try:
        event = CODEC.decode(bytes(message))
    except DecodeError:
        with pytest.raises(DecodeError):
            UNRESOLVED(bytes(message))
        return
    assert CODEC.decode(CODEC.encode(event)) == event


class Holder(Value, namespace="samples"):
    text: str
    lines: tuple[Line, ...] = ()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "truncated"),
        ("04 61", "truncated"),
        ("01", "invalid"),  # a length of -1
        ("02 ff 00", "invalid"),  # no UTF-8
        ("fe ff ff ff ff ff ff ff ff 01 00", "truncated"),  # a text of 2**63 - 1 bytes
        ("ff ff ff ff ff ff ff ff ff ff 01", "too_large"),  # more than 64 bits
        ("00 fe ff ff ff ff ff ff ff ff 01", "truncated"),  # 2**63 - 1 lines
        ("00 00 00", "trailing_bytes"),
    ],
)
def test_reasons(payload: str, reason: str) -> None:
    with pytest.raises(DecodeError) as raised:
        codec_for(Holder, 1).read(b"\0\0\0\0\1" + bytes.fromhex(payload))
    assert raised.value.reason == reason


def test_the_message_names_the_field() -> None:
    with pytest.raises(DecodeError, match=r"Holder\.lines\[1\]\.price"):
        codec_for(Holder, 1).read(codec_for(Holder, 1).encode(Holder(text="", lines=(LINE, LINE)))[:-3])


def test_other_framing() -> None:
    for message, reason in ((b"", "not_framed"), (b"\1\0\0\0\1x", "not_framed"), (b"\0\0\0\0\2x", "unknown_schema")):
        with pytest.raises(DecodeError) as raised:
            codec_for(Holder, 1).decode(message)
        assert raised.value.reason == reason


def test_blocks_with_their_size_as_java_writes_them() -> None:
    line = codec_for(Line, 1).encode(LINE)[5:]
    sized = b"\x00" + b"\x01" + bytes([2 * len(line)]) + line + b"\x02" + line + b"\x00"
    assert codec_for(Holder, 1).read(b"\0\0\0\0\1" + sized) == Holder(text="", lines=(LINE, LINE))


def test_endless_nesting_is_refused() -> None:
    codec = codec_for(Tree, 1)
    with pytest.raises(DecodeError) as raised:
        codec.read(b"\0\0\0\0\1" + b"\x00\x02" * 100_000)
    assert raised.value.reason == "too_deep"
    tree = Tree(label="")
    for _ in range(5000):
        tree = Tree(label="", left=tree)
    with pytest.raises(EncodeError, match="nested too deep"):
        codec.encode(tree)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"id": 3}, "Everything.id: 3 is no str"),
    ({"id": b"e"}, "Everything.id: b'e' is no str"),
    ({"id": "\ud800"}, "Everything.id: .* half a surrogate pair"),
    ({"whole": True}, "Everything.whole: True is no int"),
    ({"whole": 1.0}, "Everything.whole: 1.0 is no int"),
    ({"whole": 1 << 63}, "Everything.whole: .* does not fit 64 bits"),
    ({"whole": -(1 << 63) - 1}, "Everything.whole: .* does not fit 64 bits"),
    ({"truth": 1}, "Everything.truth: 1 is no bool"),
    ({"real": "1"}, "Everything.real: '1' is no float"),
    ({"real": True}, "Everything.real: True is no float"),
    ({"real": 10**400}, "Everything.real: .* too large"),
    ({"raw": "x"}, "Everything.raw: 'x' is no bytes"),
    ({"money": 1}, "Everything.money: 1 is no Decimal"),
    ({"money": 1.5}, "Everything.money: 1.5 is no Decimal"),
    ({"money": Decimal("1.23456")}, "Everything.money: .* 5 digits after the point, and its scale is 4"),
    ({"money": Decimal(10**14)}, "Everything.money: .* more than 14 digits before the point"),
    ({"money": Decimal("1E+999999")}, "Everything.money: .* more than 14 digits before the point"),
    ({"money": Decimal("NaN")}, "Everything.money: NaN is no number"),
    ({"money": Decimal("Infinity")}, "Everything.money: Infinity is no number"),
    ({"moment": datetime(2026, 1, 1)}, "Everything.moment: .* has no time zone"),
    ({"moment": date(2026, 1, 1)}, "Everything.moment: .* is no datetime"),
    ({"day": datetime(2026, 1, 1, tzinfo=UTC)}, "Everything.day: .* is no date"),
    ({"uuid": "00000000-0000-0000-0000-000000000007"}, "Everything.uuid: .* is no UUID"),
    ({"colour": "green"}, "Everything.colour: 'green' is none of red, blue"),
    ({"kind": []}, "Everything.kind: .* is none of small, large"),
    ({"maybe": 5}, "Everything.maybe: 5 is no str"),
    ({"maybe_when": datetime(2026, 1, 1)}, "Everything.maybe_when: .* has no time zone"),
    ({"payment": None}, "Everything.payment: None is none of Card, Invoice"),
    ({"payment": Card(number=4)}, "Everything.payment.number: 4 is no str"),  # type: ignore[arg-type]
    ({"scalar": 1.5}, "Everything.scalar: 1.5 is none of NoneType, int, str, bool"),
    ({"lines": [LINE]}, "Everything.lines: .* is no tuple"),
    ({"lines": "abc"}, "Everything.lines: 'abc' is no tuple"),
    (
        {"lines": (LINE, LINE, LINE, msgspec.structs.replace(LINE, quantity="x"))},
        r"Everything.lines\[3\].quantity: 'x' is no int",
    ),
    ({"lines": (Card(number="1"),)}, r"Everything.lines\[0\]: .* is no Line"),
    ({"numbers": (1,)}, "Everything.numbers: .* is no list"),
    ({"labels": {1: "a"}}, "Everything.labels, a key: 1 is no str"),
    ({"boxes": {"c": (LINE, 1)}}, r"Everything.boxes\['c'\]\[1\]: 1 is no Line"),
    ({"tree": None}, "Everything.tree: None is no Tree"),
    ({"clock": time(1, tzinfo=UTC)}, "Everything.clock: .* has a time zone"),
    ({"clock": 3}, "Everything.clock: 3 is no time"),
    ({"took": 3}, "Everything.took: 3 is no timedelta"),
    ({"took": timedelta.max}, "Everything.took: .* more microseconds than 64 bits"),
    ({"priority": 2}, "Everything.priority: .* is none of LOW, HIGH"),
    ({"grade": 4}, "Everything.grade: 4 is none of _1, _2, _minus3"),
    ({"place": ("home", 7)}, "Everything.place: .* has 2 parts instead of 3"),
    ({"place": ("home", "7", None)}, r"Everything.place\[1\]: '7' is no int"),
    ({"place": ["home", 7, None]}, "Everything.place: .* is no tuple"),
    ({"seen": {"a"}}, "Everything.seen: .* is no frozenset"),
    ({"codes": {"a"}}, r"Everything.codes\[0\]: 'a' is no int"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
@pytest.mark.parametrize("codec", [CODEC, PROTOBUF, JSON], ids=["avro", "protobuf", "json"])
def test_the_encoder_refuses(codec: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        codec.encode(msgspec.structs.replace(SAMPLE, **change))


def test_the_encoder_refuses_another_class() -> None:
    with pytest.raises(EncodeError, match="is no Everything"):
        CODEC.encode(LINE)  # pyright: ignore[reportArgumentType]


def test_what_the_encoder_takes() -> None:
    paris = timezone(timedelta(hours=2))
    event = msgspec.structs.replace(
        SAMPLE,
        real=3,
        money=Decimal("1E+2"),
        moment=datetime(2026, 6, 1, 14, tzinfo=paris),
        maybe_when=datetime.min.replace(tzinfo=UTC),
    )
    assert CODEC.decode(CODEC.encode(event)) == event


def test_a_class_may_check_itself() -> None:
    class Positive(Value, namespace="samples"):
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("must be positive")

    with pytest.raises(DecodeError, match="must be positive") as raised:
        codec_for(Positive, 1).read(b"\0\0\0\0\1\1")
    assert raised.value.reason == "invalid"
