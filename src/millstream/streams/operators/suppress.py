"""Suppression: fewer updates of a table, each of them later."""

from typing import Any

from millstream.streams.operators.base import Operator, StreamTime, Task, by_bytes
from millstream.streams.records import Change, Record, Windowed


class Suppress(Operator):
    """Holds the last update of each key until its time has come.

    - `final`: until the window of the key ends, plus `wait`; tombstones are left out. Else until `wait` milliseconds
      after the time of the key's first update that is held.
    - `max_records`: of keys; beyond it the update with the earliest time comes out at once.
    """

    def __init__(self, task: Task, name: str, *, final: bool, wait: int, max_records: int | None = None) -> None:
        super().__init__(task)
        self._store = task.store(name)
        self._time = StreamTime(self._store)
        self._final = final
        self._wait = wait
        self._max_records = max_records

    def process(self, record: Record) -> None:
        now = self._time.advance(record.time)
        self._hold(record)
        for at, _ in self._store.range(("by_time",), ("by_time", now - self._wait + 1)):
            self._release(at)
        if self._max_records is not None and self._store.get(("count",), 0) > self._max_records:
            first = self._store.first(("by_time",))
            assert first is not None
            self._release(first)

    def _hold(self, record: Record) -> None:
        at = ("keys", _order(record.key))
        held = self._store.get(at)
        if held is None:
            time = record.key.end if self._final else record.time
            self._store.put(("by_time", time, _order(record.key)), None)
            self._store.put(("count",), self._store.get(("count",), 0) + 1)
            old = record.value.old
        else:
            time, before = held
            old = before.value.old
        self._store.put(at, (time, record._replace(value=Change(record.value.new, old))))

    def _release(self, at: tuple[Any, ...]) -> None:
        _, record = self._store.get(("keys", at[2]))
        self._store.delete(at)
        self._store.delete(("keys", at[2]))
        self._store.put(("count",), self._store.get(("count",), 0) - 1)
        if record.value.new is not None or not self._final:
            self.forward(record)


def _order(key: Any) -> Any:
    return (by_bytes(key.key), key.start, key.end) if isinstance(key, Windowed) else by_bytes(key)
