"""The auditor's memory: a database that SQLite writes to a nameless file as it outgrows a cache.

So memory is bounded however long the log is, and nothing is left behind however the process ends.
"""

import io
import pickle
import sqlite3
from typing import Any, Final

import msgspec

from millstream.declare import Contract

CACHE_KIB: Final = 16_384
"""Memory for pages of the database."""
BUFFERED: Final = 2_000
"""Rows that are written together."""

_BY_NUMBER: Final = b"\x00"
"""In front of a value whose classes are told by number; pickle begins with another byte."""
_EVENT: Final = b"\x01"
"""In front of the number of a contract and its fields: pickling an event as such takes four times as long."""


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
            if isinstance(value, Contract):
                fields = self.number_of(type(value)), *msgspec.structs.astuple(value)
                return _EVENT + pickle.dumps(fields, pickle.HIGHEST_PROTOCOL)
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
        if packed.startswith(_EVENT):
            number, *fields = pickle.loads(packed[len(_EVENT) :])  # noqa: S301 as below
            of = self.class_at(number)
            return of(**dict(zip(of.__struct_fields__, fields, strict=True)))
        if packed.startswith(_BY_NUMBER):
            return _Unpickler(io.BytesIO(packed[len(_BY_NUMBER) :]), self).load()
        return pickle.loads(packed)  # noqa: S301 written by this process a moment ago, to a file without a name

    def number_of(self, of: type) -> int:
        """A number for a class: those inside of functions have no name that pickle could find them by."""
        if of not in self._numbers:
            self._numbers[of] = len(self._classes)
            self._classes.append(of)
        return self._numbers[of]

    def class_at(self, number: int) -> Any:
        """The class with that number."""
        return self._classes[number]


class Heap:
    """Rows in the order they came: they cost little to add, and are sorted into other tables many at a time.

    - `columns`: their names, with commas.
    """

    def __init__(self, spill: Spill, name: str, columns: str) -> None:
        self.name, self._spill = name, spill
        spill.db.execute(f"CREATE TABLE {name} ({columns})")
        self._insert = f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns.split(',')))})"  # noqa: S608 ours
        self._buffer: list[tuple[Any, ...]] = []
        self._any = False

    def add(self, row: tuple[Any, ...]) -> None:
        """Adds a row, which is in the database once `written` was called."""
        self._buffer.append(row)
        if len(self._buffer) >= BUFFERED:
            self._write()

    def written(self) -> bool:
        """Write what is in memory; whether any row was added since it was cleared."""
        if self._buffer:
            self._write()
        return self._any

    def clear(self) -> None:
        """Removes all rows."""
        self._spill.db.execute(f"DELETE FROM {self.name}")  # noqa: S608 ours
        self._any = False

    def _write(self) -> None:
        self._spill.write(self._insert, self._buffer)
        self._buffer.clear()
        self._any = True


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
