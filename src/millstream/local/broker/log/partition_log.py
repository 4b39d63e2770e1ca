"""The log of one partition: segments in a folder, from a start offset to an end offset."""

import logging
import os
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from millstream.local.broker.errors import DataError
from millstream.local.broker.log.batch import BadBatch, BatchHeader, check_batch, place
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.segment import Segment

log = logging.getLogger(__name__)


class PartitionLog:
    """Appends batches and reads them back. Made with `create` or `load`.

    `start_offset` is the first offset a client may read, `end_offset` the next one to be given.
    """

    __slots__ = ("_bases", "_files", "_read_next", "_unread", "end_offset", "folder", "segments", "start_offset")

    def __init__(self, files: Files, folder: Path, segments: list[Segment], start: int, end: int) -> None:
        self.folder = folder
        self.segments = segments
        self.start_offset = start
        self.end_offset = end
        self._files = files
        self._bases = [segment.base_offset for segment in segments]
        self._read_next: dict[int, tuple[Segment, int]] = {}
        self._unread: set[int] = set()

    @classmethod
    def create(cls, files: Files, folder: Path) -> "PartitionLog":
        folder.mkdir(parents=True, exist_ok=True)
        return cls(files, folder, [Segment(files, folder, 0)], 0, 0)

    @classmethod
    def load(cls, files: Files, folder: Path, checkpoint: dict[str, Any] | None) -> "PartitionLog":
        """The log as the checkpoint knows it, or as its file names tell; `recover` must follow."""
        with os.scandir(folder) as entries:
            sizes = {int(e.name[:-4]): e.stat().st_size for e in entries if e.name.endswith(".log")}
        first = min(sizes, default=0)
        remembered = checkpoint["segments"] if checkpoint else []
        known = {base: (size, newest) for base, size, newest in remembered if base >= first}
        if not all(sizes.get(base, -1) >= size for base, (size, _) in known.items()):
            known = {}
        segments = [Segment(files, folder, base, *known.get(base, (0, -1))) for base in sorted(sizes or {0: 0})]
        start = max(checkpoint["start"], first) if checkpoint else first
        end = checkpoint["end"] if checkpoint and known else first
        log = cls(files, folder, segments, start, end)
        log._unread = {base for base, size in sizes.items() if known.get(base, (0,))[0] < size}
        return log

    def checkpoint(self) -> dict[str, Any]:
        return {
            "start": self.start_offset,
            "end": self.end_offset,
            "segments": [[s.base_offset, s.size, s.max_timestamp] for s in self.segments],
        }

    def recover(self) -> Iterator[tuple[BatchHeader, Segment, int, memoryview]]:
        """Every batch that the checkpoint did not know; a torn tail is cut off, and said.

        Raises DataError when a segment that others follow is damaged: to cut there would lose what was acknowledged.
        """
        for segment in [segment for segment in self.segments if segment.base_offset in self._unread]:
            try:
                for header, position, batch in segment.recover(segment.size):
                    yield header, segment, position, batch
                    self.end_offset = header.next_offset
            except BadBatch as bad:
                where = f"{segment.path} at byte {segment.size}"
                if segment is not self.segments[-1]:
                    raise DataError(f"{where}: {bad}; later segments exist, so this is damage, no torn tail") from bad
                log.warning("cut a torn tail of %d bytes off %s: %s", segment.truncate(), where, bad)

    def append(self, batch: bytearray | memoryview, header: BatchHeader, roll_at: int) -> tuple[Segment, int]:
        """Place and write one checked batch; says where it lies. A segment takes no batch past `roll_at` bytes but
        its first."""
        segment = self.segments[-1]
        if segment.size and segment.size + len(batch) > roll_at:
            segment = self.roll()
        place(batch, self.end_offset, 0)
        position = segment.size
        segment.append(batch, header._replace(base_offset=self.end_offset))
        self.end_offset += header.last_offset_delta + 1
        return segment, position

    def roll(self) -> Segment:
        """Begin a new segment."""
        segment = Segment(self._files, self.folder, self.end_offset)
        self._files.get(segment.path)
        self.segments.append(segment)
        self._bases.append(segment.base_offset)
        return segment

    def locate(self, offset: int) -> tuple[Segment, int]:
        """The segment and position from which a reader at `offset` goes on."""
        found = self._read_next.get(offset)
        if found is not None and found[0].size > found[1]:
            return found
        at = max(bisect_right(self._bases, offset) - 1, 0)
        segment = self.segments[at]
        position = segment.position_of(offset)
        if position == segment.size and at + 1 < len(self.segments):
            return self.segments[at + 1], 0
        return segment, position

    def read(self, offset: int, max_bytes: int, until: tuple[Segment, int] | None = None) -> bytes:
        """Whole batches from `offset` on and perhaps a part of one more; the first batch even if it is larger than
        `max_bytes`.

        `until` is the place where a committed reader must stop. Empty at the end of the log.
        """
        segment, position = self.locate(offset)
        limit = until[1] if until is not None and until[0] is segment else segment.size
        if position >= limit:
            return b""
        data = segment.read(position, min(limit - position, max(max_bytes, 4096)))
        first = int.from_bytes(data[8:12], "big") + 12
        if first > len(data):
            data = segment.read(position, first)
        elif len(data) > max_bytes:
            data = data[: max(first, max_bytes)]
        if position + len(data) == segment.size and segment is self.segments[-1]:
            self._remember(self.end_offset, segment, segment.size)
        return data

    def _remember(self, offset: int, segment: Segment, position: int) -> None:
        # Readers at the tail come back for the end they saw; a handful of places serves them all.
        if len(self._read_next) >= 8 and offset not in self._read_next:
            del self._read_next[next(iter(self._read_next))]
        self._read_next[offset] = (segment, position)

    def first_since(self, timestamp: int) -> tuple[int, int] | None:
        """(offset, timestamp) of the first readable record at or after `timestamp`."""
        for segment in self.segments:
            found = segment.first_since(timestamp, self.start_offset)
            if found is not None:
                return found
        return None

    def batches(self, offset: int) -> Iterator[bytes]:
        """Every batch from `offset` to the end, one at a time."""
        while offset < self.end_offset:
            segment, position = self.locate(offset)
            for header, at in segment.headers(position):
                data = segment.read(at, header.size)
                check_batch(memoryview(data))
                yield data
                offset = header.next_offset
            if segment is self.segments[-1]:
                return
            offset = max(offset, self.segments[self.segments.index(segment) + 1].base_offset)

    def size_from(self, offset: int) -> int:
        """Bytes from `offset` to the end."""
        segment, position = self.locate(offset)
        following = self.segments[self.segments.index(segment) + 1 :]
        return segment.size - position + sum(later.size for later in following)

    def advance_start(self, offset: int) -> None:
        """Let the log begin at `offset`; whole segments before it are removed."""
        self.start_offset = max(self.start_offset, offset)
        while len(self.segments) > 1 and self._bases[1] <= self.start_offset:
            self._bases.pop(0)
            self.segments.pop(0).remove()
            self._read_next.clear()

    def retain(self, now: int, *, retention_ms: int, retention_bytes: int, segment_ms: int, keep_from: int) -> None:
        """Remove whole segments that are too old or too many, none that reaches `keep_from`; -1 sets no limit."""
        newest = self.segments[-1]
        age = now - newest.max_timestamp
        expired = retention_ms >= 0 and age > retention_ms
        if newest.size and newest.max_timestamp >= 0 and (expired or age > segment_ms):
            self.roll()
        surplus = sum(s.size for s in self.segments) - retention_bytes if retention_bytes >= 0 else 0
        while len(self.segments) > 1 and self._bases[1] <= keep_from:
            oldest = self.segments[0]
            too_old = 0 <= oldest.max_timestamp < now - retention_ms and retention_ms >= 0
            if not too_old and surplus < oldest.size:
                return
            surplus -= oldest.size
            self.advance_start(self._bases[1])

    def close(self) -> None:
        self._files.forget_folder(self.folder)
