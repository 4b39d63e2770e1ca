"""How a Kafka worker calls its handlers: within a span, once for each id where that is asked for, with timers."""

import time
from typing import Any

from millstream.declare import Contract, Handler
from millstream.runtime.calling import Caller, Given, caller
from millstream.runtime.inbound import Meta
from millstream.runtime.place import SeenId
from millstream.runtime.tally import Tally
from millstream.runtime.timers import PartitionTimers
from millstream.telemetry import Tracer


def kafka_caller(handler: Handler, service: str, group: str, tracer: Tracer, tally: Tally) -> Caller:
    """The way to call `handler`, worked out once."""
    call = caller(handler)
    if handler.sets_timers:
        call = _with_timers(call, f"{service}.{handler.name}")
    if handler.inbox is not None:
        call = _once(call, handler.name, handler.inbox.total_seconds(), tally)
    return _traced(call, handler.name, group, tracer) if tracer.enabled else call


def _with_timers(call: Caller, maker: str) -> Caller:
    def timed(event: Any, meta: Meta, given: Given) -> Any:
        timers = given.timers
        assert isinstance(timers, PartitionTimers)
        timers.begin(event, meta, maker)
        return _done(call(event, meta, given))

    return timed


def _once(call: Caller, name: str, window: float, tally: Tally) -> Caller:
    def once(event: Any, meta: Meta, given: Given) -> Any:
        seen, key, now = given.seen, f"{name}/{meta.id}", time.time()
        assert seen is not None
        if (before := seen.get(key)) is not None and before.due > now:
            tally.duplicate(name, meta.message.topic())
            return None
        outputs = _done(call(event, meta, given))
        seen.put(key, SeenId(now + window))
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
            return _done(call(event, meta, given))

    return traced


def _done(outputs: Any) -> Any:
    """A generator's work is done within the call, too."""
    return outputs if outputs is None or isinstance(outputs, Contract) else list(outputs)
