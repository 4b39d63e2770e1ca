"""Filling a handler's parameters, trying again, and telling of what failed."""

import threading
import time
from typing import Annotated, Any

import pytest

from millstream.declare import Call, Envelope, Event, Kind, Retry, Service, State, Store, Topic, Value
from millstream.errors import DecodeError, Rejected, Unsettled
from millstream.runtime.records.dead_letter import dead_letter
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.task.invoke import GaveUp, HandlerContext, invoker, retry_handler
from millstream.runtime.worker import Stopping
from millstream.state import memory


class Asked(Event, key="id", namespace="test"):
    id: str


class Seen(Value, namespace="test"):
    times: int


topic = Topic("calling.asked", Asked)
SEEN = Store("seen", Seen)


class Record:
    """A record as the port describes it, for what needs no broker."""

    def __init__(self, headers: Any = None, key: bytes | None = b"k", value: bytes | None = b"v") -> None:
        self._headers, self._key, self._value = headers, key, value

    def topic(self) -> str:
        return topic.name

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return 42

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000


def handler(function: Any, **options: Any) -> Any:
    service = Service("calling")
    service.on(Asked, **options)(function)
    return service.of_kind(Kind.KAFKA)[0]


def test_each_parameter_gets_what_it_names():
    def all_of_it(asked: Asked, seen: Annotated[State[Seen], SEEN], envelope: Envelope) -> None:
        seen.put(asked.id, Seen(times=envelope.offset))

    store = memory(SEEN)
    meta = EventMetadata(Record(), Asked)
    invoker(handler(all_of_it))(Asked(id="a"), meta, HandlerContext(states={SEEN: store}))
    assert store.get("a") == Seen(times=42)
    assert meta.envelope() is meta.envelope()
    assert meta.envelope().id == meta.id == meta.correlation_id


def test_an_effect_gets_its_call_and_its_resources():
    class Gateway: ...

    service = Service("calling")

    @service.effect(Asked)
    async def ask(asked: Asked, call: Call, gateway: Gateway) -> None:
        got.append((call, gateway))

    got: list[Any] = []
    meta, gateway = EventMetadata(Record(), Asked), Gateway()
    call = Call(key="k", attempt=1, timeout=1.0, envelope=meta.envelope())
    coroutine = invoker(service.of_kind(Kind.EFFECT)[0])(
        Asked(id="a"), meta, HandlerContext(call=call, resources={Gateway: gateway})
    )
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert got == [(call, gateway)]


def ignore(asked: Asked) -> None: ...


def test_trying_again_ends_when_the_policy_says_so():
    three = handler(ignore, retry=Retry(attempts=3, backoff=lambda failures: 0.0))
    calls: list[int] = []
    waits: list[int] = []

    def attempt() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise Unsettled("not yet")
        return len(calls)

    stop = threading.Event()
    assert retry_handler(three, attempt, stop=stop, before_wait=lambda: waits.append(len(calls))) == 3
    assert waits == [1, 2]

    def never() -> None:
        calls.append(1)
        raise TimeoutError("never")

    calls.clear()
    with pytest.raises(GaveUp) as gave_up:
        retry_handler(three, never, stop=stop, failed=TimeoutError("the first"))
    assert (gave_up.value.attempts, len(calls)) == (3, 2)

    def reject() -> None:
        calls.append(1)
        raise Rejected("no")

    calls.clear()
    with pytest.raises(GaveUp) as gave_up:
        retry_handler(three, reject, stop=stop)
    assert (gave_up.value.attempts, len(calls)) == (1, 1)


def test_a_stop_ends_the_waiting():
    slow = handler(ignore, retry=Retry(backoff=lambda failures: 30.0))
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopping):
        retry_handler(slow, lambda: (_ for _ in ()).throw(TimeoutError()), stop=stop)
    assert time.monotonic() - began < 25


def test_a_dead_letter_keeps_what_came_and_says_what_happened():
    original = [("ce_id", b"1"), ("odd", None), ("millstream-dlq-reason", b"an earlier one")]
    try:
        raise ValueError("x" * 5_000 + "\ud800")
    except ValueError as raised:
        error = raised
    target, key, value, headers = dead_letter(
        Record(original, None, None), service="payment", handler="charge", error=error, attempts=3
    )
    assert (target, key, value) == ("calling.asked.dlq", None, None)
    assert headers[:2] == original[:2]
    said = dict(headers[2:])
    assert said.pop("millstream-dlq-first-failed-at") == said.pop("millstream-dlq-failed-at")
    stack = said.pop("millstream-dlq-stacktrace")
    assert stack is not None and b"test_a_dead_letter_keeps" in stack[:8_000] and len(stack) <= 8_000
    assert said.pop("millstream-dlq-message") == b"x" * 1_000
    assert said == {
        "millstream-dlq-topic": b"calling.asked",
        "millstream-dlq-partition": b"3",
        "millstream-dlq-offset": b"42",
        "millstream-dlq-timestamp": b"1700000000000",
        "millstream-dlq-service": b"payment",
        "millstream-dlq-handler": b"charge",
        "millstream-dlq-reason": b"ValueError",
        "millstream-dlq-error": b"builtins.ValueError",
        "millstream-dlq-attempts": b"3",
    }


def test_undecodable_bytes_name_no_handler():
    _, _, _, headers = dead_letter(
        Record(), service="payment", handler=None, error=DecodeError("truncated", "at byte 7"), attempts=0
    )
    said = dict(headers)
    assert said["millstream-dlq-reason"] == b"truncated"
    assert "millstream-dlq-handler" not in said and "millstream-dlq-stacktrace" not in said
