"""Aggregates of a stream without windows: a table of one value for each key."""

from collections.abc import Callable
from typing import Any

from millstream.streams.operators.base import Operator, Task
from millstream.streams.records import Change, Record, Timestamped
from millstream.streams.store import SortedStore

Add = Callable[[Any, Any, Any], Any]
"""The aggregate after one more record, of its key, its value and the aggregate before; `None` before the first."""


class Aggregate(Operator):
    """Updates the aggregate of a record's key. Null keys and values are dropped.

    - `store`: shared by the inputs of a cogroup.
    """

    def __init__(self, task: Task, add: Add, store: SortedStore) -> None:
        super().__init__(task)
        self._add = add
        self._store = store

    def process(self, record: Record) -> None:
        key, value, time = record
        if key is None or value is None:
            self.drop("null")
            return
        before: Timestamped[Any] | None = self._store.get((key,))
        old = None if before is None else before.value
        new = self._add(key, value, old)
        time = time if before is None else max(time, before.time)
        self._store.set((key,), None if new is None else Timestamped(new, time))
        self.forward(Record(key, Change(new, old), time))
