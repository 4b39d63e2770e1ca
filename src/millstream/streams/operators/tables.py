"""Tables: the last value of each key, with joins, filters and groupings whose results are tables again."""

from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from millstream.streams.operators.base import Operator, StreamTime, Task, by_bytes
from millstream.streams.records import Change, Record, Timestamped


class TableNode(Operator):
    """An operator whose output is a table."""

    def get(self, key: Any) -> Timestamped[Any] | None:
        """Return the present value of a key."""
        raise NotImplementedError

    def at(self, key: Any, time: int) -> Any:
        """Return the value that a record of `time` meets; `None` for none. A table without history has the present
        one."""
        found = self.get(key)
        return None if found is None else found.value


class TableSource(TableNode):
    """A table of a topic: the record that comes last wins, whatever its time."""

    def __init__(self, task: Task, name: str) -> None:
        super().__init__(task)
        self._store = task.store(name)

    def get(self, key: Any) -> Timestamped[Any] | None:
        return self._store.get((key,))

    def process(self, record: Record) -> None:
        key, value, time = record
        if key is None:
            self.drop("null")
            return
        before = self.get(key)
        self._store.set((key,), None if value is None else Timestamped(value, time))
        self.forward(Record(key, Change(value, None if before is None else before.value), time))


class VersionedTable(TableNode):
    """A table that knows the value of a key at any time of its history.

    - `history`: milliseconds before the newest record of the table.
    - `needed`: the earliest time that a join still asks for; history reaches back to it, too.
    """

    def __init__(self, task: Task, name: str, history: int) -> None:
        super().__init__(task)
        self._store = task.store(name)
        self._history = history
        self._time = StreamTime(self._store)
        self.needed: Callable[[], int | None] = lambda: None

    def get(self, key: Any) -> Timestamped[Any] | None:
        versions = self._versions(key)
        return Timestamped(versions[-1][1], versions[-1][0]) if versions and versions[-1][1] is not None else None

    def at(self, key: Any, time: int) -> Any:
        versions = self._versions(key)
        index = bisect_right(versions, time, key=lambda version: version[0])
        return versions[index - 1][1] if index else None

    def process(self, record: Record) -> None:
        key, value, time = record
        if key is None:
            self.drop("null")
            return
        versions = self._versions(key)
        latest = not versions or time >= versions[-1][0]
        old = versions[-1][1] if versions else None
        now = self._time.advance(time)
        if time < now - self._history:
            self.drop("late")
        else:
            rest = [version for version in versions if version[0] != time]
            rest.insert(bisect_right(rest, time, key=lambda version: version[0]), (time, value))
            self._store.put(("versions", by_bytes(key)), self._kept(rest, now))
        self.forward(Record(key, Change(value, old, latest), time))

    def _versions(self, key: Any) -> list[tuple[int, Any]]:
        return self._store.get(("versions", by_bytes(key)), [])

    def _kept(self, versions: list[tuple[int, Any]], now: int) -> list[tuple[int, Any]]:
        needed = self.needed()
        oldest = now - self._history if needed is None else min(needed, now - self._history)
        # The value at the oldest time is the last one from before it.
        first = max(0, bisect_right(versions, oldest, key=lambda version: version[0]) - 1)
        return versions[first:]


class TableFilter(TableNode):
    """A table of the values for which a condition holds; others are as if they were not there."""

    def __init__(self, task: Task, parent: TableNode, holds: Callable[[Any, Any], bool]) -> None:
        super().__init__(task)
        self._parent = parent
        self._holds = holds

    def get(self, key: Any) -> Timestamped[Any] | None:
        found = self._parent.get(key)
        return found if found is not None and self._holds(key, found.value) else None

    def process(self, record: Record) -> None:
        change: Change[Any] = record.value
        new, old = (value if value is not None and self._holds(record.key, value) else None for value in change[:2])
        self.forward(record._replace(value=Change(new, old, change.latest)))


class TableJoin(TableNode):
    """A join of two tables with the same keys.

    - `left_outer`, `right_outer`: whether a value of that side comes out where the other side has none.
    """

    def __init__(
        self,
        task: Task,
        left: TableNode,
        right: TableNode,
        join: Callable[[Any, Any], Any],
        *,
        left_outer: bool,
        right_outer: bool,
    ) -> None:
        super().__init__(task)
        self._sides = (left, right)
        self._join = join
        self._outer = (left_outer, right_outer)

    def get(self, key: Any) -> Timestamped[Any] | None:
        left, right = (side.get(key) for side in self._sides)
        joined = self._joined(left and left.value, right and right.value)
        times = [side.time for side in (left, right) if side is not None]
        return None if joined is None else Timestamped(joined, max(times))

    def take(self, side: int, record: Record) -> None:
        """Take an update of one side: 0 is the left one."""
        change: Change[Any] = record.value
        if not change.latest:
            self.drop("late")
            return
        other = self._sides[1 - side].get(record.key)
        if other is None and (not self._outer[side] or (change.new is None and change.old is None)):
            return
        value = None if other is None else other.value
        new, old = (
            self._joined(mine, value) if side == 0 else self._joined(value, mine) for mine in (change.new, change.old)
        )
        time = record.time if other is None else max(record.time, other.time)
        self.forward(Record(record.key, Change(new, old), time))

    def _joined(self, left: Any, right: Any) -> Any:
        alone = (left is not None and self._outer[0]) or (right is not None and self._outer[1])
        return self._join(left, right) if (left is not None and right is not None) or alone else None


class TableGroups(TableNode):
    """Aggregates of the rows of a table, grouped: what a row was is subtracted, then what it is is added.

    - `group`: the group and the value of a row; a group of `None` leaves the row out.
    """

    def __init__(
        self,
        task: Task,
        group: Callable[[Any, Any], tuple[Any, Any]],
        add: Callable[[Any, Any, Any], Any],
        subtract: Callable[[Any, Any, Any], Any],
        name: str,
    ) -> None:
        super().__init__(task)
        self._group = group
        self._add = add
        self._subtract = subtract
        self._store = task.store(name)

    def get(self, key: Any) -> Timestamped[Any] | None:
        return self._store.get((key,))

    def process(self, record: Record) -> None:
        change: Change[Any] = record.value
        if not change.latest:
            return
        old, new = (None if row is None else self._group(record.key, row) for row in (change.old, change.new))
        old, new = (None if part is None or part[0] is None else part for part in (old, new))
        if old is not None and new is not None and old[0] == new[0]:
            self._update(old[0], old[1], new[1], record.time)
            return
        if old is not None:
            self._update(old[0], old[1], None, record.time)
        if new is not None:
            self._update(new[0], None, new[1], record.time)

    def _update(self, group: Any, gone: Any, come: Any, time: int) -> None:
        before = self.get(group)
        old = value = None if before is None else before.value
        if gone is not None and value is not None:
            value = self._subtract(group, gone, value)
        if come is not None:
            value = self._add(group, come, value)
        time = time if before is None else max(time, before.time)
        self._store.set((group,), None if value is None else Timestamped(value, time))
        self.forward(Record(group, Change(value, old), time))


class ForeignKeyJoin(TableNode):
    """A join of a table with the row of another one that each of its rows names.

    - `foreign_key`: of a left row; `None` where it names none.
    - `outer`: a left row without a partner comes out with `None`.
    """

    def __init__(
        self,
        task: Task,
        left: TableNode,
        right: TableNode,
        foreign_key: Callable[[Any], Any],
        join: Callable[[Any, Any], Any],
        *,
        outer: bool,
        name: str,
    ) -> None:
        super().__init__(task)
        self._left = left
        self._right = right
        self._foreign_key = foreign_key
        self._join = join
        self._outer = outer
        self._store = task.store(name)

    def get(self, key: Any) -> Timestamped[Any] | None:
        row = self._left.get(key)
        return None if row is None else self._row(row.value, row.time)

    def take(self, side: int, record: Record) -> None:
        """Take an update of one side: 0 is the left one."""
        change: Change[Any] = record.value
        if not change.latest:
            self.drop("late")
        elif side == 0:
            self._left_changed(record, change)
        else:
            self._right_changed(record, change)

    def _left_changed(self, record: Record, change: Change[Any]) -> None:
        key = record.key
        if change.old is not None and (named := self._foreign_key(change.old)) is not None:
            self._store.delete((by_bytes(named), by_bytes(key)))
        if change.new is None:
            if change.old is not None:
                self.forward(Record(key, Change(None, None), record.time))
            return
        if (named := self._foreign_key(change.new)) is not None:
            self._store.put((by_bytes(named), by_bytes(key)), key)
        found = self._row(change.new, record.time)
        if found is not None:
            self.forward(Record(key, Change(found.value, None), found.time))
        elif change.old is not None:
            self.forward(Record(key, Change(None, None), record.time))

    def _right_changed(self, record: Record, change: Change[Any]) -> None:
        for _, key in self._store.below((by_bytes(record.key),)):
            row = self._left.get(key)
            if row is None:
                continue
            alone = change.new is not None or self._outer
            value = self._join(row.value, change.new) if alone else None
            self.forward(Record(key, Change(value, None), record.time))

    def _row(self, value: Any, time: int) -> Timestamped[Any] | None:
        named = self._foreign_key(value)
        partner = None if named is None else self._right.get(named)
        if partner is not None:
            return Timestamped(self._join(value, partner.value), max(time, partner.time))
        return Timestamped(self._join(value, None), time) if self._outer else None


class ToStream(Operator):
    """A table as the stream of its updates; a row that is gone as a null value."""

    def process(self, record: Record) -> None:
        self.forward(record._replace(value=record.value.new))
