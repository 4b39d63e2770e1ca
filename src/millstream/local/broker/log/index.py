"""The sparse index of one segment: where an offset or a time may be found without reading the whole file."""

from array import array
from bisect import bisect_right
from contextlib import suppress
from operator import lt, xor
from pathlib import Path
from typing import NamedTuple

from millstream.local.broker.log.files import Files

INDEX_INTERVAL = 32 * 1024
"""Bytes of log between two entries: the most that a look-up walks, header by header."""

_SIZE = 32
"""Divides a disk's sector: what a power failure leaves of an entry is all or nothing."""
_MARK = 0x4D696C6C73747265


class IndexEntry(NamedTuple):
    base_offset: int
    position: int
    highest_before: int
    """The highest timestamp of all batches before the position."""


class Index:
    """Entries in the order of their positions, in a file and, once one was looked for, in memory.

    A cache: missing entries only make a look-up walk further. The last entry of a segment that takes no more stands
    at its end, and so tells its highest timestamp.
    """

    __slots__ = ("_base_offset", "_columns", "_files", "_folder", "_path")

    def __init__(self, files: Files, folder: Path, base_offset: int) -> None:
        self._files = files
        self._folder = folder
        self._base_offset = base_offset
        self._path: Path | None = None
        self._columns: tuple[array[int], array[int], array[int]] | None = None

    @property
    def path(self) -> Path:
        if self._path is None:
            self._path = self._folder / f"{self._base_offset:020}.index"
        return self._path

    def add(self, entry: IndexEntry, *, cache: bool = True) -> None:
        with suppress(OSError):  # the log has the batch already
            self._files.append(self.path, _pack(entry), cache=cache)
        if self._columns is not None:
            for column, value in zip(self._columns, entry, strict=True):
                column.append(value)

    def position_before(self, offset: int, size: int) -> int:
        """Where to begin to walk for `offset`; `size` is that of the log."""
        offsets, positions, _ = self._loaded(size)
        at = bisect_right(offsets, offset) - 1
        return positions[at] if at >= 0 else 0

    def position_of_time(self, timestamp: int, size: int) -> int:
        """Where to begin to walk for the first batch that reaches `timestamp`."""
        _, positions, highest_before = self._loaded(size)
        at = bisect_right(highest_before, timestamp - 1) - 1
        return positions[at] if at >= 0 else 0

    def last(self) -> IndexEntry | None:
        """The newest entry in the file, if it is whole."""
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:  # it is made from the log
            return None
        return self._read_at(size // _SIZE - 1) if size >= _SIZE else None

    def last_below(self, size: int) -> IndexEntry | None:
        """The newest entry that stands before `size`."""
        columns = self._loaded(size)
        for at in range(len(columns[1]) - 1, -1, -1):
            if columns[1][at] < size:
                return IndexEntry(columns[0][at], columns[1][at], columns[2][at])
        return None

    def cut(self, position: int) -> None:
        """Forget entries from `position` on: the log is about to be walked from there."""
        self._columns = None
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:  # it is made from the log
            return
        count = size // _SIZE
        while count and ((entry := self._read_at(count - 1)) is None or entry.position >= position):
            count -= 1
        if count * _SIZE != size:
            self._files.truncate(self.path, count * _SIZE)

    def _read_at(self, number: int) -> IndexEntry | None:
        with self.path.open("rb") as file:
            file.seek(number * _SIZE)
            numbers = array("q", file.read(_SIZE))
        return IndexEntry(*numbers[:3]) if _is_whole(numbers) else None

    def _loaded(self, size: int) -> "tuple[array[int], array[int], array[int]]":
        if self._columns is None:
            numbers = array("q")
            with suppress(FileNotFoundError):  # it is made from the log
                data = self.path.read_bytes()
                numbers.frombytes(data[: len(data) // _SIZE * _SIZE])
            self._columns = _columns(numbers, size)
        return self._columns


def pack_entries(entries: list[IndexEntry]) -> bytes:
    return b"".join(map(_pack, entries))


def _pack(entry: IndexEntry) -> bytes:
    offset, position, highest = entry
    return array("q", (offset, position, highest, offset ^ position ^ highest ^ _MARK)).tobytes()


def _columns(numbers: "array[int]", size: int) -> "tuple[array[int], array[int], array[int]]":
    """The entries by column, without what is damaged or lies past `size`."""
    offsets, positions, highest, marks = (numbers[column::4] for column in range(4))
    # An index of a gigabyte has 32,000 entries: they are looked at one by one only when something is wrong.
    whole = set(map(xor, map(xor, offsets, positions), map(xor, highest, marks))) <= {_MARK}
    if whole and all(map(lt, positions, positions[1:])) and (not positions or positions[-1] <= size):
        return offsets, positions, highest
    found = array("q"), array("q"), array("q")
    last = -1
    for at in range(0, len(numbers), 4):
        entry = numbers[at : at + 4]
        if last < entry[1] <= size and _is_whole(entry):
            last = entry[1]
            for column, value in zip(found, entry, strict=False):
                column.append(value)
    return found


def _is_whole(numbers: "array[int]") -> bool:
    return len(numbers) == 4 and numbers[0] ^ numbers[1] ^ numbers[2] ^ numbers[3] == _MARK
