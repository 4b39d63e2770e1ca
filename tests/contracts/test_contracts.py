"""`Contracts` and `Decoder`: several classes on a topic, other versions, other types, unknown ids, plain JSON."""

import io
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import fastavro
import pytest
from tests.contracts.conftest import Scripted, answer
from tests.contracts.samples import Card, Invoice, Money

from millstream.contracts import Contracts, Registry, schema_text, subject_for
from millstream.contracts.framing import framing
from millstream.declare import Alias, Event, Topic, Value
from millstream.errors import DeclarationError, DecodeError, EncodeError, RegistryUnavailable


class Placed(Event, key="order_id", namespace="shop"):
    order_id: str
    total: Money
    tags: tuple[str, ...] = ()
    payment: Card | Invoice = Card(number="none")
    fee: Money | None = Decimal("0.5")
    seen: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    state: Literal["new", "paid"] = "new"
    extra: datetime | str | bytes | None = datetime(2026, 1, 1, tzinfo=UTC)


class Dropped(Event, key="order_id", namespace="shop"):
    order_id: str


class Strange(Event, key="order_id", namespace="shop"):
    order_id: str


class Reading(Event, key="device", namespace="sensors"):
    device: str
    celsius: float
    at: datetime | None = None


orders = Topic("contracts.orders", Placed, Dropped)
others = Topic("contracts.others", Strange)
readings = Topic("contracts.readings", Reading, format="json")
PLACED = Placed(order_id="o-1", total=Decimal("9.9000"), payment=Card(number="4111"))


@pytest.fixture
def registry(registry_url: str) -> Registry:
    return Registry(registry_url)


@pytest.fixture
def contracts(registry: Registry) -> Contracts:
    made = Contracts(registry)
    made.register([Placed, Dropped, Strange])
    return made


def decode_error(decode: Any, value: Any) -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        decode(value)
    return raised.value


def test_classes_of_one_topic_are_told_apart(contracts: Contracts, registry: Registry) -> None:
    decode = contracts.decoder([orders]).decode
    for event in (PLACED, Dropped(order_id="o-2")):
        assert decode(contracts.encode(event)) == event
    subjects = registry.subjects()
    assert "contracts.orders-shop.Placed" in subjects
    assert "contracts.orders-shop.Dropped" in subjects


def test_another_process_decodes_what_it_never_registered(contracts: Contracts, registry_url: str) -> None:
    decode = Contracts(Registry(registry_url)).decoder([orders, others]).decode
    for event in (PLACED, Dropped(order_id="o-2"), Strange(order_id="o-3")):
        assert decode(contracts.encode(event)) == event


def test_a_class_of_another_topic_is_refused(contracts: Contracts) -> None:
    error = decode_error(contracts.decoder([orders]).decode, contracts.encode(Strange(order_id="o")))
    assert error.reason == "unexpected_type"
    assert "shop.Strange" in error.detail


def write(registry: Registry, fields: list[dict[str, Any]], record: dict[str, Any], subject: str) -> bytes:
    schema = {"type": "record", "name": "Placed", "namespace": "shop", "fields": fields}
    schema_id = registry.register(subject, json.dumps(schema))
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), record)
    return framing(schema_id) + written.getvalue()


MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}


def test_an_older_version_is_resolved(contracts: Contracts, registry: Registry) -> None:
    fields: list[dict[str, Any]] = [
        {"name": "gone", "type": {"type": "map", "values": "long"}},
        {"name": "total", "type": MONEY},
        {"name": "order_id", "type": "string"},
    ]
    old = write(registry, fields, {"gone": {"a": 1}, "total": Decimal(3), "order_id": "o-9"}, "old-shop.Placed")
    decode = contracts.decoder([orders]).decode
    assert decode(old) == Placed(order_id="o-9", total=Decimal(3))
    assert decode_error(decode, old[:-1]).reason == "truncated"
    assert decode_error(decode, old + b"\0").reason == "trailing_bytes"


class Moved(Event, key="order_id", namespace="shop", aliases=("Shifted", "store.Shifted")):
    order_id: Annotated[str, Alias("id")]
    to: Annotated[str | None, Alias("place"), Alias("target")] = None


moves = Topic("contracts.moves", Moved)


@pytest.mark.parametrize(("name", "to"), [("shop.Shifted", "place"), ("store.Shifted", "target"), ("shop.Moved", "to")])
def test_what_had_other_names_is_read(registry: Registry, name: str, to: str) -> None:
    fields = [{"name": "id", "type": "string"}, {"name": to, "type": "string"}]
    schema = {"type": "record", "name": name, "fields": fields}
    message = framing(registry.register(f"old-{name}", json.dumps(schema))) + b"\x06o-1\x08home"
    assert Contracts(registry).decoder([moves]).decode(message) == Moved(order_id="o-1", to="home")


def test_a_version_that_does_not_lead_to_ours(contracts: Contracts, registry: Registry) -> None:
    fields = [{"name": "order_id", "type": "string"}]
    foreign = write(registry, fields, {"order_id": "o-9"}, "foreign-shop.Placed")
    assert decode_error(contracts.decoder([orders]).decode, foreign).reason == "incompatible_schema"


def test_an_unknown_id_costs_one_question(scripted: Scripted) -> None:
    scripted.answers = [answer(404, '{"error_code": 40403, "message": "Schema not found"}')]
    decode = Contracts(Registry(scripted.url)).decoder([orders]).decode
    for _ in range(1000):
        assert decode_error(decode, framing(77) + b"x").reason == "unknown_schema"
    assert scripted.requests == ["GET /schemas/ids/77"]


def test_an_unknown_id_may_become_known(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.contracts.catalogue.FORGET_AFTER", 0.0)
    unknown = answer(404, '{"error_code": 40403, "message": "Schema 77 not found"}')
    scripted.answers = [unknown, answer(200, json.dumps({"schema": schema_text(Dropped)}))]
    decode = Contracts(Registry(scripted.url)).decoder([orders]).decode
    message = framing(77) + b"\x02o"
    assert decode_error(decode, message).reason == "unknown_schema"
    assert decode(message) == Dropped(order_id="o")


@pytest.mark.parametrize(
    "body",
    [
        '{"message": "no Route matched with those values"}',
        '{"error_code": 404, "message": "HTTP 404 Not Found"}',
        '{"error_code": 40401, "message": "Subject not found"}',
        '{"error_code": "40403"}',
        "<html>404</html>",
        "[]",
    ],
)
def test_a_404_that_is_no_registrys_is_an_outage(scripted: Scripted, body: str) -> None:
    scripted.answers = [answer(404, body)]
    decode = Contracts(Registry(scripted.url, timeout=0.2)).decoder([orders]).decode
    with pytest.raises(RegistryUnavailable, match="404"):
        decode(framing(77) + b"\x02o")


def test_an_outage_stops_nothing_that_is_known(scripted: Scripted) -> None:
    scripted.answers = [answer(200, json.dumps({"schema": schema_text(Dropped)})), answer(503, "")]
    decode = Contracts(Registry(scripted.url, timeout=1.0)).decoder([orders]).decode
    message = b"\x02o"
    for _ in range(3):
        assert decode(framing(77) + message) == Dropped(order_id="o")
    with pytest.raises(RegistryUnavailable):
        decode(framing(78) + message)


@pytest.mark.parametrize("value", [None, b"", b"\0", b"\0\0\0\0", b'{"a": 1}', b"\x01" + b"\0" * 16])
def test_values_that_are_not_framed(contracts: Contracts, value: bytes | None) -> None:
    assert decode_error(contracts.decoder([orders]).decode, value).reason in ("empty", "not_framed")


HOSTILE: dict[str, Any] = {
    "deep": {"type": "record", "name": "Placed", "namespace": "shop", "fields": [
        {"name": "next", "type": ["null", "Placed"]}]},
    "wide": {"type": "record", "name": "Placed", "namespace": "shop", "fields": [
        {"name": "nothing", "type": {"type": "array", "items": "null"}}]},
    "unknown name": {"type": "record", "name": "Placed", "namespace": "shop", "fields": [
        {"name": "x", "type": "Nowhere"}]},
    "no fields": {"type": "record", "name": "Placed", "namespace": "shop"},
    "odd fields": {"type": "record", "name": "Placed", "namespace": "shop", "fields": 5},
    "odd field": {"type": "record", "name": "Placed", "namespace": "shop", "fields": ["x"]},
    "a list": [1, {}, None],
    "a number": 5,
    "text": "string",
}  # fmt: skip


@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_hostile_schemas(scripted: Scripted, schema: Any) -> None:
    """Ten bytes may ask for 2**62 nulls, a hundred thousand for as many levels."""
    scripted.answers = [answer(200, json.dumps({"schema": json.dumps(schema)}))]
    contracts = Contracts(Registry(scripted.url))
    began = time.monotonic()
    for payload in (b"\x02" * 100_000, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", b"\x00"):
        decode_error(contracts.decoder([orders]).decode, framing(5) + payload)
        if payload != b"\x00":
            decode_error(lambda value: contracts.decode_any("t", value), framing(5) + payload)
    assert time.monotonic() - began < 30


def test_json_topics_need_no_registry() -> None:
    contracts = Contracts(None)
    reading = Reading(device="d-1", celsius=21.5)
    value = contracts.encode(reading)
    assert json.loads(value) == {"device": "d-1", "celsius": 21.5, "at": None}
    decode = contracts.decoder([readings]).decode
    assert decode(value) == reading
    assert decode(b'{"device": "d-1", "celsius": 21, "more": []}') == Reading(device="d-1", celsius=21.0)


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "empty", "no value"),
        (b"", "empty", "no value"),
        (b"{", "malformed_json", "truncated"),
        (b'{"device": "\xff"}', "malformed_json", "utf-8"),
        (b'{"x":' + b"[" * 1_000_000, "too_deep", "nested"),
        (b'{"device": "d"}', "invalid", "celsius"),
        (b'{"device": "d", "celsius": "warm"}', "invalid", r"\$\.celsius"),
        (b"[]", "invalid", "object"),
    ],
)
def test_json_that_is_wrong(value: bytes | None, reason: str, detail: str) -> None:
    decode = Contracts(None).decoder([readings]).decode
    with pytest.raises(DecodeError, match=detail) as raised:
        decode(value)
    assert raised.value.reason == reason


def test_json_is_checked_before_it_is_written() -> None:
    with pytest.raises(EncodeError, match=r"Reading: .*\$\.celsius"):
        Contracts(None).encode(Reading(device="d", celsius="warm"))  # pyright: ignore[reportArgumentType]


def test_a_json_topic_has_a_decoder_of_its_own() -> None:
    with pytest.raises(DeclarationError, match="JSON topic alone"):
        Contracts(None).decoder([readings, orders])


def test_values_of_a_changelog(registry: Registry) -> None:
    class Parcel(Value, namespace="shop"):
        weight: int

    values = Contracts(registry).values("shipping.parcels.changelog", Parcel)
    assert values.decode(values.encode(Parcel(weight=3))) == Parcel(weight=3)
    assert subject_for("shipping.parcels.changelog", "shop.Parcel") in registry.subjects()


def test_anything_can_be_shown(contracts: Contracts) -> None:
    shown = contracts.decode_any(orders, contracts.encode(PLACED))
    assert shown["order_id"] == "o-1"
    assert shown["total"] == "9.9000"
    assert json.loads(json.dumps(shown)) == shown
    assert contracts.decode_any("any", contracts.encode(Strange(order_id="s"))) == {"order_id": "s"}
    assert contracts.decode_any(readings, b'{"a": [1]}') == {"a": [1]}
    for value in (None, b"\0\0\0\0\x7f", b"\xff", b"\0{"):
        decode_error(lambda value: contracts.decode_any(orders, value), value)
