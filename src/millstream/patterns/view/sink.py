"""Sinks: the places that the rows of a view go to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from millstream.declare import Service, Value
from millstream.kafka import TopicPartition
from millstream.settings import Settings


class Row(NamedTuple):
    """One row of a view as its topic has it. No `value`: it was deleted.

    `version` is its offset there: of two versions of a key the greater one is newer, and no two are the same.
    """

    key: str
    value: Any
    version: int


Listener: TypeAlias = Callable[[Sequence[Row]], None]
"""Told of rows that a sink has applied, on the sink's thread; it must not block."""


class PositionsMoved(Exception):
    """The positions of a sink are not where this process left them: another process writes to it, or emptied it."""

    code: ClassVar[str] = "positions_moved"


class RowsRefused(Exception):
    """Rows that a sink will never take, by their keys, and why. Nothing was written, the others neither."""

    code: ClassVar[str] = "rows_refused"

    def __init__(self, refused: Mapping[str, BaseException]) -> None:
        super().__init__(", ".join(refused))
        self.refused = refused


class Sink(Protocol):
    """Keeps the rows of a view somewhere, for queries. Used by one thread.

    - `name`: unique among the sinks of its view.
    """

    name: str

    def open(self, service: Service, settings: Settings, group: str, value: type[Value], topic_id: str) -> None:
        """Get ready. `group` names the position to keep, `value` is the class of the rows.

        - `topic_id`: the id of the view's topic. Raises `ConfigurationError` where there are rows of a topic with
          another id: versions are offsets, and newer rows would count as older ones.
        """
        ...

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The next offset of each partition that it has rows of; none at all where it has to be rebuilt."""
        ...

    def apply(self, rows: Sequence[Row], moved: Mapping[TopicPartition, int]) -> None:
        """Write rows, each key once, and the positions after them: both or neither.

        A row that is there in a newer version stays as it is. Raises `PositionsMoved`, and `RowsRefused` to be called
        again without those; any other error is tried again, by the next life of the process.
        """
        ...

    def close(self) -> None: ...
