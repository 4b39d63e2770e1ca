"""How a Kafka worker calls its handlers: within a span, once for each id where that is asked for, with timers."""

import time
from collections.abc import Container, Mapping
from operator import attrgetter
from typing import Any

from millstream.declare import Contract, Handler, Store, Timer, home_of, key_field
from millstream.runtime.calling import Caller, Given, caller, digest_of, done_within, identified, keyed
from millstream.runtime.foreign_keys import KeyCheck
from millstream.runtime.inbound import Inbox, Meta
from millstream.runtime.place import SeenId
from millstream.runtime.tally import Tally
from millstream.runtime.timers import with_timers
from millstream.telemetry import Tracer


def kafka_caller(handler: Handler, service: str, group: str, tracer: Tracer, tally: Tally) -> Caller:
    """The way to call `handler`, worked out once."""
    call = caller(handler)
    if handler.sets_timers:
        call = with_timers(call, f"{service}.{handler.name}")
    if handler.inbox is not None:
        call = _once(call, handler.name, handler.inbox.total_seconds(), tally)
    call = identified(call, handler)
    return _traced(call, handler.name, group, tracer) if tracer.enabled else call


def routes(
    inbox: Inbox, callers: Mapping[str, Caller], stores: Container[Store[Any]]
) -> dict[type, tuple[str, Caller, tuple[str, str]]]:
    """The way of an event by its class: the handler's name, how to call it, and what to count it as (a class has one
    topic). Timers come another way.

    - `stores`: those that check the keys that they are given.
    """
    found: dict[type, tuple[str, Caller, tuple[str, str]]] = {}
    for contract, handler in inbox.handlers.items():
        if not issubclass(contract, Timer):
            writes = any(store in stores for store in handler.stores)
            call = _checked(contract, callers[handler.name], inbox.keys.get(contract), writes=writes)
            found[contract] = handler.name, keyed(contract, call), (handler.name, home_of(contract).name)
    return found


def _checked(contract: type[Contract], call: Caller, check: KeyCheck | None, *, writes: bool) -> Caller:
    """`call`, for events of `contract` whose record has the key that it should have.

    - `writes`: whether the handler has stores that check keys, and so need to know the event's.
    """
    if check is None:
        return _knowing(contract, call) if writes else call
    key, foreign = check

    def alike(event: Any, meta: Meta, given: Given) -> Any:
        if meta.message.key() != key(event).encode():
            foreign(meta.message)
        return call(event, meta, given)

    def alike_and_known(event: Any, meta: Meta, given: Given) -> Any:
        given.present.key = own = key(event)
        if meta.message.key() != own.encode():
            foreign(meta.message)
        return call(event, meta, given)

    return alike_and_known if writes else alike


def _knowing(contract: type[Contract], call: Caller) -> Caller:
    key = attrgetter(key_field(contract))

    def known(event: Any, meta: Meta, given: Given) -> Any:
        given.present.key = key(event)
        return call(event, meta, given)

    return known


def _once(call: Caller, name: str, window: float, tally: Tally) -> Caller:
    def once(event: Any, meta: Meta, given: Given) -> Any:
        seen, key, now = given.seen, f"{name}/{meta.inbox_key()}", time.time()
        assert seen is not None
        digest = digest_of(meta.message.value())
        if (before := seen.get(key)) is not None and before.due > now:
            tally.duplicate(name, meta.message, same=before.digest == digest)
            return None
        outputs = done_within(call(event, meta, given))
        seen.put(key, SeenId(now + window, digest))
        return outputs

    return once


def _traced(call: Caller, name: str, group: str, tracer: Tracer) -> Caller:
    def traced(event: Any, meta: Meta, given: Given) -> Any:
        message = meta.message
        with tracer.process_span(
            message.topic(),
            message.partition(),
            message.offset(),
            group,
            meta.traceparent,
            handler=name,
            key=message.key(),
        ) as span:
            meta.traceparent = span.traceparent
            return done_within(call(event, meta, given))

    return traced
