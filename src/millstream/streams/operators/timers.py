"""Timers of a stream, in event time and by the wall clock."""

from collections.abc import Callable, Iterable
from typing import Any

from millstream.streams.operators.base import Operator, StreamTime, Task
from millstream.streams.records import Record

Tick = Callable[[int], Iterable[tuple[Any, Any]]]
"""Makes the keys and values of one tick from its time."""


class EventTimer(Operator):
    """Passes records on. Ticks at its first record, then at multiples of `interval`, once however far time jumps."""

    def __init__(self, task: Task, interval: int, tick: Tick, name: str) -> None:
        super().__init__(task)
        self._interval = interval
        self._tick = tick
        self._store = task.store(name)
        self._time = StreamTime(self._store)

    def process(self, record: Record) -> None:
        self.forward(record)
        now = self._time.advance(record.time)
        due = self._store.get(("due",))
        if due is None or now >= due:
            self._store.put(("due",), (now // self._interval + 1) * self._interval)
            for key, value in self._tick(now):
                self.forward(Record(key, value, now))


class WallTimer(Operator):
    """Passes records on. Ticks every `interval` of wall clock, once however far the clock jumps."""

    def __init__(self, task: Task, interval: int, tick: Tick) -> None:
        super().__init__(task)
        self._interval = interval
        self._tick = tick
        self._due = task.wall_clock + interval

    def wake(self) -> None:
        """Tick if that is due."""
        now = self.task.wall_clock
        if now >= self._due:
            self._due = self._due + (now - self._due) // self._interval * self._interval + self._interval
            for key, value in self._tick(now):
                self.forward(Record(key, value, 0))
