"""Event metadata: in Kafka headers, the binary form of CloudEvents, and W3C trace context.

Headers cost as much as everything else that a hot loop does with a message: writing shares constants, reading
looks first where our own writer puts things.
"""

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Protocol, TypeAlias

from millstream.contracts.cloudevents import CONTENT_TYPE, headers_in
from millstream.contracts.ids import position_id
from millstream.declare.contract import Contract, full_name
from millstream.declare.envelope import Envelope

Headers: TypeAlias = "list[tuple[str, bytes | None]]"
HeaderWriter: TypeAlias = "Callable[[str, str, str | None, bytes | None], Headers]"

MAX_BYTES = 255
"""A longer header value is not believed."""

_CONTENT = {
    "avro": b"application/avro",
    "protobuf": b"application/protobuf",
    "json_schema": b"application/json",
    "json": b"application/json",
    "cloudevents": CONTENT_TYPE,
}
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Lying(Protocol):
    """The place of a record in its topic, and since when it lies there."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...


class Received(Lying, Protocol):
    """A message as librdkafka hands it over."""

    def headers(self) -> "Sequence[tuple[str, bytes | None]] | None": ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...


@cache
def header_writer(contract: type[Contract], source: str) -> HeaderWriter:
    """A function that makes the headers of events of one class from `source`, a service.

    It takes the event's id, its correlation id, and its causation id and traceparent or None; the time is now.

    >>> from millstream.declare.contract import Event
    >>> class ParcelLost(Event, key="parcel_id", namespace="shipping"):
    ...     parcel_id: str
    >>> write = header_writer(ParcelLost, "shipping")
    >>> dict(write("id-2", "id-1", "id-1", None))["ce_type"]
    b'shipping.ParcelLost'
    """
    kind = ("ce_type", full_name(contract).encode())
    origin = ("ce_source", source.encode())
    version = ("ce_specversion", b"1.0")
    home = (contract.__deletes__ or contract).__home__
    content = ("content-type", _CONTENT[home.format if home else "avro"])

    def write(id: str, correlation_id: str, causation_id: str | None, traceparent: bytes | None) -> Headers:
        headers: Headers = [
            ("ce_id", id.encode()),
            ("correlationid", correlation_id.encode()),
            kind,
            origin,
            version,
            content,
            ("ce_time", _now()),
        ]
        if causation_id is not None:
            headers.append(("causationid", causation_id.encode()))
        if traceparent is not None:
            headers.append(("traceparent", traceparent))
        return headers

    return write


def headers_for(
    contract: type[Contract],
    source: str,
    *,
    id: str,
    correlation_id: str,
    causation_id: str | None = None,
    traceparent: bytes | None = None,
) -> Headers:
    """The headers of one event. Where many events of one class follow each other, keep a `header_writer` instead."""
    return header_writer(contract, source)(id, correlation_id, causation_id, traceparent)


def identity(
    headers: "Sequence[tuple[str, bytes | None]] | None", message: "Lying"
) -> tuple[str, str, bytes | None, str]:
    """The id of an event, its correlation id, its traceparent or None, and what tells it apart: all for a hot loop.

    The last is the id alone where Millstream wrote the headers; else the source and the id, for CloudEvents asks of
    producers only that both together are unique.

    - `message`: where the record lies; asked only where it has no id.

    Never raises: what a record lacks or makes no sense of is derived from its position, or left out.
    """
    if not headers:
        id = _position(message)
        return id, id, None, id
    name, first = headers[0]
    if name == "ce_id" and len(headers) > 2 and headers[1][0] == "correlationid":
        second = headers[1][1]
        name, trace = headers[-1]
        id = _text(first)
        if id is not None:
            return id, _text(second) or id, _trace(trace) if name == "traceparent" else None, id
    found = dict(headers)
    id, source = _text(found.get("ce_id")), _text(found.get("ce_source"))
    if id is None:
        apart = id = _position(message)
    else:
        apart = id if source is None else told_apart(source, id)
    return id, _text(found.get("correlationid")) or id, _trace(found.get("traceparent")), apart


def told_apart(source: str, id: str) -> str:
    """The identity of an event among all CloudEvents: its source and its id. Neither has a line break.

    >>> told_apart("/shops/north", "1") == told_apart("/shops/south", "1")
    False
    """
    return f"{source}\n{id}"


def _position(message: "Lying") -> str:
    return position_id(message.topic(), message.partition(), message.offset(), message.timestamp()[1])


def metadata(message: Received, contract: type[Contract] | None) -> "Sequence[tuple[str, bytes | None]] | None":
    """The headers of a message. Those of a whole CloudEvent, where only its value has them, are made of its attributes.

    `contract` is what the value turned out to be. Raises `DecodeError` only for headers that cannot be read at all.
    """
    headers = message.headers()
    if headers and headers[0][0] == "ce_id":
        return headers
    home = None if contract is None else contract.__home__
    return headers if home is None or home.format != "cloudevents" else headers_in(message.value()) or headers


def envelope_from(message: Received, contract: type[Contract] | None = None) -> Envelope:
    """The whole metadata of a message. `contract` is what its value turned out to be.

    Foreign records without headers get an id from their position, the full name of `contract` (or their topic) as their
    type, their topic as the source, and the broker's time. Never raises for what headers hold, but `DecodeError` for
    headers that cannot be read at all.
    """
    headers = metadata(message, contract)
    topic = message.topic()
    found = dict(headers or ())
    id, correlation_id, traceparent, _ = identity(headers, message)
    return Envelope(
        id=id,
        type=_text(found.get("ce_type")) or (topic if contract is None else full_name(contract)),
        source=_text(found.get("ce_source")) or topic,
        time=_moment(_text(found.get("ce_time"))) or _timestamp(message.timestamp()),
        key=_key(message.key()),
        topic=topic,
        partition=message.partition(),
        offset=message.offset(),
        correlation_id=correlation_id,
        causation_id=_text(found.get("causationid")),
        traceparent=None if traceparent is None else traceparent.decode(),
    )


def _text(raw: bytes | None) -> str | None:
    if not raw or len(raw) > MAX_BYTES:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # text that is none counts as missing
        return None
    return text if text.isprintable() else None


def _trace(raw: bytes | None) -> bytes | None:
    return raw if raw is not None and _TRACEPARENT.fullmatch(raw) else None


def _key(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="replace")


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # a moment that is none counts as missing
        return None


def _timestamp(stamp: tuple[int, int]) -> datetime:
    _, milliseconds = stamp
    try:
        return datetime.fromtimestamp(max(milliseconds, 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


_second = 0
_second_text = b""


def _now() -> bytes:
    """RFC 3339 with microseconds; the text of the second is made once a second."""
    global _second, _second_text
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    text = _second_text
    if second != _second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        _second_text = text  # text before number: another thread must not pair the new second with the old text
        _second = second
    return b"%b.%06dZ" % (text, nanoseconds // 1000)
