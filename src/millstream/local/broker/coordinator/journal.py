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
from millstream.local.broker.log.files import Files, replace_file

log = logging.getLogger(__name__)

Entry = list[Any]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Journal:
    """Entries in the order they were added. Each is a list; its first item says of what kind it is.

    `snapshot` yields the entries that stand for the present state; the journal is rewritten to them when it is four
    times as long as it was after the last rewriting, and at least `rewrite_at` bytes.
    """

    def __init__(self, path: Path, files: Files, rewrite_at: int = 4 << 20) -> None:
        self._path = path
        self._files = files
        self._rewrite_at = rewrite_at
        self._size = 0
        self._limit = rewrite_at
        self.snapshot: Callable[[], Iterable[Entry]] = lambda: ()

    def load(self) -> Iterator[Entry]:
        """Every entry; a torn tail is cut off, and said. Raises DataError for damage before the end."""
        if not self._path.exists():
            return
        data = self._path.read_bytes()
        position = 0
        for line in data.splitlines(keepends=True):
            if not _is_whole(line):
                if position + len(line) < len(data):
                    raise DataError(f"{self._path} is damaged at byte {position}, before its end")
                log.warning("cut a torn tail of %d bytes off %s at byte %d", len(line), self._path, position)
                with self._path.open("r+b") as file:
                    file.truncate(position)
                break
            yield json.loads(line[9:])
            position += len(line)
        self._size = position
        self._limit = max(self._rewrite_at, 4 * position)

    def add(self, *entries: Entry) -> None:
        """Append together; done when this returns. Raises Refused when the disk refuses."""
        data = b"".join(map(_line, entries))
        try:
            self._files.append(self._path, data)
        except OSError as error:
            raise Refused(ErrorCode.kafka_storage_error, f"cannot write {self._path}: {error.strerror}") from error
        self._size += len(data)

    def rewrite_if_grown(self) -> None:
        """Call when the state says what the journal says: between requests, not within one."""
        if self._size > self._limit:
            self.rewrite()

    def rewrite(self) -> None:
        data = b"".join(map(_line, self.snapshot()))
        self._files.forget(self._path)
        replace_file(self._path, data, sync=self._files.fsync)
        self._size = len(data)
        self._limit = max(self._rewrite_at, 4 * self._size)


def _line(entry: Entry) -> bytes:
    text = _encode(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _is_whole(line: bytes) -> bool:
    return len(line) > 10 and line.endswith(b"\n") and line[:8] == b"%08x" % zlib.crc32(line[9:-1])
