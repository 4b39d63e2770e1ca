"""A topology in memory and in virtual time, for tests: no broker, and no waiting."""

from typing import Any, NamedTuple

from millstream.streams.api import Topology
from millstream.streams.operators.base import Task
from millstream.streams.records import Record
from millstream.streams.topology import TopologyTask


class Produced(NamedTuple):
    """A record that left the topology: for which topic, and what."""

    topic: str
    key: Any
    value: Any
    time: int


class TopologyDriver:
    """Runs a topology record by record.

    - `emit_interval`: milliseconds of wall clock between two searches for closed windows and unmatched records; 0
      searches after every record.

    >>> topology = Topology()
    >>> topology.stream("clicks").group_by_key().count().to_stream().to("counts")
    >>> driver = TopologyDriver(topology)
    >>> driver.send("clicks", "home", "c-1", time=1_000)
    [Produced(topic='counts', key='home', value=1, time=1000)]
    """

    def __init__(self, topology: Topology, *, emit_interval: int = 0) -> None:
        self._produced: list[Produced] = []
        self._task = Task(lambda topic, record: self._produced.append(Produced(topic, *record)), emit_interval)
        self._running = TopologyTask(topology.graph, self._task)

    @property
    def dropped(self) -> dict[str, int]:
        """Records that were left out, by reason: `late`, `null`, `negative_time`."""
        return dict(self._task.dropped)

    @property
    def entries(self) -> int:
        """The number of entries in all stores."""
        return self._task.entries

    def send(self, topic: str, key: Any, value: Any, *, time: int) -> list[Produced]:
        """Process a record to its end, and return what left the topology."""
        self._running.process(topic, Record(key, value, time))
        return self._take()

    def advance_wall_clock(self, milliseconds: int) -> list[Produced]:
        """Put the wall clock forward, and return what left the topology."""
        self._running.advance_wall_clock(milliseconds)
        return self._take()

    def _take(self) -> list[Produced]:
        taken, self._produced[:] = list(self._produced), []
        return taken
