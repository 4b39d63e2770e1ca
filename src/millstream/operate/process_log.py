"""The log of one process: read as it grows, and set aside when it has grown large, also while the process lives."""

import os
import shutil
import time
from pathlib import Path
from typing import Final

from millstream.operate.log_lines import TRACEBACK, crash, for_people, read_line

MAX_NEWS: Final = 64 * 1024
"""Bytes of a log that are looked at at once."""
MAX_LOG: Final = 10 * 1024 * 1024
"""Bytes of a log after which it is set aside as `NAME.log.1`, and a new one begins."""
LAST_BYTES: Final = 64 * 1024
"""Bytes at the end of a log that are searched for a process's last words."""


class ProcessLog:
    """The file that a process logs to, opened for appending, so that it can be emptied below it.

    - `file`: it need not be there yet.
    - `position`: where reading begins; by default at the end.
    """

    def __init__(self, file: Path, position: int | None = None) -> None:
        self.file = file
        self._read = self.size if position is None else position
        self._amid_long_line = False
        self._began = 0
        self._older_seen = self._older_at()

    @property
    def older(self) -> Path:
        """The file that it is set aside as."""
        return self.file.with_suffix(".log.1")

    @property
    def size(self) -> int:
        """Bytes that it has now."""
        try:
            return self.file.stat().st_size
        except FileNotFoundError:  # nothing was written yet
            return 0

    def begin(self) -> None:
        """Another process begins to write here."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.rotate()
        self._notice_new_file()
        self._began = self.size

    def lines(self) -> list[str]:
        """The whole lines written since the last call, at most `MAX_NEWS` bytes; longer lines are left out."""
        if self._older_at() != self._older_seen:
            return self._rest_set_aside()
        self._notice_new_file()
        if self.size == self._read:
            return []
        try:
            with self.file.open("rb") as written:
                written.seek(self._read)
                chunk = written.read(MAX_NEWS)
        except FileNotFoundError:
            return []  # removed; the next start of the process makes a new one
        whole = chunk[: chunk.rfind(b"\n") + 1]
        if not whole:
            if len(chunk) == MAX_NEWS:
                self._read += MAX_NEWS
                self._amid_long_line = True
            return []
        self._read += len(whole)
        if self._amid_long_line:
            self._amid_long_line = False
            whole = whole.partition(b"\n")[2]
        return [line for line in whole.decode(errors="replace").splitlines() if line]

    def last_words(self) -> str:
        """Return the last words of the process that writes: a crash as one block, else its last line for people."""
        try:
            with self.file.open("rb") as written:
                size = self.size
                written.seek(max(min(self._began, size), size - LAST_BYTES))
                text = written.read().decode(errors="replace")
        except OSError:  # no log, no last words
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            return ""
        last = read_line(lines[-1])
        if last.record is None and (at := text.rfind(TRACEBACK)) >= 0:
            return crash(text[at:])
        return for_people(last)

    def rotate(self) -> bool:
        """Sets it aside where it has grown large. The process goes on writing to the same file, which is empty then.

        What it writes in the instant between the last byte copied and the cut is lost: some ten microseconds.
        """
        if self.size <= MAX_LOG:
            return False
        fresh = self.older.with_suffix(".new")
        try:
            with self.file.open("r+b") as written, fresh.open("wb") as copy:
                shutil.copyfileobj(written, copy, 1 << 20)  # to the end, wherever that is meanwhile
                os.ftruncate(written.fileno(), 0)
        except FileNotFoundError:  # nothing to make shorter
            return False
        fresh.replace(self.older)
        self._read = self._began = 0
        self._amid_long_line = False
        self._older_seen = self._older_at()
        return True

    def _older_at(self) -> int:
        """Return the time when it was set aside last; 0 where it never was."""
        try:
            return self.older.stat().st_mtime_ns
        except FileNotFoundError:  # there is no older one
            return 0

    def _rest_set_aside(self) -> list[str]:
        """Return what was written after the last look, and then set aside by the process that keeps this log."""
        begin, self._read, self._amid_long_line = self._read, 0, False
        self._older_seen = self._older_at()
        try:
            with self.older.open("rb") as written:
                written.seek(begin)
                rest = written.read(MAX_NEWS)
        except FileNotFoundError:  # somebody removed it; the next start makes a new one
            return []
        return [line for line in rest.decode(errors="replace").splitlines() if line]

    def _notice_new_file(self) -> None:
        if self.size < self._read:
            self._read, self._amid_long_line = 0, False
            self._began = 0


class Quota:
    """So many in so many seconds, the rest counted.

    >>> quota = Quota(1, 60)
    >>> quota.take(), quota.take(), quota.left_out()
    (True, False, 0)
    """

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit, self._seconds = limit, seconds
        self._began = time.monotonic()
        self._taken = self._left_out = 0

    def take(self) -> bool:
        """Count one more; return whether it is within the limit."""
        self._turn()
        if self._taken < self._limit:
            self._taken += 1
            return True
        self._left_out += 1
        return False

    def left_out(self) -> int:
        """Return the number of those that were not within it, once the time is over; 0 before."""
        if not self._left_out or time.monotonic() <= self._began + self._seconds:
            return 0
        count, self._left_out = self._left_out, 0
        return count

    def _turn(self) -> None:
        if time.monotonic() > self._began + self._seconds:
            self._began, self._taken = time.monotonic(), 0
