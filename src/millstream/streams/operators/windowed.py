"""Aggregates in tumbling, hopping and sliding windows, and in sessions."""

from collections.abc import Iterator
from typing import Any

from millstream.streams.operators.aggregates import Add
from millstream.streams.operators.base import Operator, StreamTime, Task, Throttle, by_bytes
from millstream.streams.records import Change, Record, Timestamped, Windowed
from millstream.streams.store import SortedStore
from millstream.streams.windows import Hopping, Session, Sliding, Window


class WindowedAggregate(Operator):
    """Aggregates in windows of one kind: it keeps the time, knows what is late, and when results come out.

    - `window`: when it closes; a record for a closed window is late, and dropped from that window alone.
    - `on_close`: a window's result comes out once, when it closes; else after every record.
    - `store`: the windows, and those of each key in order; shared by the inputs of a cogroup.
    """

    def __init__(self, task: Task, window: Window, add: Add, store: SortedStore, *, on_close: bool) -> None:
        super().__init__(task)
        self._window = window
        self._add = add
        self._store = store
        self._on_close = on_close
        self._time = StreamTime(store)
        self._throttle = Throttle(task)

    def process(self, record: Record) -> None:
        if record.key is None or record.time < 0:
            self.drop("null" if record.key is None else "negative_time")
            return
        now = self._time.advance(record.time)
        self.update(record, now)
        if self._on_close and self._throttle.due():
            self._close(now)
        self._forget(now)

    def update(self, record: Record, now: int) -> None:
        raise NotImplementedError

    def windows(self, key: Any, first: int, last: int) -> list[tuple[int, Timestamped[Any]]]:
        """Return the windows of a key with starts from `first` to `last`, both included."""
        found = self._store.range(("windows", by_bytes(key), first), ("windows", by_bytes(key), last + 1))
        return [(at[2], entry[1]) for at, entry in found]

    def put(self, record: Record, start: int, end: int, before: Timestamped[Any] | None, now: int) -> None:
        """Add a record to a window, and say so; a closed window drops it."""
        key, value, time = record
        if self.closed(end, now):
            self.drop("late")
            return
        old = None if before is None else before.value
        new = self._add(key, value, old)
        time = time if before is None else max(time, before.time)
        self.save(key, start, end, None if new is None else Timestamped(new, time))
        if not self._on_close:
            self.forward(Record(Windowed(key, start, end), Change(new, old), time))

    def save(self, key: Any, start: int, end: int, value: Timestamped[Any] | None) -> None:
        """Store a window, or forget it."""
        by_key, by_end = ("windows", by_bytes(key), start), ("ends", end, start, by_bytes(key))
        if value is None:
            self._store.delete(by_key)
            self._store.delete(by_end)
        else:
            self._store.put(by_key, (end, value))
            self._store.put(by_end, key)

    def closed(self, end: int, now: int) -> bool:
        """Return whether a window with this end takes no record any more."""
        return end + self._window.wait <= now

    def _close(self, now: int) -> None:
        """Forward the results of windows that have closed since the last time, by starts, then by bytes of keys."""
        first, last = self._store.get(("closed",), 0), now - self._window.wait + 1
        if last <= first:
            return
        self._store.put(("closed",), last)
        found = self._store.range(("ends", first), ("ends", last))
        for (_, end, start, name), key in sorted(found, key=lambda entry: entry[0][2:]):
            _, result = self._store.get(("windows", name, start))
            self.forward(Record(Windowed(key, start, end), Change(result.value, None), result.time))

    def _forget(self, now: int) -> None:
        """Forget windows that no record can belong to, and whose results are out."""
        last = now - self._window.wait - self._window.memory + 1
        if self._on_close:
            last = min(last, self._store.get(("closed",), 0))
        for (_, end, start, _), key in self._store.range(("ends",), ("ends", last)):
            self.save(key, start, end, None)


class HoppingAggregate(WindowedAggregate):
    """Aggregates in tumbling and hopping windows."""

    _window: Hopping

    def update(self, record: Record, now: int) -> None:
        before = dict(self.windows(record.key, max(0, record.time - self._window.size), record.time))
        for start in self._window.starts(record.time):
            self.put(record, start, start + self._window.size, before.get(start), now)


class SlidingAggregate(WindowedAggregate):
    """Aggregates in sliding windows: for each record the window that ends with it, and the one that begins after it.

    The order of results is that of Kafka Streams: first the windows there are, the latest first, then the one after
    the record before, the one that ends with this record, and the one after it.
    """

    _window: Sliding

    def update(self, record: Record, now: int) -> None:
        key, _, time = record
        difference = self._window.difference
        if self.closed(time + difference, now):
            self.drop("late")
        elif time < difference:
            self._put_in_first(record, now)
        else:
            found = self.windows(key, max(0, time - 2 * difference), time + 1)
            self._put_around(record, now, found[::-1])

    def _put_in_first(self, record: Record, now: int) -> None:
        """Put a record within one `difference` of 1970: its own window is cut off, [0, difference]."""
        key, _, time = record
        difference = self._window.difference
        found = dict(self.windows(key, 0, time + 1))
        first = found.get(0)
        right = None
        for start, value in found.items():
            if 0 < start <= time:
                right = value
                self.put(record, start, start + difference, value, now)
        if right is None and first is not None and first.time > time:
            right = first
        if time + 1 not in found and right is not None and right.time > time:
            self._copy(key, time + 1, right, now)
        if first is not None and first.time < time and first.time + 1 not in found:
            self.put(record, first.time + 1, first.time + 1 + difference, None, now)
        self.put(record, 0, difference, first, now)

    def _put_around(self, record: Record, now: int, found: list[tuple[int, Timestamped[Any]]]) -> None:
        """Put a record in the windows that hold it; `found` has those around it, the latest first."""
        key, _, time = record
        difference = self._window.difference
        starts = {start for start, _ in found}
        left = right = None
        left_exists, previous = False, None
        for start, value in found:
            end = start + difference
            if start <= time < end:
                right = right or value
                self.put(record, start, end, value, now)
            elif end == time:
                left_exists = True
                self.put(record, start, end, value, now)
                if value.time == time:
                    return
                previous = value.time
            elif end < time:
                left, previous = value, value.time
                break
        if previous is not None and previous + 1 not in starts and previous + 1 + difference >= time:
            self.put(record, previous + 1, previous + 1 + difference, None, now)
        if not left_exists:
            held = left if previous is not None and time - difference <= previous else None
            self.put(record, time - difference, time, held, now)
        if right is not None and time + 1 not in starts and right.time > time:
            self._copy(key, time + 1, right, now)

    def _copy(self, key: Any, start: int, value: Timestamped[Any], now: int) -> None:
        """Make the window after a record, of what the windows around it hold by now."""
        end = start + self._window.difference
        if self.closed(end, now):
            self.drop("late")
            return
        self.save(key, start, end, value)
        if not self._on_close:
            self.forward(Record(Windowed(key, start, end), Change(value.value, None), value.time))


class SessionAggregate(WindowedAggregate):
    """Aggregates in sessions. One that grows is another window: a tombstone ends each that it takes the place of.

    - `merge`: the aggregate of two sessions, the older one first.
    """

    _window: Session

    def __init__(
        self, task: Task, window: Session, add: Add, merge: Any, store: SortedStore, *, on_close: bool
    ) -> None:
        super().__init__(task, window, add, store, on_close=on_close)
        self._merge = merge

    def update(self, record: Record, now: int) -> None:
        key, value, time = record
        gap = self._window.gap
        merged = [
            (start, end, held)
            for start, end, held in self._sessions(key)
            if end >= time - gap and start <= time + gap and not (self._on_close and self.closed(end, now))
        ]
        first = min([time, *(start for start, _, _ in merged)])
        last = max([time, *(end for _, end, _ in merged)])
        if self.closed(last, now):
            self.drop("late")
            return
        aggregate = None
        for _, _, held in merged:
            aggregate = held.value if aggregate is None else self._merge(key, aggregate, held.value)
        for start, end, held in merged:
            self.save(key, start, end, None)
            if not self._on_close and (first, last) != (time, time):
                self.forward(Record(Windowed(key, start, end), Change(None, held.value), end))
        new = self._add(key, value, aggregate)
        self.save(key, first, last, Timestamped(new, last))
        if not self._on_close:
            self.forward(Record(Windowed(key, first, last), Change(new, None), last))

    def _sessions(self, key: Any) -> Iterator[tuple[int, int, Timestamped[Any]]]:
        for at, (end, held) in self._store.below(("windows", by_bytes(key))):
            yield at[2], end, held
