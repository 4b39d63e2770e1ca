"""The queues of parked keys: in order within a key, by time between keys."""

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeAlias

from millstream.kafka.port import Message
from millstream.runtime.task.parked import ParkedEvent

QueueKey: TypeAlias = tuple[str, int, bytes]
"""Topic, partition and key, within which events have an order."""


class ParkedStore(Protocol):
    """A store of parked events; changes belong to the transaction that is open now."""

    def put(self, event: ParkedEvent, /) -> None:
        """Store it, in place of an earlier entry of the same record."""
        ...

    def drop(self, event: ParkedEvent, /) -> None: ...


class KeyQueues:
    """The parked keys of some partitions. In memory; each change is written to `store`.

    - `parked`: the events in the store to begin with. After an aborted transaction, make new queues.
    """

    def __init__(self, store: ParkedStore, parked: Iterable[ParkedEvent] = ()) -> None:
        self._store = store
        self.by_key: dict[QueueKey, list[ParkedEvent]] = {}
        """The events of each parked key, in order; for a hot loop to look whether there is one."""
        self._due: list[tuple[float, QueueKey]] = []
        self._names: Counter[bytes] = Counter()
        """The number of queues of a key, one for each topic."""
        self._count = 0
        for event in parked:
            self._enqueue(event)
        for key in self.by_key:
            self._remind(key)

    def __contains__(self, key: object) -> bool:
        return key in self.by_key

    def __bool__(self) -> bool:
        return bool(self.by_key)

    def __len__(self) -> int:
        """Return how many events are parked."""
        return self._count

    @property
    def keys(self) -> int:
        """Return how many keys are parked."""
        return len(self.by_key)

    @property
    def held(self) -> int:
        """Return how many keys wait for an operator."""
        return sum(events[0].held for events in self.by_key.values())

    def hold(self, name: bytes) -> bool:
        """Return whether an event with this key waits, of whatever topic."""
        return name in self._names

    def head(self, key: QueueKey) -> ParkedEvent | None:
        """Return the event that the others of its key wait for."""
        events = self.by_key.get(key)
        return events[0] if events else None

    def find(self, message: Message) -> ParkedEvent | None:
        """Return the parked event of the same record, at any position: a redriven older one may be the head."""
        events = self.by_key.get(queue_of(message), [])
        index = _index(events, message)
        return events[index] if index < len(events) and events[index].offset() == message.offset() else None

    def add(self, event: ParkedEvent) -> None:
        """Park an event: the first of its key, or behind those that came before it.

        A record that is delivered once more changes nothing: its parked event keeps its attempts, and stays held.
        """
        if self.find(event) is not None:
            return
        self._store.put(event)
        self._enqueue(event)
        self._remind(queue_of(event))

    def retry(self, event: ParkedEvent) -> None:
        """Replace an event that another attempt or an operator has changed."""
        key = queue_of(event)
        events = self.by_key[key]
        index = _index(events, event)
        assert events[index].at == event.at
        self._store.put(event)
        events[index] = event
        self._remind(key)

    def leave(self, event: ParkedEvent) -> None:
        """Remove an event that is done or discarded; behind a head that leaves, the next one is due at once."""
        key = queue_of(event)
        events = self.by_key[key]
        index = _index(events, event)
        assert events[index].at == event.at
        self._store.drop(event)
        del events[index]
        self._count -= 1
        if events:
            self._remind(key)
        else:
            self._forget(key)

    def next_due(self) -> float | None:
        """Return when the next head is to be tried, in seconds since 1970; 0.0 for at once, `None` for never."""
        while self._due:
            moment, key = self._due[0]
            if self._moment(key) == moment:
                return moment
            heapq.heappop(self._due)
        return None

    def due(self, now: float) -> ParkedEvent | None:
        """Return a head that is to be tried by now. Follow with `retry` or `leave`; or nothing, and it is due again."""
        moment = self.next_due()
        if moment is None or moment > now:
            return None
        return self.head(self._due[0][1])

    def drop(self, topic: str, partition: int) -> None:
        """Forget the parked events of a partition that another instance has now; the store keeps them."""
        for key in [key for key in self.by_key if key[:2] == (topic, partition)]:
            self._count -= len(self.by_key[key])
            self._forget(key)

    def _enqueue(self, event: ParkedEvent) -> None:
        key = queue_of(event)
        if key not in self.by_key:
            self.by_key[key] = []
            self._names[key[2]] += 1
        insort(self.by_key[key], event, key=ParkedEvent.offset)
        self._count += 1

    def _forget(self, key: QueueKey) -> None:
        del self.by_key[key]
        self._names[key[2]] -= 1
        if not self._names[key[2]]:
            del self._names[key[2]]

    def _remind(self, key: QueueKey) -> None:
        moment = self._moment(key)
        if moment is not None:
            heapq.heappush(self._due, (moment, key))

    def _moment(self, key: QueueKey) -> float | None:
        head = self.head(key)
        if head is None or head.held:
            return None
        return head.due_at or 0.0


def queue_of(message: Message) -> QueueKey:
    """Return the queue of a record that has a key."""
    return message.topic(), message.partition(), message.key() or b""


def _index(events: list[ParkedEvent], message: Message) -> int:
    """Return the index in a queue of the event that was read from the same offset, or would be."""
    return bisect_left(events, message.offset(), key=ParkedEvent.offset)
