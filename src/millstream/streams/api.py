"""Streams and tables as they are declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Generic, TypeVar

from millstream.errors import DeclarationError
from millstream.streams.operators.aggregates import Aggregate
from millstream.streams.operators.base import Inlet, Operator, Task
from millstream.streams.operators.stateless import Branch, FlatMap
from millstream.streams.operators.stream_join import LEFT, RIGHT, SelfJoin, StreamJoin
from millstream.streams.operators.suppress import Suppress
from millstream.streams.operators.table_lookup import TableLookup, WaitingLookup
from millstream.streams.operators.tables import (
    ForeignKeyJoin,
    TableFilter,
    TableGroups,
    TableJoin,
    TableSource,
    ToStream,
    VersionedTable,
)
from millstream.streams.operators.timers import EventTimer, Tick, WallTimer
from millstream.streams.operators.windowed import HoppingAggregate, SessionAggregate, SlidingAggregate
from millstream.streams.records import Windowed
from millstream.streams.store import SortedStore
from millstream.streams.topology import Graph, Node
from millstream.streams.windows import Hopping, Session, Sliding, Window, milliseconds

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")
R = TypeVar("R")
J = TypeVar("J")
A = TypeVar("A")


class Topology:
    """The streams and tables of a service, from topics to topics.

    >>> topology = Topology()
    >>> topology.stream("orders").group_by_key().count().to_stream().to("orders.per.customer")
    """

    def __init__(self) -> None:
        self.graph = Graph()

    def stream(self, topic: str) -> Stream[Any, Any]:
        """Read a topic as a stream: each record by itself."""
        return Stream(self.graph, self.graph.source(topic))

    def table(self, topic: str, *, history: timedelta | None = None) -> Table[Any, Any]:
        """Read a topic as a table: the last record of each key is its row.

        - `history`: how long before its newest record it remembers rows, for joins with the row as of a time. Without
          it the record that arrives last wins, whatever its time.
        """
        name = f"table-{self.graph.number()}"
        if history is None:
            made = Node(lambda task, _: TableSource(task, name), (self.graph.source(topic),))
        else:
            kept = milliseconds(history)
            made = Node(lambda task, _: VersionedTable(task, name, kept), (self.graph.source(topic),))
        return Table(self.graph, self.graph.add(made), versioned=history is not None)


class Stream(Generic[K, V]):
    """Records of one kind, each by itself. A new stream comes of every method; the stream itself never changes."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph = graph
        self._node = node

    def map(self, make: Callable[[K, V], tuple[J, W]]) -> Stream[J, W]:
        """Make another key and value of each record. Its time stays."""
        return self._flat_map(lambda key, value: (make(key, value),))

    def map_values(self, make: Callable[[V], W]) -> Stream[K, W]:
        """Make another value of each record."""
        return self._flat_map(lambda key, value: ((key, make(value)),))

    def flat_map(self, make: Callable[[K, V], Iterable[tuple[J, W]]]) -> Stream[J, W]:
        """Make any number of records of each, in order."""
        return self._flat_map(make)

    def filter(self, holds: Callable[[K, V], bool]) -> Stream[K, V]:
        """Leave out records for which `holds` is false. They move no time of later operators."""
        return self._flat_map(lambda key, value: ((key, value),) if holds(key, value) else ())

    def peek(self, look: Callable[[K, V], object]) -> Stream[K, V]:
        """Call `look` with each record, and pass it on."""

        def looked(key: K, value: V) -> tuple[tuple[K, V]]:
            look(key, value)
            return ((key, value),)

        return self._flat_map(looked)

    def branch(self, *conditions: Callable[[K, V], bool]) -> tuple[Stream[K, V], ...]:
        """Return a stream for each condition, and one for the rest: a record is in the first that takes it."""
        node = self._graph.add(Node(lambda task, _: Branch(task, conditions), (self._node,)))
        return tuple(
            Stream(self._graph, self._graph.add(Node(lambda task, _: Operator(task), (node,))))
            for _ in range(len(conditions) + 1)
        )

    def merge(self, *others: Stream[K, V]) -> Stream[K, V]:
        """Return the records of all these streams in the order in which they come."""
        nodes = (self._node, *(other._node for other in others))
        return Stream(self._graph, self._graph.add(Node(lambda task, _: Operator(task), nodes)))

    def group_by_key(self) -> Grouped[K, V]:
        """Group records by the key that they have."""
        return Grouped(self._graph, self._node)

    def group_by(self, key: Callable[[K, V], J | None]) -> Grouped[J, V]:
        """Group records by another key; those without one (`None`) are left out."""

        def keyed(old: K, value: V) -> Iterable[tuple[J, V]]:
            made = key(old, value)
            return () if made is None else ((made, value),)

        return Grouped(self._graph, self._flat_map(keyed)._node)

    def join(
        self,
        other: Stream[K, W],
        join: Callable[[V, W], R],
        *,
        before: timedelta,
        after: timedelta,
        grace: timedelta = timedelta(0),
    ) -> Stream[K, R]:
        """Join with records of another stream that have the same key, from `before` to `after` the time of each.

        - `grace`: how late a record may come.

        The result has the later of both times.
        """
        return self._join(other, join, before, after, grace, frozenset())

    def left_join(
        self,
        other: Stream[K, W],
        join: Callable[[V, W | None], R],
        *,
        before: timedelta,
        after: timedelta,
        grace: timedelta = timedelta(0),
    ) -> Stream[K, R]:
        """Join as `join` does; a record without a match comes out with `None` once no match can come."""
        return self._join(other, join, before, after, grace, frozenset({LEFT}))

    def outer_join(
        self,
        other: Stream[K, W],
        join: Callable[[V | None, W | None], R],
        *,
        before: timedelta,
        after: timedelta,
        grace: timedelta = timedelta(0),
    ) -> Stream[K, R]:
        """Join as `left_join` does, with unmatched records of both sides."""
        return self._join(other, join, before, after, grace, frozenset({LEFT, RIGHT}))

    def join_table(
        self, table: Table[K, W], join: Callable[[V, W], R], *, grace: timedelta = timedelta(0)
    ) -> Stream[K, R]:
        """Join each record with the row of its key; those without a row are left out.

        - `grace`: how long a record waits for rows that come late; the table needs a history.

        A table with a history gives the row as of the record's time.
        """
        return self._look_up(table, join, grace, outer=False)

    def left_join_table(
        self, table: Table[K, W], join: Callable[[V, W | None], R], *, grace: timedelta = timedelta(0)
    ) -> Stream[K, R]:
        """Join as `join_table` does; a record without a row comes out with `None`."""
        return self._look_up(table, join, grace, outer=True)

    def left_join_row(
        self, table: Table[J, W], row_of: Callable[[K, V], J | None], join: Callable[[V, W | None], R]
    ) -> Stream[K, R]:
        """Join each record with the row that `row_of` names, of a table that every instance has whole."""
        node = Node(
            lambda task, made: TableLookup(task, made[1], join, row_of=row_of, outer=True),
            (self._node,),
            (table.node,),
        )
        return Stream(self._graph, self._graph.add(node))

    def tick_in_event_time(self, interval: timedelta, tick: Tick) -> Stream[K, V]:
        """Pass records on, and forward what `tick` makes of the time at each multiple of `interval`."""
        every, name = milliseconds(interval), f"timer-{self._graph.number()}"
        return self._add(Node(lambda task, _: EventTimer(task, every, tick, name), (self._node,)))

    def tick_by_wall_clock(self, interval: timedelta, tick: Tick) -> Stream[K, V]:
        """Pass records on, and forward what `tick` makes of the time every `interval` of wall clock."""
        every = milliseconds(interval)
        return self._add(Node(lambda task, _: WallTimer(task, every, tick), (self._node,)))

    def to(self, topic: str) -> None:
        """Produce each record to a topic."""
        self._graph.sink(self._node, topic)

    def _add(self, node: Node) -> Stream[Any, Any]:
        return Stream(self._graph, self._graph.add(node))

    def _flat_map(self, make: Callable[[K, V], Iterable[tuple[Any, Any]]]) -> Stream[Any, Any]:
        return self._add(Node(lambda task, _: FlatMap(task, make), (self._node,)))

    def _join(
        self,
        other: Stream[K, Any],
        join: Callable[..., Any],
        before: timedelta,
        after: timedelta,
        grace: timedelta,
        preserved: frozenset[int],
    ) -> Stream[K, Any]:
        name = f"join-{self._graph.number()}"
        bounds = {"before": milliseconds(before), "after": milliseconds(after), "grace": milliseconds(grace)}
        if min(bounds.values()) < 0:
            raise DeclarationError("before, after and grace of a join of streams are zero or more")
        if other._node is self._node:
            return self._add(Node(lambda task, _: SelfJoin(task, join, **bounds, name=name), (self._node,)))
        node = Node(
            lambda task, _: StreamJoin(task, join, **bounds, preserved=preserved, name=name),
            (self._node, other._node),
            inlets=lambda task, joined, side: Inlet(task, joined.take, (LEFT, RIGHT)[side]),
        )
        return self._add(node)

    def _look_up(
        self, table: Table[K, Any], join: Callable[..., Any], grace: timedelta, *, outer: bool
    ) -> Stream[K, Any]:
        wait, name = milliseconds(grace), f"lookup-{self._graph.number()}"
        if wait and not table.versioned:
            raise DeclarationError("a join that waits for late rows needs a table with a history: table(…, history=…)")

        def make(task: Task, made: Any) -> TableLookup:
            if wait:
                return WaitingLookup(task, made[1], join, outer=outer, grace=wait, name=name)
            return TableLookup(task, made[1], join, row_of=lambda key, _: key, outer=outer)

        return self._add(Node(make, (self._node,), (table.node,)))


class Grouped(Generic[K, V]):
    """Records by key, to be aggregated."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self._graph = graph
        self._node = node

    def count(self) -> Table[K, int]:
        """Count the records of each key; null values are not counted."""
        return self.aggregate(lambda _, __, count: (count or 0) + 1)

    def reduce(self, combine: Callable[[V, V], V | None]) -> Table[K, V]:
        """Combine the values of each key; `None` deletes the row."""
        return self.aggregate(lambda _, value, before: value if before is None else combine(before, value))

    def aggregate(self, add: Callable[[K, V, A | None], A | None]) -> Table[K, A]:
        """Aggregate the records of each key: `add(key, value, before)`, where `before` is `None` at first."""
        return self.cogroup(add).aggregate()

    def cogroup(self, add: Callable[[K, V, A | None], A | None]) -> Cogrouped[K, A]:
        """Begin an aggregate of several streams."""
        return Cogrouped(self._graph, ((self._node, add),))

    def window(self, window: Window) -> WindowedBy[K, V]:
        """Cut the time of each key into windows."""
        return WindowedBy(self._graph, self._node, window)


class Cogrouped(Generic[K, A]):
    """Several streams with the same keys, aggregated into one table."""

    def __init__(self, graph: Graph, inputs: tuple[tuple[Node, Callable[[K, Any, Any], Any]], ...]) -> None:
        self._graph = graph
        self._inputs = inputs

    def cogroup(self, grouped: Grouped[K, W], add: Callable[[K, W, A | None], A | None]) -> Cogrouped[K, A]:
        """Add another stream."""
        return Cogrouped(self._graph, (*self._inputs, (grouped._node, add)))

    def aggregate(self) -> Table[K, A]:
        """Return the table of the aggregates."""
        return self._table(lambda task, add, store: Aggregate(task, add, store))

    def window(self, window: Hopping | Sliding) -> Table[Windowed, A]:
        """Return the table of the aggregates in windows, after every record."""
        return self._table(lambda task, add, store: _windowed(task, window, add, None, store, on_close=False))

    def _table(self, make: Callable[[Task, Any, SortedStore], Any]) -> Table[Any, A]:
        name = f"aggregate-{self._graph.number()}"
        nodes = [
            self._graph.add(Node(lambda task, _, add=add: make(task, add, task.store(name)), (source,)))
            for source, add in self._inputs
        ]
        return Table(self._graph, self._graph.add(Node(lambda task, _: Operator(task), tuple(nodes))))


class WindowedBy(Generic[K, V]):
    """Records by key and window, to be aggregated."""

    def __init__(self, graph: Graph, node: Node, window: Window) -> None:
        self._graph = graph
        self._node = node
        self._window = window

    def count(self, *, on_close: bool = False) -> Table[Windowed, int]:
        """Count the records of each key and window, those with null values, too."""
        return self.aggregate(
            lambda _, __, count: (count or 0) + 1, merge=lambda _, one, two: one + two, on_close=on_close
        )

    def reduce(self, combine: Callable[[V, V], V | None], *, on_close: bool = False) -> Table[Windowed, V]:
        """Combine the values of each key and window; `None` deletes the row."""
        return self.aggregate(
            lambda _, value, before: value if before is None else combine(before, value),
            merge=lambda _, one, two: combine(one, two),
            on_close=on_close,
        )

    def aggregate(
        self,
        add: Callable[[K, V, A | None], A | None],
        *,
        merge: Callable[[K, A, A], A | None] | None = None,
        on_close: bool = False,
    ) -> Table[Windowed, A]:
        """Aggregate the records of each key and window.

        - `merge`: of two sessions that become one, the older one first.
        - `on_close`: each result comes out once, when its window closes; else after every record.
        """
        if isinstance(self._window, Session) and merge is None:
            raise DeclarationError("sessions grow together: say with merge= what two aggregates become")
        name, window = f"windows-{self._graph.number()}", self._window
        node = Node(
            lambda task, _: _windowed(task, window, add, merge, task.store(name), on_close=on_close), (self._node,)
        )
        return Table(self._graph, self._graph.add(node), window=window)


class Table(Generic[K, V]):
    """The last value of each key."""

    def __init__(self, graph: Graph, node: Node, *, versioned: bool = False, window: Window | None = None) -> None:
        self._graph = graph
        self.node = node
        self.versioned = versioned
        self._window = window

    def to_stream(self) -> Stream[K, V | None]:
        """Return the updates of the table; a row that is gone is `None`."""
        return Stream(self._graph, self._graph.add(Node(lambda task, _: ToStream(task), (self.node,))))

    def filter(self, holds: Callable[[K, V], bool]) -> Table[K, V]:
        """Return the table without rows for which `holds` is false."""
        return self._add(Node(lambda task, made: TableFilter(task, made[0], holds), (self.node,)))

    def join(self, other: Table[K, W], join: Callable[[V, W], R]) -> Table[K, R]:
        """Join rows with the same key."""
        return self._join(other, join, left=False, right=False)

    def left_join(self, other: Table[K, W], join: Callable[[V, W | None], R]) -> Table[K, R]:
        """Join rows with the same key; one of this table without another comes out with `None`."""
        return self._join(other, join, left=True, right=False)

    def outer_join(self, other: Table[K, W], join: Callable[[V | None, W | None], R]) -> Table[K, R]:
        """Join rows with the same key; one without another comes out with `None`, of either table."""
        return self._join(other, join, left=True, right=True)

    def join_by(
        self, other: Table[J, W], foreign_key: Callable[[V], J | None], join: Callable[[V, W], R]
    ) -> Table[K, R]:
        """Join each row with the row of another table that it names."""
        return self._join_by(other, foreign_key, join, outer=False)

    def left_join_by(
        self, other: Table[J, W], foreign_key: Callable[[V], J | None], join: Callable[[V, W | None], R]
    ) -> Table[K, R]:
        """Join as `join_by` does; a row without a partner comes out with `None`."""
        return self._join_by(other, foreign_key, join, outer=True)

    def aggregate_by(
        self,
        group: Callable[[K, V], tuple[J | None, W]],
        add: Callable[[J, W, A | None], A | None],
        subtract: Callable[[J, W, A], A | None],
    ) -> Table[J, A]:
        """Aggregate rows by group: what a row was is subtracted, then what it is is added.

        - `group`: the group of a row, and what is aggregated of it.
        """
        name = f"groups-{self._graph.number()}"
        return self._add(Node(lambda task, _: TableGroups(task, group, add, subtract, name), (self.node,)))

    def suppress_until_close(self) -> Table[K, V]:
        """Hold each row until its window has closed, and forward it once."""
        if self._window is None:
            raise DeclarationError("only windows close: use suppress(…) for a table without windows")
        window, name = self._window, f"suppress-{self._graph.number()}"
        wait = window.grace + (window.gap if isinstance(window, Session) else 0)
        return self._add(Node(lambda task, _: Suppress(task, name, final=True, wait=wait), (self.node,)))

    def suppress(self, limit: timedelta, *, max_records: int | None = None) -> Table[K, V]:
        """Hold the updates of each key for `limit` of event time, and forward the last one.

        - `max_records`: of rows that are held; beyond it the earliest comes out at once.
        """
        wait, name = milliseconds(limit), f"suppress-{self._graph.number()}"
        return self._add(
            Node(lambda task, _: Suppress(task, name, final=False, wait=wait, max_records=max_records), (self.node,))
        )

    def _add(self, node: Node) -> Table[Any, Any]:
        return Table(self._graph, self._graph.add(node))

    def _join(self, other: Table[K, Any], join: Callable[..., Any], *, left: bool, right: bool) -> Table[K, Any]:
        node = Node(
            lambda task, made: TableJoin(task, made[0], made[1], join, left_outer=left, right_outer=right),
            (self.node, other.node),
            inlets=lambda task, joined, side: Inlet(task, joined.take, side),
        )
        return self._add(node)

    def _join_by(
        self, other: Table[Any, Any], foreign_key: Callable[[V], Any], join: Callable[..., Any], *, outer: bool
    ) -> Table[K, Any]:
        name = f"foreign-keys-{self._graph.number()}"
        node = Node(
            lambda task, made: ForeignKeyJoin(task, made[0], made[1], foreign_key, join, outer=outer, name=name),
            (self.node, other.node),
            inlets=lambda task, joined, side: Inlet(task, joined.take, side),
        )
        return self._add(node)


def _windowed(task: Task, window: Window, add: Any, merge: Any, store: SortedStore, *, on_close: bool) -> Any:
    match window:
        case Hopping():
            return HoppingAggregate(task, window, add, store, on_close=on_close)
        case Sliding():
            return SlidingAggregate(task, window, add, store, on_close=on_close)
        case Session():
            return SessionAggregate(task, window, add, merge, store, on_close=on_close)
