"""CloudEvents in structured mode: what others send whole, a handler gets, with its envelope, and back."""

import base64
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.runtime.running import Running

from millstream.contracts import Contracts, envelope_from, header_writer, identity, position_id
from millstream.contracts.cloudevents import headers_in, structured
from millstream.contracts.headers import metadata
from millstream.declare import Alias, Envelope, Event, Service, Topic, Value, upcasts
from millstream.errors import DeclarationError, DecodeError
from millstream.kafka import connect
from millstream.operate.assembly import topics_of
from millstream.operate.documents.whole import whole_example, whole_schema
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTENT_TYPE = ("content-type", b"application/cloudevents+json; charset=UTF-8")


class Weighed(Event, key="parcel", namespace="scales", aliases=("com.example.weighed",)):
    parcel: Annotated[str, Alias("parcelId")]
    grams: int
    place: Annotated[str | None, Alias("where")] = None


class Lost(Event, key="parcel", namespace="scales"):
    parcel: str


scales = Topic("scales.events", Weighed, Lost, format="cloudevents")


class OldWeighed(Value, namespace="scales", aliases=("com.example.weighed.v0",)):
    parcel: str
    kilos: float


@upcasts(Weighed, OldWeighed)
def from_kilos(old: OldWeighed) -> Weighed:
    return Weighed(parcel=old.parcel, grams=round(old.kilos * 1000))


@upcasts(Weighed, "com.example.weighed", having="pounds")
def from_pounds(old: dict[str, Any]) -> Weighed:
    return Weighed(parcel=old["parcel"], grams=round(old["pounds"] * 453.59237))


CONTRACTS = Contracts(None)
CONTRACTS.register([Weighed, Lost])
decode = CONTRACTS.decoder([scales]).decode
WEIGHED = Weighed(parcel="p-1", grams=850)


def whole(**members: Any) -> bytes:
    """As the specification's example has it. `...` leaves a member out."""
    event = {
        "specversion": "1.0",
        "type": "com.example.weighed",
        "source": "/mycontext/subcontext",
        "id": "1234-1234-1234",
        "time": "2018-04-05T03:56:24Z",
        "comexampleextension": 5,
        "data": {"parcel": "p-1", "grams": 850},
    } | members
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


class Record(NamedTuple):
    body: bytes | None
    found: Sequence[tuple[str, bytes | None]] | None = (CONTENT_TYPE,)

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        return self.found

    def key(self) -> bytes | None:
        return b"p-1"

    def value(self) -> bytes | None:
        return self.body

    def topic(self) -> str:
        return "scales.events"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 42

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_123


@pytest.mark.parametrize(
    ("value", "event"),
    [
        (whole(), WEIGHED),
        (whole(type="scales.Weighed"), WEIGHED),
        (whole(data={"parcelId": "p-1", "grams": 850, "where": "dock", "more": []}), None),
        (whole(datacontenttype="application/json; charset=utf-8"), WEIGHED),
        (whole(datacontenttype="application/vnd.scales+JSON"), WEIGHED),
        (whole(datacontenttype=None, data_base64=None, subject=None), WEIGHED),
        (whole(data=..., data_base64=base64.b64encode(b'{"parcel":"p-1","grams":850}').decode()), WEIGHED),
        (whole(type="scales.Lost", data={"parcel": "p-1"}), Lost(parcel="p-1")),
        (whole(type="scales.OldWeighed", data={"parcel": "p-1", "kilos": 0.85}), WEIGHED),
        (whole(type="com.example.weighed.v0", data={"parcel": "p-1", "kilos": 0.85}), WEIGHED),
        (whole(data={"parcel": "p-1", "pounds": 2}), Weighed(parcel="p-1", grams=907)),
    ],
)
def test_what_others_send_is_read(value: bytes, event: Event | None):
    assert decode(value) == (event or Weighed(parcel="p-1", grams=850, place="dock"))


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (whole(type="com.example.eaten"), "unexpected_type", "com.example.eaten; expected scales.Weighed, scales.Lost"),
        (whole(specversion="0.3"), "invalid", "'0.3'; 1.0 is read"),
        (whole(specversion=...), "invalid", "specversion"),
        (whole(id=""), "invalid", r"\$.id is empty"),
        (whole(source=...), "invalid", "source"),
        (whole(type=7), "invalid", r"\$.type"),
        (whole(data=...), "invalid", r"no \$.data"),
        (whole(data=None), "invalid", ""),
        (whole(data='{"parcel":"p-1","grams":850}'), "invalid", ""),
        (whole(data={"parcel": "p-1"}), "invalid", "grams"),
        (whole(data={"parcel": "p-1", "grams": "many"}), "invalid", "grams"),
        (whole(data_base64="e30="), "invalid", "both"),
        (whole(data=..., data_base64="e30"), "invalid", "data_base64"),
        (whole(data=..., data_base64="fQ=="), "malformed_json", ""),
        (whole(datacontenttype="application/xml", data="<x/>"), "unreadable_data", "application/xml; JSON is read"),
        (whole()[:-9], "malformed_json", ""),
        (b"[]", "invalid", ""),
        (b"", "empty", ""),
        (None, "empty", ""),
    ],
)
def test_what_is_no_event_of_the_topic_is_refused(value: bytes | None, reason: str, said: str):
    with pytest.raises(DecodeError, match=said or None) as caught:
        decode(value)
    assert caught.value.reason == reason


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(max_size=9), lambda of: st.lists(of)).map(json.dumps))
@example('{"specversion":"1.0","id":"\\ud800","source":"s","type":"t"}')
@example('{"specversion":"1.0","id":"i","source":"s","type":"t","data":' + "[" * 100_000)
def test_whatever_comes_is_an_event_or_a_decode_error(value: bytes | str):
    raw = value.encode() if isinstance(value, str) else value
    with pytest.raises(DecodeError):
        decode(raw)
    for name, text in headers_in(raw):
        assert name and text.decode()


def test_attributes_make_the_envelope():
    value = whole(correlationid="story-1", causationid="cause-1", traceparent=TRACE)
    envelope = envelope_from(Record(value), Weighed)
    assert (envelope.id, envelope.type) == ("1234-1234-1234", "com.example.weighed")
    assert (envelope.source, envelope.time) == ("/mycontext/subcontext", datetime(2018, 4, 5, 3, 56, 24, tzinfo=UTC))
    assert (envelope.correlation_id, envelope.causation_id) == ("story-1", "cause-1")
    assert (envelope.traceparent, envelope.key, envelope.offset) == (TRACE, "p-1", 42)


@pytest.mark.parametrize("headers", [(CONTENT_TYPE,), (), None, (("ce_type", b"of another"), CONTENT_TYPE)])
def test_the_value_says_it_whatever_the_headers(headers: Sequence[tuple[str, bytes | None]] | None):
    assert envelope_from(Record(whole(), headers), Weighed).type == "com.example.weighed"
    record = Record(whole(), headers)
    id, _, _, apart = identity(metadata(record, Weighed), record)
    assert (id, apart) == ("1234-1234-1234", "/mycontext/subcontext\n1234-1234-1234")


def test_attributes_that_make_no_sense_are_left_out():
    value = whole(time="yesterday", correlationid=7, traceparent="x", source="s" * 300, id="a\nb")
    envelope = envelope_from(Record(value), Weighed)
    assert envelope.id == envelope.correlation_id == position_id("scales.events", 3, 42, 1_700_000_000_123)
    assert (envelope.source, envelope.traceparent) == ("scales.events", None)
    assert envelope.time == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


def test_what_we_send_is_a_whole_event_by_the_schema_of_the_documents():
    headers = header_writer(Weighed, "scales")("id-1", "id-0", "id-0", TRACE.encode())
    value = structured(CONTRACTS.encode(WEIGHED), headers)
    sent = json.loads(value)
    validator = jsonschema.Draft202012Validator(whole_schema(Weighed))
    validator.validate(sent)
    validator.validate(whole_example(Weighed))
    assert not validator.is_valid(sent | {"data": {"parcel": "p-1"}})
    assert dict(headers)["content-type"] == CONTENT_TYPE[1]
    assert sent.pop("time").endswith("Z")
    assert sent == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "scales",
        "type": "scales.Weighed",
        "datacontenttype": "application/json",
        "correlationid": "id-0",
        "causationid": "id-0",
        "traceparent": TRACE,
        "data": {"parcel": "p-1", "grams": 850, "place": None},
    }
    assert decode(value) == WEIGHED
    assert CONTRACTS.decode_any(scales, value)["data"]["grams"] == 850
    assert CONTRACTS.decode_any(scales.name, value)["id"] == "id-1"


def test_such_a_topic_is_decoded_alone():
    class Other(Event, key="id", namespace="scales"):
        id: str

    with pytest.raises(DeclarationError, match=r"scales\.events, scales\.others"):
        CONTRACTS.decoder([scales, Topic("scales.others", Other)])


@pytest.fixture
def moved() -> tuple[Service, Topic, Topic, list[Envelope]]:
    """A service between two topics of whole events, and the envelopes that its handler saw."""
    name = f"t{uuid.uuid4().hex[:8]}"

    class Arrived(Event, key="parcel", namespace="test", aliases=("com.example.arrived",)):
        parcel: str

    class Stored(Event, key="parcel", namespace="test"):
        parcel: str
        told_by: str

    arrivals = Topic(f"{name}.arrivals", Arrived, partitions=1, format="cloudevents")
    stock = Topic(f"{name}.stock", Stored, partitions=1, format="cloudevents")
    service, seen = Service(name), list[Envelope]()

    @service.on(Arrived)
    def store(arrived: Arrived, envelope: Envelope) -> Stored:
        seen.append(envelope)
        return Stored(parcel=arrived.parcel, told_by=envelope.source)

    return service, arrivals, stock, seen


def test_a_handler_gets_what_a_foreign_producer_sent(
    moved: tuple[Service, Topic, Topic, list[Envelope]], shared_kafka: LocalKafka
):
    service, arrivals, stock, seen = moved
    kafka = connect(Settings(bootstrap_servers=shared_kafka.bootstrap), service.name)
    admin = kafka.admin()
    admin.ensure_topics(topics_of(service))
    producer = kafka.producer()
    said = whole(type="com.example.arrived", data={"parcel": "p-1"}, traceparent=TRACE)
    producer.produce(arrivals.name, said, b"p-1", [CONTENT_TYPE])
    producer.produce(arrivals.name, whole(type="com.example.eaten"), b"p-2", [CONTENT_TYPE])
    producer.flush()
    producer.close()
    settings = Settings(bootstrap_servers=shared_kafka.bootstrap, commit_interval_ms=20)
    running = Running(KafkaWorker(service, settings, Contracts(None), kafka))
    group = f"{service.name}.kafka"
    try:
        wait_until(
            lambda: sum(partition.lag for partition in admin.group_lag(group, [arrivals.name])) == 0,
            seconds=60,
            what="both to be handled",
        )
    finally:
        running.stop()
        admin.close()
    (envelope,) = seen
    assert (envelope.id, envelope.type) == ("1234-1234-1234", "com.example.arrived")
    (sent,) = [message for batch in kafka.read_to_end(stock.name) for message in batch]
    event = json.loads(sent.value() or b"")
    assert event["data"] == {"parcel": "p-1", "told_by": "/mycontext/subcontext"}
    assert (event["type"], event["causationid"], event["correlationid"]) == ("test.Stored", envelope.id, envelope.id)
    assert event["traceparent"] == TRACE
    assert dict(sent.headers() or ())["content-type"] == CONTENT_TYPE[1]
    (letter,) = [message for batch in kafka.read_to_end(arrivals.dead_letters) for message in batch]
    assert dict(letter.headers() or ())["millstream-dlq-reason"] == b"unexpected_type"
