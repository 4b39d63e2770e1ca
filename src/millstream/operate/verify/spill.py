"""Where the auditor keeps what it has seen: a database that SQLite writes to a nameless file as it outgrows a cache.

So memory is bounded however long the log is, and nothing is left behind however the process ends.
"""

import io
import pickle
import sqlite3
from typing import Any, Final

CACHE_KIB: Final = 16_384
"""Memory for pages of the database."""
BUFFERED: Final = 2_000
"""Rows that are written together."""

_BY_NUMBER: Final = b"\x00"
"""In front of a value whose classes are told by number; pickle begins with another byte."""


class Spill:
    """A private database, and values of any class in it. Used by one thread."""

    def __init__(self) -> None:
        self.db = sqlite3.connect("", isolation_level=None)
        for setting in ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
            self.db.execute(f"PRAGMA {setting}")
        self.db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        self._classes: list[type] = []
        self._numbers: dict[type, int] = {}
        self._held: list[Any] = []

    def write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        """Executes the statement for all rows at once."""
        self.db.execute("BEGIN")
        self.db.executemany(statement, rows)
        self.db.execute("COMMIT")

    def pack(self, value: Any) -> bytes | int | None:
        """A value as the database takes it. What cannot be pickled stays in memory, under a number."""
        if value is None:
            return None
        try:
            return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:  # of a class inside of a function, or of one that cannot be pickled at all
            packed = io.BytesIO(_BY_NUMBER)
            packed.seek(len(_BY_NUMBER))
        try:
            _Pickler(packed, self).dump(value)
        except Exception:  # whatever a class of a user raises: the value is kept as it is
            self._held.append(value)
            return len(self._held) - 1
        return packed.getvalue()

    def unpack(self, packed: bytes | int | None) -> Any:
        """The value again."""
        if packed is None:
            return None
        if isinstance(packed, int):
            return self._held[packed]
        if packed.startswith(_BY_NUMBER):
            return _Unpickler(io.BytesIO(packed[len(_BY_NUMBER) :]), self).load()
        return pickle.loads(packed)  # noqa: S301 written by this process a moment ago, to a file without a name

    def number_of(self, of: type) -> int:
        """A number for a class: those inside of functions have no name that pickle could find them by."""
        if of not in self._numbers:
            self._numbers[of] = len(self._classes)
            self._classes.append(of)
        return self._numbers[of]

    def class_at(self, number: int) -> type:
        """The class with that number."""
        return self._classes[number]


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, spill: Spill) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._spill = spill

    def persistent_id(self, obj: Any) -> int | None:
        return self._spill.number_of(obj) if isinstance(obj, type) and "<locals>" in obj.__qualname__ else None


class _Unpickler(pickle.Unpickler):
    """Reads what this process has written a moment ago, and nothing else."""

    def __init__(self, file: io.BytesIO, spill: Spill) -> None:
        super().__init__(file)
        self._spill = spill

    def persistent_load(self, pid: int) -> type:
        return self._spill.class_at(pid)
