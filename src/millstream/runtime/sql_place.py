"""One partition of an SQL worker: what its handlers are given."""

from collections.abc import Callable, Mapping
from typing import Any

from millstream.declare import Handler, Kind, Service
from millstream.runtime.calling import Caller, caller, identified
from millstream.runtime.dead_letters import Record
from millstream.runtime.inbound import Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.place import Keeping, Place
from millstream.runtime.sql_inbox import once
from millstream.runtime.sql_unit import SqlUnit
from millstream.runtime.tally import Tally
from millstream.runtime.timers import with_timers
from millstream.state.kept import Kept
from millstream.state.memory import MemoryStore
from millstream.telemetry import Tracer


class SqlCalls:
    """The ways to call a service's SQL handlers, worked out once.

    - `unit`: the transaction that is open now.
    """

    def __init__(
        self, service: Service, outbound: Outbound, tracer: Tracer, tally: Tally, unit: Callable[[], SqlUnit]
    ) -> None:
        self.service = service
        self.unit = unit
        self._group = service.group(Kind.SQL)
        self._outbound = outbound
        self._tracer = tracer
        self._callers = {handler.name: self._caller(handler, tally) for handler in service.of_kind(Kind.SQL)}

    def attempt(self, handler: Handler, event: Any, meta: Meta, place: "SqlPlace") -> list[Record]:
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
            with self.unit().call(handler) as given:
                given.timers = place.timers
                outputs = self._callers[handler.name](event, meta, given)
                return self._outbound.records(handler.name, meta, outputs)

    def _caller(self, handler: Handler, tally: Tally) -> Caller:
        call = caller(handler)
        if handler.sets_timers:
            call = with_timers(call, f"{self.service.name}.{handler.name}")
        if handler.inbox is not None:
            call = once(call, self._group, handler.name, handler.inbox.total_seconds(), tally)
        return identified(call, handler)


class SqlPlace(Place):
    """A partition whose handlers keep their state in the service's database."""

    def __init__(
        self, partition: int, keeping: Keeping, stores: Mapping[Kept[Any], MemoryStore[Any]], calls: SqlCalls
    ) -> None:
        super().__init__(partition, calls.service, Kind.SQL, keeping, stores)
        self._calls = calls

    def attempt(self, handler: Handler, event: Any, meta: Meta, /) -> list[Record]:
        """One whole call of a handler. Whatever it raises, nothing of it is left."""
        try:
            return self._calls.attempt(handler, event, meta, self)
        except BaseException:
            self.undo()
            raise
