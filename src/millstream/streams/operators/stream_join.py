"""Joins of two streams within a time of each other."""

from collections.abc import Callable
from typing import Any

from millstream.streams.operators.base import Operator, StreamTime, Task, Throttle, by_bytes
from millstream.streams.records import Record

LEFT, RIGHT = 1, 0
"""The sides, in the order in which unmatched records of one time come out."""


class StreamJoin(Operator):
    """Joins records of both sides with one key.

    - `before`, `after`: milliseconds; a right record matches from `left.time - before` to `left.time + after`.
    - `grace`: how late a record may be. A later one of an outer side comes out unmatched at once, others are dropped.
    - `preserved`: the sides whose unmatched records come out.

    A record is late for both sides alike, by one stream time: Kafka Streams keeps a time for each store, and so joins
    some records beyond the grace and others not.
    """

    def __init__(
        self,
        task: Task,
        join: Callable[[Any, Any], Any],
        *,
        before: int,
        after: int,
        grace: int,
        preserved: frozenset[int],
        name: str,
    ) -> None:
        super().__init__(task)
        self._join = join
        self._store = task.store(name)
        self._time = StreamTime(self._store)
        self._throttle = Throttle(task)
        self._reach = {LEFT: (before, after), RIGHT: (after, before)}
        self._wait = max(before, after) + grace
        self._preserved = preserved

    def take(self, side: int, record: Record) -> None:
        """Take a record of one side."""
        key, value, time = record
        if value is None or (key is None and side not in self._preserved):
            self.drop("null")
            return
        if key is None:
            self._forward_alone(side, record)
            return
        now = self._time.advance(time)
        if self._throttle.due():
            self._release(now)
        if time + self._wait < now:
            if side in self._preserved:
                self._forward_alone(side, record)
            else:
                self.drop("late")
            return
        matched = self._match(side, record)
        number = self._remember(side, record)
        if not matched and side in self._preserved:
            self._store.put(("unmatched", time, side, by_bytes(key), number), record)

    def _match(self, side: int, record: Record) -> bool:
        key, value, time = record
        other = 1 - side
        back, ahead = self._reach[side]
        records = ("records", other, by_bytes(key))
        found = self._store.range((*records, time - back), (*records, time + ahead + 1))
        for at, match in found:
            _, _, name, matched_time, number = at
            self._store.delete(("unmatched", matched_time, other, name, number))
            pair = (value, match) if side == LEFT else (match, value)
            self.forward(Record(key, self._join(*pair), max(time, matched_time)))
        return bool(found)

    def _remember(self, side: int, record: Record) -> int:
        number = self._store.number()
        self._store.put(("records", side, by_bytes(record.key), record.time, number), record.value)
        self._store.put(("kept", record.time, side, by_bytes(record.key), number), None)
        return number

    def _release(self, now: int) -> None:
        """Forward what was not matched in time, and forget what nothing can match any more."""
        for at, record in self._store.range(("unmatched",), ("unmatched", now - self._wait)):
            self._store.delete(at)
            self._forward_alone(at[2], record)
        for at, _ in self._store.range(("kept",), ("kept", now - 2 * self._wait)):
            self._store.delete(at)
            self._store.delete(("records", at[2], at[3], at[1], at[4]))

    def _forward_alone(self, side: int, record: Record) -> None:
        pair = (record.value, None) if side == LEFT else (None, record.value)
        self.forward(Record(record.key, self._join(*pair), record.time))


class SelfJoin(Operator):
    """Joins a stream with itself: each record with those before it as the left one, then as the right one, then with
    itself."""

    def __init__(
        self, task: Task, join: Callable[[Any, Any], Any], *, before: int, after: int, grace: int, name: str
    ) -> None:
        super().__init__(task)
        self._join = join
        self._before, self._after = before, after
        self._wait = max(before, after) + grace
        self._store = task.store(name)
        self._time = StreamTime(self._store)

    def process(self, record: Record) -> None:
        key, value, time = record
        if key is None or value is None:
            self.drop("null")
            return
        now = self._time.advance(time)
        if time + self._wait < now:
            self.drop("late")
            return
        for at, other in self._others(key, time - self._before, time + self._after):
            self.forward(Record(key, self._join(value, other), max(time, at)))
        for at, other in self._others(key, time - self._after, time + self._before):
            self.forward(Record(key, self._join(other, value), max(time, at)))
        self.forward(Record(key, self._join(value, value), time))
        number = self._store.number()
        self._store.put(("kept", time, by_bytes(key), number), None)
        self._store.put(("records", by_bytes(key), time, number), value)
        for at, _ in self._store.range(("kept",), ("kept", now - 2 * self._wait)):
            self._store.delete(at)
            self._store.delete(("records", at[2], at[1], at[3]))

    def _others(self, key: Any, first: int, last: int) -> list[tuple[int, Any]]:
        found = self._store.range(("records", by_bytes(key), first), ("records", by_bytes(key), last + 1))
        return [(at[2], value) for at, value in found]
