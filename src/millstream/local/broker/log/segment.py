"""One file of a partition's log."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from millstream.local.broker.log.batch import HEADER_SIZE, BadBatch, BatchHeader, check_batch, iter_records, read_header
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.index import INDEX_INTERVAL, Index, IndexEntry

_READ_AHEAD = 4096


class Segment:
    """Batches from `base_offset` on, `size` bytes of them.

    `max_timestamp` None: not known yet, to be found when it is asked for; only a segment that takes no more may have
    that.
    """

    __slots__ = (
        "_files", "_first_timestamp", "_folder", "_indexed_to", "_max_timestamp", "_path", "base_offset", "index",
        "size",
    )  # fmt: skip

    def __init__(
        self, files: Files, folder: Path, base_offset: int, size: int = 0, max_timestamp: int | None = -1
    ) -> None:
        self.base_offset = base_offset
        self.size = size
        self.index = Index(files, folder, base_offset)
        self._files = files
        self._folder = folder
        self._path: Path | None = None
        self._indexed_to = size
        self._max_timestamp = max_timestamp
        self._first_timestamp: int | None = None

    @property
    def path(self) -> Path:
        # Made when it is needed: paths are most of what a start with a thousand partitions would spend its time on.
        if self._path is None:
            self._path = self._folder / f"{self.base_offset:020}.log"
        return self._path

    @property
    def max_timestamp(self) -> int:
        """The highest timestamp of its records; -1 without any."""
        if self._max_timestamp is None:
            self._max_timestamp = self._find_max_timestamp()
        return self._max_timestamp

    @property
    def first_timestamp(self) -> int:
        """The highest timestamp in its first batch; -1 without any."""
        if self._first_timestamp is None:
            for header, _ in self.headers():
                self._first_timestamp = header.max_timestamp
                return header.max_timestamp
            return -1
        return self._first_timestamp

    def append(self, data: bytes | bytearray | memoryview, header: BatchHeader) -> None:
        """Write one placed batch. Raises OSError, and then nothing was written."""
        self._files.append(self.path, data)
        self.note(header, self.size)
        self.size += len(data)

    def note(self, header: BatchHeader, position: int) -> None:
        """Take the batch at `position` into the index and the highest timestamp."""
        highest = self._max_timestamp
        assert highest is not None
        if position - self._indexed_to >= INDEX_INTERVAL:
            self._indexed_to = position
            self.index.add(IndexEntry(header.base_offset, position, highest))
        if header.max_timestamp > highest:
            self._max_timestamp = header.max_timestamp

    def seal(self, end_offset: int) -> None:
        """It takes no more, and ends before `end_offset`."""
        if self.size:
            self.index.add(IndexEntry(end_offset, self.size, self.max_timestamp), cache=False)

    def read(self, position: int, size: int) -> bytes:
        return os.pread(self._files.get(self.path), size, position)

    def position_of(self, offset: int) -> int:
        """Where the batch starts that holds `offset` or, failing that, the first one after it."""
        for header, position in self.headers(self.index.position_before(offset, self.size)):
            if header.next_offset > offset:
                return position
        return self.size

    def first_since(self, timestamp: int, from_offset: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record from `from_offset` on that is not earlier than `timestamp`; the
        marker of a transaction is a record as well."""
        if self.max_timestamp < timestamp:
            return None
        for header, position in self.headers(self.index.position_of_time(timestamp, self.size)):
            if header.max_timestamp < timestamp or header.next_offset <= from_offset:
                continue
            try:
                for record in iter_records(self.read(position, header.size)):
                    if record.timestamp >= timestamp and record.offset >= from_offset:
                        return record.offset, record.timestamp
            except BadBatch:  # what the client compressed cannot be unpacked: the batch is as near as we get
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
        self.index.cut(max(position, 1))
        self._indexed_to = position
        if position >= end:
            return
        self._files.note_unsynced(self.path)
        with mmap.mmap(fd, end, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            while position < end:
                header = check_batch(view, position)
                with view[position : position + header.size] as batch:
                    yield header, position, batch
                self.note(header, position)
                position += header.size
                self.size = position

    def truncate(self) -> int:
        """Cut the file to `size`; how many bytes that removed. Raises OSError."""
        surplus = os.fstat(self._files.get(self.path)).st_size - self.size
        self._files.truncate(self.path, self.size)
        return surplus

    def remove(self) -> None:
        for path in (self.path, self.index.path):
            self._files.remove(path)

    def _find_max_timestamp(self) -> int:
        last = self.index.last()
        if last is not None and last.position == self.size:
            return last.highest_before
        # The index was lost or cut short: walk what it lacks, and complete it.
        known = self.index.last_below(self.size)
        self._indexed_to, self._max_timestamp = (known.position, known.highest_before) if known else (0, -1)
        end_offset = self.base_offset
        for header, position in self.headers(self._indexed_to):
            self.note(header, position)
            end_offset = header.next_offset
        self.seal(end_offset)
        return self._max_timestamp
