"""How a Kafka worker calls its handlers: within a span, once for each id where that is asked for, with timers."""

import time
from typing import Any

from millstream.declare import Handler
from millstream.runtime.calling import Caller, Given, caller, digest_of, done_within, identified
from millstream.runtime.inbound import Meta
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
