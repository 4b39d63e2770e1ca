"""Compaction of one partition's log, in steps of some milliseconds: between two of them the broker does other things.

A plan says what is to be done; `run` does it, step by step, and may be dropped at any step. As many segments as fit in
one become one, and that is swapped in by itself (see `swap`).
"""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from millstream.local.broker.log.aborted import AbortedIndex
from millstream.local.broker.log.batch import BadBatch, BatchHeader, check_batch, read_body, read_header
from millstream.local.broker.log.cleaning import AbortedRecords, Cleaner, digest, spans
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.index import INDEX_INTERVAL, IndexEntry, pack_entries
from millstream.local.broker.log.partition_log import PartitionLog
from millstream.local.broker.log.producers import Producers
from millstream.local.broker.log.segment import Segment
from millstream.local.broker.log.swap import CLEANED, swap_in

MAX_KEYS = 200_000
"""Keys remembered in one run, some 35 MB of them; what comes after them is for the next run."""
_STEP_BYTES = 512 * 1024
_STEP_RECORDS = 2000

Steps = Generator[None, None, None]


class Compaction(NamedTuple):
    """What a topic's configuration says of compaction; times in milliseconds."""

    dirty_ratio: float = 0.5
    min_lag: int = 0
    max_lag: int = 2**63 - 1
    delete_retention: int = 24 * 60 * 60 * 1000
    segment_bytes: int = 2**30


class Plan:
    """The segments that may be compacted now, `cleanable`, of which `dirty` have not been yet, and a step counter."""

    def __init__(
        self, files: Files, log: PartitionLog, aborted: AbortedIndex, producers: Producers, rules: Compaction, now: int
    ) -> None:
        self._files = files
        self._log = log
        self._aborted = aborted
        self._producers = producers
        self._rules = rules
        self._now = now
        self._bytes = self._records = 0
        self.cleanable: list[Segment] = []
        self.dirty: list[Segment] = []

    def choose(self, stable_offset: int) -> bool:
        """Find what may be compacted; whether it is worth the work now.

        The newest segment never is, nor what reaches an open transaction or is younger than `min_lag`.
        """
        log, rules = self._log, self._rules
        for segment, following in zip(log.segments, log.segments[1:], strict=False):
            young = rules.min_lag > 0 and segment.size > 0 and self._now - segment.max_timestamp < rules.min_lag
            if following.base_offset > stable_offset or young:
                break
            self.cleanable.append(segment)
            if following.base_offset > log.compacted_to:
                self.dirty.append(segment)
        dirty, total = (sum(segment.size for segment in some) for some in (self.dirty, self.cleanable))
        late = any(s.size and self._now - s.first_timestamp > rules.max_lag for s in self.dirty)
        return dirty > 0 and (late or dirty > rules.dirty_ratio * total)

    def run(self) -> Steps:
        """Compact. Raises OSError, and BadBatch when a segment is damaged: what is not swapped in by then is as it was.

        The checkpoint must have been written since the newest segment began: until the next one only older segments
        change.
        """
        if not self.cleanable:
            return
        end = self._end_of(self.cleanable[-1])
        aborted = AbortedRecords(self._aborted.between(0, end))
        latest: dict[bytes, int] = {}
        until = yield from self._map_keys(latest, aborted, end)
        cleaner = Cleaner(latest, until, aborted, self._producers, self._now, self._rules.delete_retention)
        left = [segment for segment in self.cleanable if segment.base_offset < until]
        while left:
            try:
                done = yield from self._rewrite(left, cleaner)
            finally:
                for path in _cleaned_paths(left[0]):
                    self._files.remove(path)
            if not done:
                return  # retention was faster
            left = left[done:]
        self._log.compacted_to = max(self._log.compacted_to, until)

    def _map_keys(self, latest: dict[bytes, int], aborted: AbortedRecords, end: int) -> Generator[None, None, int]:
        """Note the last offset of every key in the dirty part; how far that went."""
        for segment in self.dirty:
            for header, batch in self._batches(segment):
                if header.next_offset > self._log.compacted_to and not header.is_control and not aborted.hold(header):
                    if len(latest) >= MAX_KEYS:
                        return header.base_offset
                    try:
                        for delta, _, key, *_ in spans(read_body(batch, header), header.records):
                            if key is not None:
                                latest[digest(key)] = header.base_offset + delta
                    except BadBatch:  # it stays as it is, see Cleaner
                        pass
                if self._step_done(header):
                    yield
        return end

    def _rewrite(self, segments: list[Segment], cleaner: Cleaner) -> Generator[None, None, int]:
        """Write what stays of the first of these segments, of as many as fit in one together, and swap it in if that
        changes anything; how many these were, 0 if they are not there any more."""
        log_path, index_path = _cleaned_paths(segments[0])
        for path in (log_path, index_path):
            self._files.remove(path)
        writing = _Writing()
        changed = False
        removed_before = len(cleaner.removed_markers)
        group: list[Segment] = []
        for segment in segments:
            if group and writing.size + segment.size > self._rules.segment_bytes:
                break
            group.append(segment)
            for header, batch in self._batches(segment):
                left = cleaner.clean(header, batch)
                changed = changed or left is not batch
                if left is not None:
                    writing.take(header, left)
                if self._step_done(header):
                    self._files.append(log_path, writing.taken())
                    yield
                    if segment not in self._log.segments or segments[0] not in self._log.segments:
                        return 0
        if len(group) == 1 and not changed:
            return 1
        base, end = group[0].base_offset, self._end_of(group[-1])
        self._files.append(log_path, writing.taken())
        writing.index.append(IndexEntry(end, writing.size, writing.max_timestamp))
        self._files.append(index_path, pack_entries(writing.index))
        if len(cleaner.removed_markers) > removed_before:
            self._aborted.keep(lambda entry: entry.marker_offset not in cleaner.removed_markers)
        swap_in(self._files, self._log.folder, base, end)
        new = Segment(self._files, self._log.folder, base, writing.size, writing.max_timestamp)
        self._log.replace_segments(group, [new])
        return len(group)

    def _batches(self, segment: Segment) -> Iterator[tuple[BatchHeader, bytes]]:
        for header, position in segment.headers():
            batch = segment.read(position, header.size)
            check_batch(memoryview(batch))
            yield header, batch

    def _end_of(self, segment: Segment) -> int:
        segments = self._log.segments
        return segments[segments.index(segment) + 1].base_offset

    def _step_done(self, header: BatchHeader) -> bool:
        self._bytes += header.size
        self._records += header.records
        if self._bytes < _STEP_BYTES and self._records < _STEP_RECORDS:
            return False
        self._bytes = self._records = 0
        return True


class _Writing:
    """What goes into the new segment, and the index of it."""

    def __init__(self) -> None:
        self.size = 0
        self.max_timestamp = -1
        self.index: list[IndexEntry] = []
        self._buffer = bytearray()
        self._indexed_to = 0

    def take(self, header: BatchHeader, batch: bytes | bytearray) -> None:
        if self.size - self._indexed_to >= INDEX_INTERVAL:
            self._indexed_to = self.size
            self.index.append(IndexEntry(header.base_offset, self.size, self.max_timestamp))
        self._buffer += batch
        self.size += len(batch)
        self.max_timestamp = max(self.max_timestamp, read_header(memoryview(batch)).max_timestamp)

    def taken(self) -> bytes:
        data, self._buffer = bytes(self._buffer), bytearray()
        return data


def _cleaned_paths(first: Segment) -> tuple[Path, Path]:
    log, index = first.path, first.index.path
    return log.with_name(log.name + CLEANED), index.with_name(index.name + CLEANED)
