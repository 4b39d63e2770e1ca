"""JSON of others, in all three formats: what no contract holds is refused by name, and 1.0 is an integer."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from tests.contracts.samples import Money

from millstream import EpochMillis, LocalAsUtc
from millstream.contracts.cloudevents import cloudevents_decoder
from millstream.contracts.foreign_json import json_decoder, json_encoder
from millstream.contracts.framing import framing
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.meeting import Expected, Written
from millstream.declare import Alias, Value
from millstream.errors import DecodeError, EncodeError


class Inner(Value, namespace="others"):
    count: int


class Given(Value, namespace="others"):
    whole: int = 0
    maybe: int | None = None
    real: float | None = 0.0
    money: Money = Decimal(0)
    at: datetime | None = None
    inner: Inner | None = None
    many: tuple[int, ...] = ()
    named: dict[str, Money] = {}  # noqa: RUF012 msgspec gives each instance its own
    unlike: int | str | None = None


class Noted(Value, namespace="others"):
    at: Annotated[datetime, EpochMillis, LocalAsUtc]


class Loose(Value, namespace="others"):
    anything: dict[str, Any]


def whole_event(contract: type[Value]) -> Callable[[bytes], Any]:
    decode = cloudevents_decoder(Expected([contract]))
    head = b'{"specversion":"1.0","id":"1","source":"/","type":"others.%s","data":' % contract.__name__.encode()
    return lambda value: decode(head + value + b"}")


def framed(contract: type[Value]) -> Callable[[bytes], Any]:
    return lambda value: JsonCodec(contract, 1).decode(framing(1) + value)


def of_another_time(contract: type[Value]) -> Callable[[bytes], Any]:
    read = Expected([contract]).reader(1, Written("JSON", {"title": f"others.{contract.__name__}"}))
    return lambda value: read(framing(1) + value)


FORMATS = pytest.mark.parametrize("of", [json_decoder, whole_event, framed, of_another_time])


@FORMATS
@pytest.mark.parametrize(
    ("value", "field"),
    [
        ('{"whole": 9223372036854775808}', "whole"),
        ('{"whole": 18446744073709551616}', "whole"),
        ('{"maybe": -9223372036854775809}', "maybe"),
        ('{"whole": 1.5}', "whole"),
        ('{"whole": 1e300}', "whole"),
        ('{"whole": 1e999999999}', "whole"),
        ('{"whole": 1e-999999999}', "whole"),
        ('{"whole": true}', "whole"),
        ('{"whole": "1"}', "whole"),
        ('{"many": [1, 9223372036854775808]}', "many"),
        ('{"inner": {"count": 9223372036854775808}}', "inner.count"),
        ('{"real": 1e400}', "real"),
        ('{"real": "NaN"}', "real"),
        ('{"money": "NaN"}', "money"),
        ('{"money": "Infinity"}', "money"),
        ('{"money": "1.23456"}', "money"),
        ('{"money": 1.23456}', "money"),
        ('{"money": "1e30"}', "money"),
        ('{"named": {"k": "sNaN"}}', "named"),
        ('{"at": "2026-11-30T12:00:00"}', "at"),
        ('{"at": "yesterday"}', "at"),
        ('{"at": 1796040000000}', "at"),
    ],
)
def test_what_no_contract_holds_names_the_field(of: Any, value: str, field: str) -> None:
    with pytest.raises(DecodeError, match=rf"(Given|\$)\.{field}") as raised:
        of(Given)(value.encode())
    assert raised.value.reason == "invalid"


@FORMATS
@pytest.mark.parametrize("value", ['{"real": NaN}', '{"money": Infinity}'])
def test_numbers_that_are_no_json(of: Any, value: str) -> None:
    with pytest.raises(DecodeError, match="malformed"):
        of(Given)(value.encode())


@FORMATS
@pytest.mark.parametrize(
    ("value", "given"),
    [
        ('{"whole": 1.0}', Given(whole=1)),
        ('{"whole": 1e2, "maybe": -0.0}', Given(whole=100, maybe=0)),
        ('{"whole": 9007199254740993.0}', Given(whole=9007199254740993)),
        ('{"many": [1.0, 2], "inner": {"count": 3.0}}', Given(many=(1, 2), inner=Inner(count=3))),
        ('{"unlike": 1.0}', Given(unlike=1)),
        ('{"whole": 1.0, "real": 0.1, "at": "2026-11-30T12:00:00Z"}',
         Given(whole=1, real=0.1, at=datetime(2026, 11, 30, 12, tzinfo=UTC))),
        ('{"whole": 1.0, "money": 12345678901234.5678}', Given(whole=1, money=Decimal("12345678901234.5678"))),
        ('{"real": 1}', Given(real=1.0)),
    ],
)  # fmt: skip
def test_numbers_are_what_json_means(of: Any, value: str, given: Given) -> None:
    found = of(Given)(value.encode())
    assert found == given
    assert {name: type(getattr(found, name)) for name in found.__struct_fields__} == {
        name: type(getattr(given, name)) for name in given.__struct_fields__
    }


@FORMATS
@pytest.mark.parametrize("value", ['{"at": 1796040000000}', '{"at": 1796040000000.0}', '{"at": "2026-11-30T12:00:00"}'])
def test_a_class_may_say_what_a_number_means(of: Any, value: str) -> None:
    assert of(Noted)(value.encode()).at == datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_a_topic_of_others_has_the_names_of_today() -> None:
    class Renamed(Value, namespace="others"):
        today: Annotated[int, Alias("former")]

    assert json_decoder(Renamed)(b'{"today": 1.0, "former": 2}').today == 1
    with pytest.raises(DecodeError, match="missing required field `today`"):
        json_decoder(Renamed)(b'{"former": 2.0}')


def test_what_is_no_contract_is_checked_as_far_as_it_goes() -> None:
    decode, encode = json_decoder(Loose), json_encoder(Loose)
    assert decode(b'{"anything": {"a": [1, null]}}') == Loose(anything={"a": [1, None]})
    with pytest.raises(DecodeError, match=r"Loose\.anything\['a'\]\[0\] does not fit 64 bits"):
        decode(b'{"anything": {"a": [9223372036854775808]}}')
    with pytest.raises(EncodeError, match=r"Loose\.anything\['a'\]: JSON has no nan"):
        encode(Loose(anything={"a": float("nan")}))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (Given(whole=1 << 63), "whole"),
        (Given(real=float("nan")), "real"),
        (Given(money=Decimal("NaN")), "money"),
        (Given(money=Decimal("1.23456")), "money"),
        (Given(at=datetime(2026, 11, 30)), "at"),
    ],
)
def test_nothing_of_that_is_written(given: Given, field: str) -> None:
    for encode in (json_encoder(Given), JsonCodec(Given, 1).encode):
        with pytest.raises(EncodeError, match=rf"Given\.{field}"):
            encode(given)
    assert json.loads(json_encoder(Given)(Given())) == json.loads(JsonCodec(Given, 1).encode(Given())[5:])
