"""One partition of a worker: its timers, and what is parked of it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, cast

import msgspec

from millstream.declare import Kind, Service
from millstream.runtime.foreign_keys import timer_ownership
from millstream.runtime.parking import Lanes, ParkedEvent
from millstream.runtime.timers import FiredTimer, PartitionTimers, SetTimer
from millstream.state.kept import DueStore, Kept
from millstream.state.memory import MemoryStore

LOOK_AGAIN_SECONDS = 1.0
"""How often a timer that is due looks whether its key is still parked."""


class SeenId(msgspec.Struct, frozen=True):
    """An identity that was handled, until when (seconds since 1970) it counts, and the digest of the record."""

    due: float
    digest: bytes


class Keeping(NamedTuple):
    """What the workers of a service keep in partition state, beside the stores that handlers declare."""

    parked: Kept[ParkedEvent]
    timers: Kept[SetTimer] | None
    seen: Kept[SeenId] | None

    @classmethod
    def of(cls, service: Service, kind: Kind) -> "Keeping":
        return cls(
            Kept("parked", service.parked(kind), ParkedEvent),
            Kept("timers", service.timed(kind), SetTimer, timed=True) if service.timers(kind) else None,
            Kept("inbox", service.seen(kind), SeenId, timed=True)
            if kind is Kind.KAFKA and any(handler.inbox for handler in service.of_kind(kind))
            else None,
        )

    @property
    def all(self) -> tuple[Kept[Any], ...]:
        return tuple(kept for kept in self if kept is not None)


class Place:
    """One partition of a worker: its timers, and what is parked of it.

    - `stores`: what is kept of the partition, and whatever else handlers write to.
    - `lanes`: what is parked; `parked` is what they hold by key, for a quick look.
    """

    def __init__(
        self,
        partition: int,
        service: Service,
        kind: Kind,
        keeping: Keeping,
        stores: Mapping[Any, MemoryStore[Any]],
    ) -> None:
        self.partition = partition
        self.timers = None
        self._timed = service.timed(kind)
        if keeping.timers is not None:
            store, ownership = cast("DueStore", stores[keeping.timers]), timer_ownership(service, kind, partition)
            self.timers = PartitionTimers(store, service.timers(kind), ownership)
        # What is parked is written once it is known what becomes of an event, so there is nothing to undo.
        self.stores = tuple(store for kept, store in stores.items() if kept is not keeping.parked)
        self._shelf = StoreShelf(stores[keeping.parked])
        self.line_up()

    def line_up(self) -> None:
        """Make the lanes of what is parked; anew after a transaction that was aborted."""
        self.lanes = Lanes(self._shelf, self._shelf.events())
        self.parked = self.lanes.by_key

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

    def take_due(self, now: float) -> ParkedEvent | FiredTimer | None:
        """What is to be done by now; follow with `done`. A timer waits while anything of its key is parked."""
        if self.parked and (head := self.lanes.due(now)) is not None:
            return head
        if self.timers is None:
            return None
        store = self.timers.store
        while (due := store.due(now)) is not None:
            key, timer = due
            if not self.lanes.hold(timer.key.encode()):
                return FiredTimer(self._timed, self.partition, timer)
            # What is parked of its key may be what cancels it.
            store.postpone(key, now + LOOK_AGAIN_SECONDS)
        return None

    def done(self, message: ParkedEvent | FiredTimer) -> None:
        """It is known what becomes of what was due. Only now has a timer fired: until then it may be what stops us."""
        if self.timers is not None and isinstance(message, FiredTimer):
            self.timers.fired(message.timer)
        self.keep()


def seconds_until_due(places: Iterable[Place], most: float) -> float:
    """How long a worker may wait for events before one of its places has something to do: 0 for now, at most `most`."""
    moments = [moment for place in places if (moment := place.next_due()) is not None]
    return max(0.0, min(most, min(moments) - time.time())) if moments else most


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
    # With its timestamp: where the topic was made again, another event lies at the same place.
    return "/".join(map(str, (*event.at, event.stamp[1])))
