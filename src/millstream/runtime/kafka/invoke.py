"""Calls of Kafka handlers: within a span, once for each id where the handler has an inbox, with timers."""

import time
from collections.abc import Container, Mapping
from operator import attrgetter
from typing import Any

from millstream.declare import Contract, Handler, Store, Timer, home_of, key_field
from millstream.runtime.records.foreign_keys import KeyCheck
from millstream.runtime.records.inbound import EventMetadata, InboundReader
from millstream.runtime.task.invoke import HandlerContext, Invoker, digest_of, done_within, identified, invoker, keyed
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.partition_task import HandledId
from millstream.runtime.task.timers import with_timers
from millstream.telemetry import Tracer


def kafka_invoker(handler: Handler, service: str, group: str, tracer: Tracer, metrics: WorkerMetrics) -> Invoker:
    """Return what calls `handler`, worked out once."""
    call = invoker(handler)
    if handler.sets_timers:
        call = with_timers(call, f"{service}.{handler.name}")
    if handler.inbox is not None:
        call = _once(call, handler.name, handler.inbox.total_seconds(), metrics)
    call = identified(call, handler)
    return _traced(call, handler.name, group, tracer) if tracer.enabled else call


def routes(
    reader: InboundReader, invokers: Mapping[str, Invoker], stores: Container[Store[Any]]
) -> dict[type, tuple[str, Invoker, tuple[str, str]]]:
    """Return the route of an event by its class: the handler's name, its invoker, and its labels in metrics (a class
    has one topic). Timers have none.

    - `stores`: those that check the keys that they are given.
    """
    found: dict[type, tuple[str, Invoker, tuple[str, str]]] = {}
    for contract, handler in reader.handlers.items():
        if not issubclass(contract, Timer):
            writes = any(store in stores for store in handler.stores)
            call = _checked(contract, invokers[handler.name], reader.keys.get(contract), writes=writes)
            found[contract] = handler.name, keyed(contract, call), (handler.name, home_of(contract).name)
    return found


def _checked(contract: type[Contract], call: Invoker, check: KeyCheck | None, *, writes: bool) -> Invoker:
    """`call`, for events of `contract` whose record has the key that it should have.

    - `writes`: whether the handler has stores that check keys, and so need to know the event's.
    """
    if check is None:
        return _knowing(contract, call) if writes else call
    key, foreign = check

    def alike(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        if meta.message.key() != key(event).encode():
            foreign(meta.message)
        return call(event, meta, context)

    def alike_and_known(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        context.present.key = own = key(event)
        if meta.message.key() != own.encode():
            foreign(meta.message)
        return call(event, meta, context)

    return alike_and_known if writes else alike


def _knowing(contract: type[Contract], call: Invoker) -> Invoker:
    key = attrgetter(key_field(contract))

    def known(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        context.present.key = key(event)
        return call(event, meta, context)

    return known


def _once(call: Invoker, name: str, window: float, metrics: WorkerMetrics) -> Invoker:
    def once(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        inbox, key, now = context.inbox, f"{name}/{meta.inbox_key()}", time.time()
        assert inbox is not None
        digest = digest_of(meta.message.value())
        if (before := inbox.get(key)) is not None and before.due > now:
            metrics.duplicate(name, meta.message, same=before.digest == digest)
            return None
        outputs = done_within(call(event, meta, context))
        inbox.put(key, HandledId(now + window, digest))
        return outputs

    return once


def _traced(call: Invoker, name: str, group: str, tracer: Tracer) -> Invoker:
    def traced(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
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
            return done_within(call(event, meta, context))

    return traced
