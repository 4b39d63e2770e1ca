"""One partition of a Kafka worker: the stores of its handlers, its timers, and what is parked of it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from millstream.declare import Handler, Kind, Service
from millstream.runtime.calling import Caller, Given
from millstream.runtime.dead_letters import Record
from millstream.runtime.inbound import Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.parking import Lanes, ParkedEvent
from millstream.runtime.timers import PartitionTimers, SetTimer
from millstream.state.kept import DueStore, Kept
from millstream.state.memory import MemoryStore
from millstream.state.partitions import StatePartitions


class SeenId(msgspec.Struct, frozen=True):
    """An id that was handled, and until when (seconds since 1970) it counts."""

    due: float


class Keeping(NamedTuple):
    """What the worker of a service keeps in partition state, beside the stores that handlers declare."""

    parked: Kept[ParkedEvent]
    timers: Kept[SetTimer] | None
    seen: Kept[SeenId] | None

    @classmethod
    def of(cls, service: Service) -> "Keeping":
        kind = Kind.KAFKA
        return cls(
            Kept("parked", service.parked(kind), ParkedEvent),
            Kept("timers", service.timed(kind), SetTimer, timed=True) if service.timers(kind) else None,
            Kept("inbox", service.seen(kind), SeenId, timed=True)
            if any(handler.inbox for handler in service.of_kind(kind))
            else None,
        )

    @property
    def all(self) -> tuple[Kept[Any], ...]:
        return tuple(kept for kept in self if kept is not None)


class Place:
    """What handlers are given for events of one partition, and what may have to be undone.

    - `lanes`: what is parked; `parked` is what they hold by key, for a quick look.
    """

    def __init__(
        self,
        partition: int,
        service: Service,
        states: StatePartitions,
        keeping: Keeping,
        outbound: Outbound,
        callers: Mapping[str, Caller],
    ) -> None:
        self._outbound = outbound
        self._callers = callers
        stores = states.stores(partition)
        self.partition = partition
        self.timers = None
        if keeping.timers is not None:
            self.timers = PartitionTimers(cast("DueStore", stores[keeping.timers]), service.timers(Kind.KAFKA))
        self.seen = None if keeping.seen is None else cast("DueStore", stores[keeping.seen])
        self.given = Given(states=cast("Any", stores), timers=self.timers, seen=self.seen)
        # What is parked is written once it is known what becomes of an event, so there is nothing to undo.
        self.stores = tuple(store for kept, store in stores.items() if kept is not keeping.parked)
        self._shelf = StoreShelf(stores[keeping.parked])
        self.line_up()

    def line_up(self) -> None:
        """Make the lanes of what is parked; anew after a transaction that was aborted."""
        self.lanes = Lanes(self._shelf, self._shelf.events())
        self.parked = self.lanes.by_key

    def attempt(self, handler: Handler, event: Any, meta: Meta, /) -> list[Record]:
        """One whole call of a handler. Whatever it raises, nothing of it is left."""
        try:
            return self._outbound.records(handler.name, meta, self._callers[handler.name](event, meta, self.given))
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        """Take back what the present event wrote."""
        for store in self.stores:
            store.undo_event()

    def keep(self) -> None:
        """The present event is done."""
        for store in self.stores:
            store.keep_event()

    def next_due(self) -> float | None:
        """When something has to be done without any event, in seconds since 1970."""
        moments = (self.lanes.next_due() if self.parked else None, self.timers and self.timers.store.next_due())
        return min((moment for moment in moments if moment is not None), default=None)


class StoreShelf:
    """Keeps parked events in a store of the partition."""

    def __init__(self, store: MemoryStore[Any]) -> None:
        self._store = store

    def put(self, event: ParkedEvent, /) -> None:
        self._store.put(_key(event), event)

    def drop(self, event: ParkedEvent, /) -> None:
        self._store.delete(_key(event))

    def events(self) -> Iterator[ParkedEvent]:
        return (event for _, event in self._store.items())


def _key(event: ParkedEvent) -> str:
    return "/".join(map(str, event.at))
