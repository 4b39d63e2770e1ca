"""The nodes of a running topology: each takes records, and forwards what becomes of them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from millstream.streams.records import Record
from millstream.streams.store import SortedStore


class Task:
    """One partition of a topology: its stores, its wall clock, and what left it.

    - `emit`: takes each record for a topic.
    - `emit_interval`: milliseconds of wall clock between two searches for closed windows and unmatched records.
    """

    def __init__(self, emit: Callable[[str, Record], None], emit_interval: int = 1_000) -> None:
        self.emit = emit
        self.emit_interval = emit_interval
        self.wall_clock = 0
        self.dropped: Counter[str] = Counter()
        """Records that were left out, by reason."""
        self._stores: dict[str, SortedStore] = {}

    def store(self, name: str) -> SortedStore:
        """Return the store of this name, one for all who ask: the inputs of a cogroup share theirs."""
        return self._stores.setdefault(name, SortedStore(name))

    @property
    def entries(self) -> int:
        """The number of entries in all stores."""
        return sum(map(len, self._stores.values()))

    def keep(self) -> None:
        """Keep the changes of the present record."""
        for store in self._stores.values():
            store.keep()

    def undo(self) -> None:
        """Take back all that the present record changed in stores."""
        for store in self._stores.values():
            store.undo()


class Operator:
    """A node of a running topology. `forward` passes a record on to each child, in the order of their declaration."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.children: list[Operator] = []

    def process(self, record: Record) -> None:
        """Process one record. Here it is passed on as it is: for sources, and where streams meet."""
        self.forward(record)

    def forward(self, record: Record) -> None:
        for child in self.children:
            child.process(record)

    def drop(self, reason: str) -> None:
        """Count a record that is left out."""
        self.task.dropped[reason] += 1


class StreamTime:
    """The highest event time that reached an operator. In a store: a restart reopens no closed window."""

    def __init__(self, store: SortedStore) -> None:
        self._store = store

    def advance(self, time: int) -> int:
        """Return the time after a record of `time`."""
        now: int | None = self._store.get(("time",))
        if now is not None and now >= time:
            return now
        self._store.put(("time",), time)
        return time


class Throttle:
    """Says when to search for what is closed: once an interval of wall clock."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next = 0

    def due(self) -> bool:
        now = self._task.wall_clock
        if now < self._next:
            return False
        self._next = now + self._task.emit_interval
        return True


class Inlet(Operator):
    """The entry of one side of an operator that tells its inputs apart.

    - `take`: takes the number of the side and a record.
    """

    def __init__(self, task: Task, take: Callable[[int, Record], None], side: int) -> None:
        super().__init__(task)
        self._take = take
        self._side = side

    def process(self, record: Record) -> None:
        self._take(self._side, record)


class Sink(Operator):
    """The exit to a topic."""

    def __init__(self, task: Task, topic: str) -> None:
        super().__init__(task)
        self._topic = topic

    def process(self, record: Record) -> None:
        self.task.emit(self._topic, record)


def by_bytes(key: Any) -> Any:
    """Return what keys are ordered by: strings by their UTF-8 bytes, as Kafka orders them."""
    return key.encode() if isinstance(key, str) else key
