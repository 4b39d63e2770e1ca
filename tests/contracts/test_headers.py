"""Headers: what we write we read, and nothing that others write can hurt."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from millstream.contracts import envelope_from, header_writer, headers_for, identity, position_id
from millstream.declare import Event, Topic

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class ParcelSent(Event, key="parcel_id", namespace="shipping"):
    parcel_id: str


class ReadingTaken(Event, key="device", namespace="sensors"):
    device: str


readings = Topic("headers.readings", ReadingTaken, format="json")


class Record(NamedTuple):
    """A message as it comes from Kafka, in as far as headers matter."""

    found: Sequence[tuple[str, bytes | None]] | None
    moment: int = 1_700_000_000_123

    def headers(self) -> Sequence[tuple[str, bytes | None]] | None:
        return self.found

    def key(self) -> bytes | None:
        return b"p-1"

    def value(self) -> bytes | None:
        return b"whatever"

    def topic(self) -> str:
        return "shipping.events"

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 42

    def timestamp(self) -> tuple[int, int]:
        return 1, self.moment


def test_what_is_written_is_read() -> None:
    before = datetime.now(UTC)
    headers = header_writer(ParcelSent, "shipping")("id-3", "id-1", "id-2", TRACE)
    assert identity(headers, Record(headers)) == ("id-3", "id-1", TRACE, "id-3")
    envelope = envelope_from(Record(headers))
    assert before - timedelta(milliseconds=1) <= envelope.time <= datetime.now(UTC)
    assert (envelope.id, envelope.correlation_id, envelope.causation_id) == ("id-3", "id-1", "id-2")
    assert (envelope.type, envelope.source) == ("shipping.ParcelSent", "shipping")
    assert (envelope.topic, envelope.partition, envelope.offset, envelope.key) == ("shipping.events", 3, 42, "p-1")
    assert envelope.traceparent == TRACE.decode()


def test_they_are_cloudevents() -> None:
    headers = dict(headers_for(ParcelSent, "shipping", id="i", correlation_id="c"))
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/avro"
    assert dict(headers_for(ReadingTaken, "s", id="i", correlation_id="c"))["content-type"] == b"application/json"
    assert datetime.fromisoformat(headers["ce_time"].decode()).tzinfo is not None
    assert not {"causationid", "traceparent"} & headers.keys()


def test_any_order_of_others() -> None:
    headers = header_writer(ParcelSent, "shipping")("id-3", "id-1", None, TRACE)
    backwards = headers[::-1]
    assert identity(backwards, Record(backwards)) == ("id-3", "id-1", TRACE, "shipping\nid-3")
    assert identity([("ce_id", b"x")], Record(None)) == ("x", "x", None, "x")


def test_source_and_id_together_tell_events_of_others_apart() -> None:
    events = [("/shops/north", "1"), ("/shops/south", "1"), ("/shops/south", "2")]
    found = [[("ce_id", id.encode()), ("ce_source", source.encode())] for source, id in events]
    assert len({identity(headers, Record(headers))[3] for headers in found}) == 3
    assert {identity(headers, Record(headers))[0] for headers in found} == {"1", "2"}


def test_foreign_records() -> None:
    for headers in (None, [], [("other", b"x")]):
        envelope = envelope_from(Record(headers), ReadingTaken)
        assert envelope.id == envelope.correlation_id == position_id("shipping.events", 3, 42, 1_700_000_000_123)
        assert envelope.type == "sensors.ReadingTaken"
        assert envelope.source == "shipping.events"
        assert envelope.time == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)


names = st.sampled_from(
    ["ce_id", "ce_type", "ce_source", "ce_time", "correlationid", "causationid", "traceparent", "x"]
)
values = st.none() | st.binary(max_size=40) | st.binary(min_size=256, max_size=300) | st.just(TRACE)


@given(st.none() | st.lists(st.tuples(names, values), max_size=9), st.integers(-(1 << 63), (1 << 63) - 1))
@example([("ce_id", b"\xff"), ("correlationid", b"a\nb"), ("traceparent", b"00-zz")], -1)
@example([("ce_time", b"0001-01-01T00:00:00+23:00")], 1 << 62)
def test_hostile_headers(headers: list[tuple[str, bytes | None]] | None, moment: int) -> None:
    envelope = envelope_from(Record(headers, moment), ParcelSent)
    for text in (envelope.id, envelope.type, envelope.source, envelope.correlation_id, envelope.causation_id or "x"):
        assert text.isprintable() and 0 < len(text) <= 255
    assert envelope.time.tzinfo is not None
    assert envelope.traceparent in (None, TRACE.decode())
    assert identity(headers, Record(headers, moment))[0] == envelope.id
