"""Timers of Kafka handlers: set in the transaction of an event, fired in one of their own.

A timer that fires is an event of the pseudo-topic `<group>.timers`: what retries, parks and dead-letters other events
does so with it too.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from millstream.contracts.ids import derived_id
from millstream.contracts.json import without_values
from millstream.declare import Timer, full_name, home_of, key_of
from millstream.errors import DecodeError, Rejected
from millstream.kafka.port import Headers
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.task.invoke import HandlerContext, Invoker, done_within
from millstream.state.internal_store import DueStore
from millstream.state.ownership import Ownership


class SetTimer(msgspec.Struct, frozen=True, kw_only=True):
    """One timer that was set.

    - `number`: counts up with every timer of the partition.
    - `due`: seconds since 1970.
    - `payload`: the timer's fields, as MessagePack: fields may come with defaults, or go.
    - `id`, `correlation_id`, `causation_id`: as an event has them; derived from the event that set it.
    """

    number: int
    due: float
    type: str
    key: str
    payload: bytes
    id: str
    correlation_id: str
    causation_id: str
    traceparent: bytes | None = None


class FiredTimer:
    """A timer as a message: of the pseudo-topic, at the offset that is its number."""

    __slots__ = ("_partition", "_topic", "timer")

    def __init__(self, topic: str, partition: int, timer: SetTimer) -> None:
        self._topic, self._partition, self.timer = topic, partition, timer

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self.timer.number

    def key(self) -> bytes:
        return self.timer.key.encode()

    def value(self) -> bytes:
        return msgspec.msgpack.encode(self.timer)

    def headers(self) -> Headers:
        timer = self.timer
        moment = datetime.fromtimestamp(timer.due, UTC).isoformat(timespec="milliseconds")
        headers: Headers = [
            ("ce_id", timer.id.encode()),
            ("correlationid", timer.correlation_id.encode()),
            ("ce_type", timer.type.encode()),
            ("ce_source", self._topic.encode()),
            ("ce_specversion", b"1.0"),
            ("ce_time", moment.encode()),
            ("causationid", timer.causation_id.encode()),
        ]
        return headers if timer.traceparent is None else [*headers, ("traceparent", timer.traceparent)]

    def timestamp(self) -> tuple[int, int]:
        return 1, int(self.timer.due * 1000)


def timer_decoder(timers: Iterable[type[Timer]]) -> Callable[[bytes | None], Timer]:
    """Return what decodes the value of a `FiredTimer` to its timer, and raises `DecodeError`."""
    read = msgspec.msgpack.Decoder(SetTimer).decode
    payloads = {full_name(timer): msgspec.msgpack.Decoder(timer).decode for timer in timers}

    def decode(value: bytes | None) -> Timer:
        try:
            found = read(value or b"")
            decode_payload = payloads.get(found.type)
            if decode_payload is None:
                raise DecodeError("unexpected_type", f"no handler here takes the timer {found.type}")
            return decode_payload(found.payload)
        except msgspec.ValidationError as error:
            raise DecodeError("invalid", without_values(error)) from None
        except msgspec.MsgspecError as error:
            raise DecodeError("malformed", f"no timer: {error}") from None

    return decode


class PartitionTimers:
    """The timers of one partition, as a handler gets them. `event` is what it handles.

    - `ownership`: which keys the partition has; any, where there is none.
    """

    def __init__(self, store: DueStore, timers: Iterable[type[Timer]], ownership: Ownership | None = None) -> None:
        self.store = store
        self._ownership = ownership
        self._names = {timer: full_name(timer) for timer in timers}
        self._last = max((timer.number for _, timer in store.items()), default=0)
        self._event: Any = None
        self._meta: EventMetadata | None = None
        self._maker = ""
        self._ordinal = 0

    def begin(self, event: Any, meta: EventMetadata, maker: str) -> None:
        """Begin a call of the handler `maker` with this event: ids of timers that it sets derive from the event."""
        self._event, self._meta, self._maker, self._ordinal = event, meta, maker, 0

    def set(self, timer: Timer, /, *, after: timedelta | None = None, at: datetime | None = None) -> None:
        meta = self._meta
        assert meta is not None
        name, key = self._name(type(timer)), key_of(timer)
        if key != key_of(self._event):
            raise Rejected(
                "foreign_key",
                f"{self._maker} sets {type(timer).__name__} of {key!r} while it handles {key_of(self._event)!r}: "
                "its state is in another partition. Send a command with that key, and set the timer where it is "
                "handled",
            )
        self._check(key)
        self._last = max(time.time_ns() // 1000, self._last + 1)
        found = SetTimer(
            number=self._last,
            due=due_moment(after, at),
            type=name,
            key=key,
            payload=msgspec.msgpack.encode(timer),
            id=derived_id(meta.identity, f"{self._maker}.timer", self._ordinal),
            correlation_id=meta.correlation_id,
            causation_id=meta.id,
            traceparent=meta.traceparent,
        )
        self._ordinal += 1
        self.store.put(_store_key(name, key), found)

    def cancel(self, timer: type[Timer], key: str, /) -> None:
        store_key = _store_key(self._name(timer), key)
        if self.store.get(store_key) is None:
            # One that is not set is no error; one that is set elsewhere would fire in spite of this.
            self._check(key)
        else:
            self.store.delete(store_key)

    def _check(self, key: str) -> None:
        """Raise `Rejected` (`foreign_key`) for a key of another partition. An event's own key is here under whatever
        partitioner, where its record has it, too."""
        event, meta = self._event, self._meta
        if self._ownership is None or meta is None or key.encode() == meta.message.key():
            return
        if key != key_of(event) or home_of(type(event)).foreign_keys != "warn":
            self._ownership.check(key)

    def fired(self, timer: SetTimer) -> None:
        """Delete a timer that has fired; another that was set in its place meanwhile stays."""
        store_key = _store_key(timer.type, timer.key)
        now = self.store.get(store_key)
        if now is not None and now.number == timer.number:
            self.store.delete(store_key)

    def _name(self, timer: type[Timer]) -> str:
        if (name := self._names.get(timer)) is None:
            raise ValueError(
                f"{self._maker} sets {timer.__name__}, which no handler beside it takes: register one with "
                f"on({timer.__name__})"
            )
        return name


def _store_key(name: str, key: str) -> str:
    return f"{name}/{key}"


def with_timers(call: Invoker, maker: str) -> Invoker:
    """Return `call` of a handler that asks for timers; ids of what it sets are made of `maker`, `service.handler`."""

    def within_timers(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        timers = context.timers
        assert isinstance(timers, PartitionTimers)
        timers.begin(event, meta, maker)
        return done_within(call(event, meta, context))

    return within_timers


class MemoryTimers:
    """Timers for calling a handler in a test, with nothing running, at whatever time the test says it is.

    >>> from datetime import timedelta
    >>> class PaymentOverdue(Timer, key="order_id"):
    ...     order_id: str
    >>> timers = MemoryTimers()
    >>> timers.set(PaymentOverdue(order_id="o-1"), after=timedelta(minutes=2))
    >>> timers.pass_time(timedelta(minutes=1))
    []
    >>> timers.pass_time(timedelta(minutes=1))
    [PaymentOverdue(order_id='o-1')]
    """

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.now = now
        self._set: dict[tuple[type[Timer], str], tuple[datetime, Timer]] = {}

    def set(self, timer: Timer, /, *, after: timedelta | None = None, at: datetime | None = None) -> None:
        moment = datetime.fromtimestamp(due_moment(after, at, self.now.timestamp()), UTC)
        self._set[type(timer), key_of(timer)] = moment, timer

    def cancel(self, timer: type[Timer], key: str, /) -> None:
        self._set.pop((timer, key), None)

    @property
    def waiting(self) -> list[Timer]:
        """Return the timers that are set, the earliest first."""
        return [timer for _, timer in sorted(self._set.values(), key=lambda found: found[0])]

    def pass_time(self, time: timedelta) -> list[Timer]:
        """Move the time on by `time`; return the timers that are due by then, the earliest first, and delete them."""
        self.now += time
        due = [timer for timer in self.waiting if self._set[type(timer), key_of(timer)][0] <= self.now]
        for timer in due:
            del self._set[type(timer), key_of(timer)]
        return due


def due_moment(after: timedelta | None, at: datetime | None, now: float | None = None) -> float:
    """Return seconds since 1970. Raises `ValueError` unless exactly one of the two is given, `at` with a time zone."""
    if (after is None) == (at is None):
        raise ValueError("a timer is set either after= some time or at= a moment")
    if at is not None:
        if at.tzinfo is None:
            raise ValueError("at= has no time zone: make it datetime(…, tzinfo=UTC)")
        return at.timestamp()
    assert after is not None
    return (time.time() if now is None else now) + max(0.0, after.total_seconds())
