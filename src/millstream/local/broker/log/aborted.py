"""The aborted transactions of one partition, so that a committed reader can skip their records."""

import os
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import NamedTuple

from millstream.local.broker.log.files import Files


class Aborted(NamedTuple):
    producer_id: int
    first_offset: int
    marker_offset: int


class AbortedIndex:
    """An append-only file of (producer id, first offset, marker offset), ordered by marker."""

    __slots__ = ("_entries", "_files", "_markers", "_path")

    def __init__(self, files: Files, folder: Path) -> None:
        self._files = files
        self._path = folder / "aborted"
        self._entries: list[Aborted] = []
        self._markers = array("q")

    def load(self, end_offset: int) -> None:
        """Read what is known below `end_offset`; what lies above is found again when the log is scanned."""
        numbers = array("q")
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        numbers.frombytes(data[: len(data) // 24 * 24])
        for at in range(0, len(numbers), 3):
            entry = Aborted(*numbers[at : at + 3])
            if entry.marker_offset < end_offset:
                self._remember(entry)
        os.truncate(self._path, len(self._entries) * 24)

    def add(self, entry: Aborted) -> None:
        """Raises OSError, and then nothing was added."""
        self._files.append(self._path, array("q", entry).tobytes())
        self._remember(entry)

    def drop_last(self) -> None:
        """Take back the newest entry: its marker could not be written."""
        self._entries.pop()
        self._markers.pop()
        os.ftruncate(self._files.get(self._path), len(self._entries) * 24)

    def between(self, from_offset: int, until: int) -> list[Aborted]:
        """Those whose records a reader of `[from_offset, until)` may meet."""
        first = bisect_left(self._markers, from_offset)
        return [entry for entry in self._entries[first:] if entry.first_offset < until]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def _remember(self, entry: Aborted) -> None:
        self._entries.append(entry)
        self._markers.append(entry.marker_offset)
