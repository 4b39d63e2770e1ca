"""Joins of a stream with a table: each record meets the row that there is, or was at its time."""

from collections.abc import Callable
from typing import Any

from millstream.streams.operators.base import Operator, StreamTime, Task
from millstream.streams.operators.tables import TableNode, VersionedTable
from millstream.streams.records import Record


class TableLookup(Operator):
    """Joins each record of a stream with a row of a table.

    - `row_of`: the key of the row that a record meets; `None` for none.
    - `outer`: a record without a row comes out with `None`.
    """

    def __init__(
        self,
        task: Task,
        table: TableNode,
        join: Callable[[Any, Any], Any],
        *,
        row_of: Callable[[Any, Any], Any],
        outer: bool,
    ) -> None:
        super().__init__(task)
        self._table = table
        self._join = join
        self._row_of = row_of
        self._outer = outer

    def process(self, record: Record) -> None:
        if record.value is None or (record.key is None and not self._outer):
            self.drop("null")
            return
        self.look_up(record)

    def look_up(self, record: Record) -> None:
        named = self._row_of(record.key, record.value)
        row = None if named is None else self._table.at(named, record.time)
        if row is not None or self._outer:
            self.forward(record._replace(value=self._join(record.value, row)))


class WaitingLookup(TableLookup):
    """Holds records of a stream for `grace` milliseconds, so that they meet rows that come late.

    They come out in the order of their times, once a record of the stream is later by the grace. The table keeps the
    history that they need.
    """

    def __init__(self, task: Task, table: VersionedTable, join: Any, *, outer: bool, grace: int, name: str) -> None:
        super().__init__(task, table, join, row_of=lambda key, _: key, outer=outer)
        self._store = task.store(name)
        self._time = StreamTime(self._store)
        self._grace = grace
        table.needed = self._oldest

    def look_up(self, record: Record) -> None:
        now = self._time.advance(record.time)
        if record.time + self._grace <= now:
            super().look_up(record)
        else:
            self._store.put(("held", record.time, self._store.number()), record)
        for at, held in self._store.range(("held",), ("held", now - self._grace + 1)):
            self._store.delete(at)
            super().look_up(held)

    def _oldest(self) -> int | None:
        first = self._store.first(("held",))
        return None if first is None else first[1]
