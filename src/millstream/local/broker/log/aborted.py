"""The aborted transactions of one partition, so that a committed reader can skip their records."""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from millstream.local.broker.log.files import Files

_SIZE = 24


class Aborted(NamedTuple):
    producer_id: int
    first_offset: int
    marker_offset: int


class AbortedIndex:
    """A file of (producer id, first offset, marker offset), ordered by marker."""

    __slots__ = ("_entries", "_files", "_folder", "_markers")

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._folder = folder
        self._entries: list[Aborted] = []
        self._markers = array("q")

    def load(self, end_offset: int) -> None:
        """Read what is known below `end_offset`; what lies above is found again when the log is scanned."""
        numbers = array("q")
        try:
            with open(f"{self._folder}/aborted", "rb") as file:
                data = file.read()
        except FileNotFoundError:  # no transaction was aborted yet
            return
        numbers.frombytes(data[: len(data) // _SIZE * _SIZE])
        last = 0
        for at in range(0, len(numbers), 3):
            entry = Aborted(*numbers[at : at + 3])
            # What a power failure left of an entry is not in order; nothing below `end_offset` comes after it.
            if not last < entry.marker_offset < end_offset:
                break
            last = entry.marker_offset
            self._remember(entry)
        if len(self._entries) * _SIZE != len(data):
            self._files.truncate(self._path, len(self._entries) * _SIZE)

    def add(self, entry: Aborted) -> None:
        """Raises OSError, and then nothing was added."""
        self._files.append(self._path, _pack(entry))
        self._remember(entry)

    def drop_last(self) -> None:
        """Take back the newest entry: its marker could not be written. Raises OSError."""
        self._entries.pop()
        self._markers.pop()
        self._files.truncate(self._path, len(self._entries) * _SIZE)

    def keep(self, wanted: Callable[[Aborted], bool]) -> None:
        """Forget the others: their markers go, and a reader who is told of one would wait for its marker. Raises
        OSError, and then all are kept."""
        kept = [entry for entry in self._entries if wanted(entry)]
        if len(kept) < len(self._entries):
            self._files.replace(self._path, b"".join(map(_pack, kept)))
            self._entries, self._markers = [], array("q")
            for entry in kept:
                self._remember(entry)

    def between(self, from_offset: int, until: int) -> list[Aborted]:
        """Those whose records a reader of `[from_offset, until)` may meet."""
        first = bisect_left(self._markers, from_offset)
        return [entry for entry in self._entries[first:] if entry.first_offset < until]

    @property
    def _path(self) -> Path:
        return self._folder / "aborted"

    def __bool__(self) -> bool:
        return bool(self._entries)

    def _remember(self, entry: Aborted) -> None:
        self._entries.append(entry)
        self._markers.append(entry.marker_offset)


def _pack(entry: Aborted) -> bytes:
    return array("q", entry).tobytes()
