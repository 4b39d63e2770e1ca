"""One file of a partition's log, and the sparse index that finds an offset or a time in it."""

import mmap
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from millstream.local.broker.log.batch import (
    HEADER_SIZE,
    BadBatch,
    BatchHeader,
    check_batch,
    iter_records,
    read_header,
)
from millstream.local.broker.log.files import Files

INDEX_INTERVAL = 32 * 1024
"""Bytes of log between two index entries: the most that a look-up walks, header by header."""

_READ_AHEAD = 4096

_Index = tuple["array[int]", "array[int]", "array[int]"]


class Segment:
    """Batches from `base_offset` on, `size` bytes of them, none with a timestamp above `max_timestamp`.

    The index file holds triples (base offset, position, highest timestamp before that position). It is a cache:
    entries past the end of the log are ignored, missing ones only make a look-up walk further.
    """

    __slots__ = ("_files", "_index", "_indexed_to", "base_offset", "index_path", "max_timestamp", "path", "size")

    def __init__(self, files: Files, folder: Path, base_offset: int, size: int = 0, max_timestamp: int = -1) -> None:
        self.base_offset = base_offset
        self.size = size
        self.max_timestamp = max_timestamp
        self.path = folder / f"{base_offset:020}.log"
        self.index_path = self.path.with_suffix(".index")
        self._files = files
        self._index: _Index | None = None
        self._indexed_to = size

    def append(self, data: bytes | bytearray | memoryview, header: BatchHeader) -> None:
        """Write one placed batch. Raises OSError, and then nothing was written."""
        self._files.append(self.path, data)
        self.note(header, self.size)
        self.size += len(data)

    def note(self, header: BatchHeader, position: int) -> None:
        """Take the batch at `position` into the index and the highest timestamp."""
        if position - self._indexed_to >= INDEX_INTERVAL:
            self._indexed_to = position
            entry = array("q", (header.base_offset, position, self.max_timestamp))
            with suppress(OSError):  # the log has the batch already; a missing entry costs a longer walk
                self._files.append(self.index_path, entry.tobytes())
            if self._index is not None:
                for column, value in zip(self._index, entry, strict=True):
                    column.append(value)
        if header.max_timestamp > self.max_timestamp:
            self.max_timestamp = header.max_timestamp

    def read(self, position: int, size: int) -> bytes:
        return os.pread(self._files.get(self.path), size, position)

    def position_of(self, offset: int) -> int:
        """Where the batch starts that holds `offset` or, failing that, the first one after it."""
        offsets, positions, _ = self._loaded_index()
        entry = bisect_right(offsets, offset) - 1
        for header, position in self.headers(positions[entry] if entry >= 0 else 0):
            if header.next_offset > offset:
                return position
        return self.size

    def first_since(self, timestamp: int, from_offset: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record from `from_offset` on that is not earlier than `timestamp`."""
        if self.max_timestamp < timestamp:
            return None
        _, positions, highest_before = self._loaded_index()
        entry = bisect_right(highest_before, timestamp - 1) - 1
        for header, position in self.headers(positions[entry] if entry >= 0 else 0):
            if header.max_timestamp < timestamp or header.next_offset <= from_offset or header.is_control:
                continue
            try:
                for record in iter_records(self.read(position, header.size)):
                    if record.timestamp >= timestamp and record.offset >= from_offset:
                        return record.offset, record.timestamp
            except BadBatch:  # a compression we do not read: the batch is as near as we get
                return max(header.base_offset, from_offset), header.max_timestamp
        return None

    def headers(self, position: int = 0) -> Iterator[tuple[BatchHeader, int]]:
        """Every batch header from the batch boundary `position` on, with where it stands."""
        chunk, chunk_at = b"", position
        while position + HEADER_SIZE <= self.size:
            if position + HEADER_SIZE > chunk_at + len(chunk):
                chunk, chunk_at = self.read(position, _READ_AHEAD), position
            header = read_header(chunk, position - chunk_at)
            yield header, position
            position += header.size

    def recover(self, position: int) -> Iterator[tuple[BatchHeader, int, memoryview]]:
        """Every whole and undamaged batch from `position` to the end of the file; sets `size` to where they end.

        Raises BadBatch for what follows them; the caller decides whether that is a torn tail.
        """
        fd = self._files.get(self.path)
        end = os.fstat(fd).st_size
        self.size = position
        self._indexed_to = position
        if position >= end:
            return
        with mmap.mmap(fd, end, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            while position < end:
                header = check_batch(view, position)
                with view[position : position + header.size] as batch:
                    yield header, position, batch
                self.note(header, position)
                position += header.size
                self.size = position

    def truncate(self) -> int:
        """Cut the file to `size`; how many bytes that removed. The index may know of them, so it is made anew."""
        fd = self._files.get(self.path)
        surplus = os.fstat(fd).st_size - self.size
        os.ftruncate(fd, self.size)
        self._files.forget(self.index_path)
        self.index_path.unlink(missing_ok=True)
        self._index, self._indexed_to = None, 0
        for header, position in self.headers():
            self.note(header, position)
        return surplus

    def remove(self) -> None:
        for path in (self.path, self.index_path):
            self._files.forget(path)
            path.unlink(missing_ok=True)

    def _loaded_index(self) -> _Index:
        if self._index is None:
            entries = array("q")
            if self.index_path.exists():
                data = self.index_path.read_bytes()
                entries.frombytes(data[: len(data) // 24 * 24])
            columns = (array("q"), array("q"), array("q"))
            last = -1
            for at in range(0, len(entries), 3):
                offset, position, highest = entries[at : at + 3]
                if position > last and position < self.size:
                    last = position
                    for column, value in zip(columns, (offset, position, highest), strict=True):
                        column.append(value)
            self._index = columns
        return self._index
