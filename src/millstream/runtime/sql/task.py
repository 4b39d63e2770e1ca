"""The task of an SQL worker, and the calls of its handlers."""

from collections.abc import Callable, Mapping
from typing import Any

from millstream.declare import Handler, Kind, Service
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.outbound import Outbound
from millstream.runtime.sql.inbox import once
from millstream.runtime.sql.unit import SqlUnit
from millstream.runtime.task.invoke import Invoker, identified, invoker
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.partition_task import InternalStores, PartitionTask
from millstream.runtime.task.timers import with_timers
from millstream.state.internal_store import InternalStore
from millstream.state.memory import MemoryStore
from millstream.telemetry import Tracer


class SqlInvoker:
    """Calls a service's SQL handlers, with invokers worked out once.

    - `unit`: the transaction that is open now.
    """

    def __init__(
        self, service: Service, outbound: Outbound, tracer: Tracer, metrics: WorkerMetrics, unit: Callable[[], SqlUnit]
    ) -> None:
        self.service = service
        self.unit = unit
        self._group = service.group(Kind.SQL)
        self._outbound = outbound
        self._tracer = tracer
        self._invokers = {handler.name: self._invoker_of(handler, metrics) for handler in service.of_kind(Kind.SQL)}

    def call(self, handler: Handler, event: Any, meta: EventMetadata, task: "SqlTask") -> list[Record]:
        """One whole call, within a span."""
        message = meta.message
        with self._tracer.process_span(
            message.topic(),
            message.partition(),
            message.offset(),
            self._group,
            meta.traceparent,
            handler=handler.name,
            key=message.key(),
        ) as span:
            meta.traceparent = span.traceparent
            with self.unit().call(handler) as context:
                context.timers = task.timers
                outputs = self._invokers[handler.name](event, meta, context)
                return self._outbound.records(handler.name, meta, outputs)

    def _invoker_of(self, handler: Handler, metrics: WorkerMetrics) -> Invoker:
        call = invoker(handler)
        if handler.sets_timers:
            call = with_timers(call, f"{self.service.name}.{handler.name}")
        if handler.inbox is not None:
            call = once(call, self._group, handler.name, handler.inbox.total_seconds(), metrics)
        return identified(call, handler)


class SqlTask(PartitionTask):
    """A task whose handlers have their state in the service's database."""

    def __init__(
        self,
        partition: int,
        internal_stores: InternalStores,
        stores: Mapping[InternalStore[Any], MemoryStore[Any]],
        invoker: SqlInvoker,
    ) -> None:
        super().__init__(partition, invoker.service, Kind.SQL, internal_stores, stores)
        self._invoker = invoker

    def _call(self, handler: Handler, event: Any, meta: EventMetadata) -> list[Record]:
        return self._invoker.call(handler, event, meta, self)
