"""The coordinator's memory on disk: one checked line of JSON for each change, rewritten as a snapshot when it has
grown."""

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import DataError, Refused
from millstream.local.broker.log.files import Files

log = logging.getLogger(__name__)

Entry = list[Any]
_SNAPSHOT = "snapshot"
"""The first entry after a rewriting; says how many bytes of sound entries follow it."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Entries in the order they were added. Each is a list; its first item says of what kind it is.

    `snapshot` yields the entries that stand for the present state; the journal is rewritten to them when it is four
    times as long as it was after the last rewriting, and at least `rewrite_at` bytes. `ordered`: see `barrier`.
    """

    def __init__(self, path: Path, files: Files, rewrite_at: int = 4 << 20, *, ordered: bool = False) -> None:
        self.ordered = ordered
        self._path = path
        self._files = files
        self._rewrite_at = rewrite_at
        self._size = 0
        self._limit = rewrite_at
        self.snapshot: Callable[[], Iterable[Entry]] = lambda: ()

    def load(self) -> Iterator[Entry]:
        """Every entry; a torn tail is cut off, and said. Raises DataError for damage within the last snapshot."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        position = sound = 0
        for line in data.splitlines(keepends=True):
            if not _is_whole(line):
                if position < sound:
                    raise DataError(f"{self._path} is damaged at byte {position}, where it was once sound")
                # After a power failure whole lines may follow a torn one: none of them was acknowledged.
                cut = len(data) - position
                log.warning(
                    "cut a torn tail of %d bytes off %s at byte %d",
                    cut,
                    self._path,
                    position,
                    extra={"code": "torn_tail_cut"},
                )
                self._files.truncate(self._path, position)
                break
            position += len(line)
            entry = json.loads(line[9:])
            if entry[0] == _SNAPSHOT:
                sound = position + entry[1]
            else:
                yield entry
        if position:
            self._files.note_unsynced(self._path)
        self._size = position
        self._limit = max(self._rewrite_at, 4 * position)

    def add(self, *entries: Entry) -> None:
        """Append together. Raises Refused, in words that make clients try again, when the disk refuses."""
        data = b"".join(map(_line, entries))
        try:
            self._files.append(self._path, data)
        except OSError as error:
            raise self._refusal(error) from error
        self._size += len(data)

    def barrier(self) -> None:
        """What was written so far, here and in the logs, is on the disk before anything that follows, if it is to be
        kept through a power failure at all. Raises Refused."""
        if self.ordered:
            try:
                self._files.check(self._path)
                self._files.flush()
            except OSError as error:
                raise self._refusal(error) from error

    def rewrite_if_grown(self) -> None:
        """Call when the state says what the journal says: between requests, not within one."""
        if self._size > self._limit:
            self.rewrite()

    def rewrite(self) -> None:
        """Raises OSError, and then the journal is as it was."""
        entries = b"".join(map(_line, self.snapshot()))
        data = _line([_SNAPSHOT, len(entries)]) + entries
        self._files.replace(self._path, data)
        self._size = len(data)
        self._limit = max(self._rewrite_at, 4 * self._size)

    def _refusal(self, error: OSError) -> Refused:
        return Refused(ErrorCode.coordinator_not_available, f"cannot write {self._path}: {error.strerror}")


def _line(entry: Entry) -> bytes:
    text = _encode(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _is_whole(line: bytes) -> bool:
    return len(line) > 10 and line.endswith(b"\n") and line[:8] == b"%08x" % zlib.crc32(line[9:-1])
