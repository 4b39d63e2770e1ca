"""Records of streams, updates of tables, and the keys of windows."""

from typing import Any, Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Record(NamedTuple):
    """A record of a stream, or an update of a table: then its value is a `Change`.

    - `time`: event time in milliseconds since 1970.
    """

    key: Any
    value: Any
    time: int


class Windowed(NamedTuple):
    """The key of a windowed result.

    - `start`, `end`: in milliseconds since 1970. The end of a tumbling or hopping window is exclusive, that of a
      sliding one inclusive; a session ends with its last record.
    """

    key: Any
    start: int
    end: int


class Change(NamedTuple, Generic[V]):
    """An update of a table.

    - `new`, `old`: the values of the key after and before it; `None` where it has none.
    - `latest`: False for a late update of a versioned table, which changes history only.
    """

    new: V | None
    old: V | None
    latest: bool = True


class Timestamped(NamedTuple, Generic[V]):
    """A value in a store, and the highest event time that went into it."""

    value: V
    time: int
