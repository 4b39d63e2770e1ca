"""The task of a worker for one partition: its timers and its key queues."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from millstream.declare import Handler, Kind, Service
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.foreign_keys import timer_ownership
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.task.key_queues import KeyQueues
from millstream.runtime.task.parked import ParkedEvent, parked_store, store_key
from millstream.runtime.task.timers import FiredTimer, PartitionTimers, SetTimer
from millstream.state.internal_store import DueStore, InternalStore
from millstream.state.memory import MemoryStore

LOOK_AGAIN_SECONDS = 1.0
"""Seconds after which a due timer checks again whether its key is still parked."""


class HandledId(msgspec.Struct, frozen=True):
    """An identity that was handled, until when (seconds since 1970) it counts, and the digest of the record."""

    due: float
    digest: bytes


class InternalStores(NamedTuple):
    """The stores of the runtime in partition state, beside those that handlers declare."""

    parked: InternalStore[ParkedEvent]
    timers: InternalStore[SetTimer] | None
    inbox: InternalStore[HandledId] | None

    @classmethod
    def of(cls, service: Service, kind: Kind) -> "InternalStores":
        return cls(
            parked_store(service.parked_topic(kind)),
            InternalStore("timers", service.timers_topic(kind), SetTimer, timed=True) if service.timers(kind) else None,
            InternalStore("inbox", service.inbox_topic(kind), HandledId, timed=True)
            if kind is Kind.KAFKA and any(handler.inbox for handler in service.of_kind(kind))
            else None,
        )

    @property
    def all(self) -> tuple[InternalStore[Any], ...]:
        return tuple(store for store in self if store is not None)


class PartitionTask(ABC):
    """The part of a worker that owns one partition: its timers and its key queues.

    - `stores`: the internal stores of the partition, and those that handlers write to.
    - `queues`: of parked keys; `parked` has their events by key, for a quick look.
    """

    def __init__(
        self,
        partition: int,
        service: Service,
        kind: Kind,
        internal_stores: InternalStores,
        stores: Mapping[Any, MemoryStore[Any]],
    ) -> None:
        self.partition = partition
        self.timers = None
        self._timers_topic = service.timers_topic(kind)
        if internal_stores.timers is not None:
            store, ownership = (
                cast("DueStore", stores[internal_stores.timers]),
                timer_ownership(service, kind, partition),
            )
            self.timers = PartitionTimers(store, service.timers(kind), ownership)
        # Parked events are written once the outcome of an event is known, so there is nothing to undo.
        self.stores = tuple(store for declared, store in stores.items() if declared is not internal_stores.parked)
        self._parked_store = PartitionParkedStore(stores[internal_stores.parked])
        self.rebuild_queues()

    def rebuild_queues(self) -> None:
        """Make the key queues from the store; also after a transaction that was aborted."""
        self.queues = KeyQueues(self._parked_store, self._parked_store.events())
        self.parked = self.queues.by_key

    def attempt(self, handler: Handler, event: Any, meta: EventMetadata) -> list[Record]:
        """Make one whole call of a handler. Whatever it raises, nothing of it is left."""
        try:
            return self._call(handler, event, meta)
        except BaseException:
            self.undo()
            raise

    @abstractmethod
    def _call(self, handler: Handler, event: Any, meta: EventMetadata) -> list[Record]: ...

    def undo(self) -> None:
        """Take back what the present event wrote."""
        for store in self.stores:
            store.undo_event()

    def keep(self) -> None:
        """Keep what the present event, which is done, wrote."""
        for store in self.stores:
            store.keep_event()

    def next_due(self) -> float | None:
        """Return when the next parked event or timer is due, in seconds since 1970."""
        moments = (self.queues.next_due() if self.parked else None, self.timers and self.timers.store.next_due())
        return min((moment for moment in moments if moment is not None), default=None)

    def take_due(self, now: float) -> ParkedEvent | FiredTimer | None:
        """Return what is due by now; follow with `done`. A timer waits while an event of its key is parked."""
        if self.parked and (head := self.queues.due(now)) is not None:
            return head
        if self.timers is None:
            return None
        store = self.timers.store
        while (due := store.due(now)) is not None:
            key, timer = due
            if not self.queues.hold(timer.key.encode()):
                return FiredTimer(self._timers_topic, self.partition, timer)
            # A parked event of its key may cancel it.
            store.postpone(key, now + LOOK_AGAIN_SECONDS)
        return None

    def done(self, message: ParkedEvent | FiredTimer) -> None:
        """Note the outcome of what was due. Only now has a timer fired: until then it may be what stops the worker."""
        if self.timers is not None and isinstance(message, FiredTimer):
            self.timers.fired(message.timer)
        self.keep()


def seconds_until_due(tasks: Iterable[PartitionTask], limit: float) -> float:
    """Return how long a worker may wait for events before one of its tasks has something to do.

    0 for now, `limit` where nothing is due before that.
    """
    moments = [moment for task in tasks if (moment := task.next_due()) is not None]
    return max(0.0, min(limit, min(moments) - time.time())) if moments else limit


class PartitionParkedStore:
    """The parked events in an internal store of the partition."""

    def __init__(self, store: MemoryStore[Any]) -> None:
        self._store = store

    def put(self, event: ParkedEvent, /) -> None:
        self._store.put(store_key(event), event)

    def drop(self, event: ParkedEvent, /) -> None:
        self._store.delete(store_key(event))

    def events(self) -> Iterator[ParkedEvent]:
        return (event for _, event in self._store.items())
