"""The log of one partition: segments in a folder, from a start offset to an end offset."""

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from millstream.local.broker.errors import DataError
from millstream.local.broker.log.batch import BadBatch, BatchHeader, check_batch, place
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.segment import Segment
from millstream.local.broker.log.swap import finish_swaps

log = logging.getLogger(__name__)


class Retention(NamedTuple):
    """How long records are kept (ms) and how much of them (bytes); -1 sets no limit."""

    ms: int = -1
    bytes: int = -1


class PartitionLog:
    """Appends batches and reads them back. Made with `create` or `load`.

    `start_offset` is the first offset a client may read, `end_offset` the next one to be given. Compaction has gone
    through all before `compacted_to`.
    """

    __slots__ = (
        "_bases", "_files", "_read_next", "_unread", "compacted_to", "end_offset", "folder", "segments", "start_offset",
    )  # fmt: skip

    def __init__(self, files: Files, folder: Path, segments: list[Segment], start: int, end: int) -> None:
        self.folder = folder
        self.segments = segments
        self.start_offset = start
        self.end_offset = end
        self.compacted_to = 0
        self._files = files
        self._bases = [segment.base_offset for segment in segments]
        self._read_next: dict[int, tuple[Segment, int]] = {}
        self._unread: set[int] = set()

    @classmethod
    def create(cls, files: Files, folder: Path) -> "PartitionLog":
        """A new log. Raises OSError."""
        files.make_folder(folder)
        return cls(files, folder, [Segment(files, folder, 0)], 0, 0)

    @classmethod
    def load(cls, files: Files, folder: Path, checkpoint: dict[str, Any] | None) -> "PartitionLog":
        """The log as the checkpoint knows it, or as its file names tell; `recover` must follow.

        Segments before the one that the checkpoint saw as the newest took no more by then: only that one and later
        ones are read. Nothing rewrites them before the next checkpoint.
        """
        try:
            names = finish_swaps(files, folder)
        except FileNotFoundError:  # the list of topics outlived a power failure, the new folder did not
            files.make_folder(folder)
            names = {}
        sizes = {int(name[:-4]): size for name, size in names.items() if name.endswith(".log")}
        first = min(sizes, default=0)
        base, size, newest = checkpoint["tail"] if checkpoint else (-1, 0, -1)
        gone = base < first  # what the checkpoint saw has expired since
        if checkpoint and (sizes or {0: 0}).get(base, -1) < size and not gone:
            log.warning(
                "%s is shorter than it was known to be; reading it from its beginning",
                folder,
                extra={"code": "log_shorter_than_known"},
            )
            base, gone = -1, True
        segments = [
            Segment(files, folder, b, sizes.get(b, 0), None)
            if b < base
            else Segment(files, folder, b, *((size, newest) if b == base else (0, -1)))
            for b in sorted(sizes or {0: 0})
        ]
        loaded = cls(files, folder, segments, first, checkpoint["end"] if checkpoint and not gone else first)
        if checkpoint:
            loaded.start_offset = max(checkpoint["start"], first)
            loaded.compacted_to = checkpoint["compacted"]
        loaded._unread = {b for b in sizes if b > base or (b == base and sizes[b] > size)}
        return loaded

    def checkpoint(self) -> dict[str, Any]:
        tail = self.segments[-1]
        return {
            "start": self.start_offset,
            "end": self.end_offset,
            "tail": [tail.base_offset, tail.size, tail.max_timestamp],
            "compacted": self.compacted_to,
        }

    def recover(self) -> Iterator[tuple[BatchHeader, Segment, int, memoryview]]:
        """Every batch that the checkpoint did not know; a torn tail is cut off, and said.

        Raises DataError when a segment that others follow is damaged: to cut there would lose what was acknowledged.
        """
        for segment in [segment for segment in self.segments if segment.base_offset in self._unread]:
            self.end_offset = max(self.end_offset, segment.base_offset)
            try:
                for header, position, batch in segment.recover(segment.size):
                    yield header, segment, position, batch
                    self.end_offset = header.next_offset
            except BadBatch as bad:
                where = f"{segment.path} at byte {segment.size}"
                if segment is not self.segments[-1]:
                    raise DataError(f"{where}: {bad}; later segments exist, so this is damage, no torn tail") from bad
                log.warning(
                    "cut a torn tail of %d bytes off %s: %s",
                    segment.truncate(),
                    where,
                    bad,
                    extra={"code": "torn_tail_cut"},
                )
            if segment is not self.segments[-1]:
                segment.seal(self.end_offset)
        self._unread.clear()

    def append(
        self, batch: bytearray | memoryview, header: BatchHeader, roll_at: int, roll_after: int
    ) -> tuple[Segment, int]:
        """Place and write one checked batch; says where it lies.

        A segment takes no batch past `roll_at` bytes, nor one `roll_after` ms later than its first. Raises OSError,
        and then nothing was written.
        """
        segment = self.segments[-1]
        if segment.size and (
            segment.size + len(batch) > roll_at or header.max_timestamp - segment.first_timestamp > roll_after
        ):
            segment = self.roll()
        place(batch, self.end_offset, 0)
        position = segment.size
        segment.append(batch, header._replace(base_offset=self.end_offset))
        self.end_offset += header.last_offset_delta + 1
        return segment, position

    def check_writable(self) -> None:
        """Raise OSError if the log takes no more until the next start."""
        self._files.check(self.segments[-1].path)

    def roll(self) -> Segment:
        """Begin a new segment. Raises OSError."""
        # A torn end is a torn end only in the newest segment: the one before must be whole before there is another.
        self._files.sync(self.segments[-1].path)
        segment = Segment(self._files, self.folder, self.end_offset)
        self._files.get(segment.path, create=True)
        self.segments[-1].seal(self.end_offset)
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
        while position == segment.size and at + 1 < len(self.segments):  # compaction may leave nothing of a segment
            at += 1
            segment, position = self.segments[at], 0
        return segment, position

    def batch_start(self, offset: int) -> int:
        """The first offset of the batch that holds `offset`; `offset` itself where none does."""
        segment, position = self.locate(offset)
        for header, _ in segment.headers(position):
            return min(header.base_offset, offset)
        return offset

    def read(self, offset: int, max_bytes: int, until: tuple[Segment, int] | None = None) -> bytes:
        """Whole batches from `offset` on and perhaps a part of one more; the first batch even if it is larger than
        `max_bytes`.

        `until` is the place where a committed reader must stop. Empty at the end of the log.
        """
        segment, position = self.locate(offset)
        limit = segment.size
        if until is not None and segment.base_offset >= until[0].base_offset:
            limit = until[1] if until[0] is segment else 0
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

    def newest(self) -> tuple[int, int] | None:
        """(offset, timestamp) of the first record with the highest timestamp, also where it lies before the start."""
        newest = max(self.segments, key=lambda segment: segment.max_timestamp)
        return newest.first_since(newest.max_timestamp, 0) if newest.max_timestamp >= 0 else None

    def batches(self, offset: int) -> Iterator[bytes]:
        """Every batch from `offset` to the end, one at a time; compaction and retention may go on meanwhile."""
        while offset < self.end_offset:
            segment, position = self.locate(offset)
            if position == segment.size:
                return
            for header, at in segment.headers(position):
                data = segment.read(at, header.size)
                check_batch(memoryview(data))
                offset = header.next_offset
                segments = self.segments
                yield data
                if self.segments is not segments:
                    break

    def size_from(self, offset: int) -> int:
        """Bytes from `offset` to the end."""
        segment, position = self.locate(offset)
        following = self.segments[bisect_right(self._bases, segment.base_offset) :]
        return segment.size - position + sum(later.size for later in following)

    def advance_start(self, offset: int) -> None:
        """Let the log begin at `offset`; whole segments before it are removed."""
        self.start_offset = max(self.start_offset, offset)
        count = bisect_right(self._bases, self.start_offset) - 1
        if count > 0:
            gone = self.segments[:count]
            self.replace_segments(gone, [])
            for segment in gone:
                segment.remove()

    def replace_segments(self, old: Sequence[Segment], new: Sequence[Segment]) -> None:
        """Let `new` stand where `old` stood."""
        at = self.segments.index(old[0])
        self.segments = [*self.segments[:at], *new, *self.segments[at + len(old) :]]
        self._bases = [segment.base_offset for segment in self.segments]
        self._read_next.clear()

    def retain(self, now: int, retention: Retention, keep_from: int) -> bool:
        """Remove whole segments that are too old or too many, none that reaches `keep_from`; whether any was. Raises
        OSError."""
        before = self.start_offset

        def expired(segment: Segment) -> bool:
            untimed = segment.size > 0 and segment.max_timestamp < 0
            return retention.ms >= 0 and not untimed and now - segment.max_timestamp > retention.ms

        newest = self.segments[-1]
        if newest.size and expired(newest):
            self.roll()
        surplus = sum(s.size for s in self.segments) - retention.bytes if retention.bytes >= 0 else -1
        while len(self.segments) > 1 and self._bases[1] <= keep_from:
            oldest = self.segments[0]
            if not expired(oldest) and surplus < oldest.size:
                break
            surplus -= oldest.size
            self.advance_start(self._bases[1])
        return self.start_offset > before

    def close(self) -> None:
        self._files.forget_folder(self.folder)
