"""One partition: its log, its producers, its transactions, and the readers that wait for it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import Refused
from millstream.local.broker.log.aborted import Aborted, AbortedIndex
from millstream.local.broker.log.batch import (
    COMPRESSION_MASK,
    HEADER_SIZE,
    MAGIC,
    BadBatch,
    BatchHeader,
    build_marker,
    check_batch,
    iter_records,
    marker_commits,
    recompress,
    stamp,
)
from millstream.local.broker.log.codecs import ZSTD
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.partition_log import PartitionLog
from millstream.local.broker.log.producers import Producers
from millstream.local.broker.log.segment import Segment

MAX_RECORD_ERRORS = 100
"""So many records at fault are named in one answer."""


class Appended(NamedTuple):
    base_offset: int
    timestamp: int
    """When the log took the batch, if the topic keeps that time, or wrote what is repeated; else -1."""


class Rules(NamedTuple):
    """What a topic's configuration demands of a batch."""

    max_bytes: int = 2**31 - 1
    roll_at: int = 2**30
    roll_after: int = 2**63 - 1
    keys_required: bool = False
    append_time: bool = False
    compression: int | None = None
    """That of the log, 0 for none; None leaves it to the producers."""
    latest: int = 2**63 - 1
    earliest: int = 2**63 - 1
    """How far a producer's timestamps may lie in the future and in the past."""


class Waiter(Protocol):
    def grown(self, partition: "Partition", size: int) -> None:
        """`partition` has `size` more bytes, or, with 0, something else has changed that readers are told."""
        ...


class Partition:
    """Appends what passes the checks and wakes the readers.

    `on_append(bytes)` is told of every write; `guard(header)` may refuse a transactional batch.
    """

    __slots__ = (
        "_checkpoint", "_checkpoint_of", "_open_at", "_starts_at", "aborted", "guard", "index", "log", "on_append",
        "producers", "topic", "waiters",
    )  # fmt: skip

    def __init__(self, topic: str, index: int, log: PartitionLog, aborted: AbortedIndex) -> None:
        self.topic = topic
        self.index = index
        self.log = log
        self.aborted = aborted
        self.producers = Producers()
        self.waiters: set[Waiter] = set()
        self.on_append: Callable[[int], None] = lambda size: None
        self.guard: Callable[[Partition, BatchHeader], None] = lambda partition, header: None
        self._open_at: dict[int, tuple[Segment, int]] = {}
        self._starts_at = 0
        self._checkpoint = ""
        self._checkpoint_of: object = None

    @classmethod
    def create(cls, topic: str, index: int, files: Files, folder: Path) -> "Partition":
        return cls(topic, index, PartitionLog.create(files, folder), AbortedIndex(files, folder))

    @classmethod
    def load(cls, topic: str, index: int, files: Files, folder: Path, checkpoint: dict[str, Any] | None) -> "Partition":
        """Read the partition back and go through what the checkpoint has not seen. Raises DataError on damage."""
        log = PartitionLog.load(files, folder, checkpoint)
        partition = cls(topic, index, log, AbortedIndex(files, folder))
        partition.aborted.load(log.end_offset)
        if checkpoint is not None and log.end_offset >= checkpoint["end"]:
            partition.producers.restore(checkpoint["producers"])
            partition._open_at = {first: log.locate(first) for first in partition.producers.open.values()}
        for header, segment, position, batch in log.recover():
            ended = partition._note(header, segment, position)
            if ended is not None and not marker_commits(batch):
                partition.aborted.add(Aborted(header.producer_id, ended, header.base_offset))
        log.start_offset = min(log.start_offset, log.end_offset)
        partition._note_start()
        return partition

    def checkpoint(self) -> str:
        """What `load` wants to know, as JSON; made anew only when there is news."""
        log = self.log
        present = (log.start_offset, log.end_offset, log.segments[-1].base_offset, log.compacted_to)
        if present != self._checkpoint_of:
            text = json.dumps({**log.checkpoint(), "producers": self.producers.checkpoint()}, separators=(",", ":"))
            self._checkpoint, self._checkpoint_of = text, present
        return self._checkpoint

    @property
    def stable_offset(self) -> int:
        """The last stable offset: where the oldest open transaction begins, or the first batch that is left of it; else
        the end."""
        for first in self.producers.open.values():
            return max(first, self._starts_at)
        return self.log.end_offset

    def append(self, batch: bytearray | memoryview, rules: Rules, now: int) -> Appended:
        """Write the one batch that a client sent; `batch` may be changed in place.

        Raises Refused: damaged, too large, outside the topic's range of time, without a key that it needs, out of
        sequence, from an old epoch, outside a transaction, or the disk failed.
        """
        try:
            header = check_batch(memoryview(batch))
        except BadBatch as bad:
            older = len(batch) >= HEADER_SIZE and batch[MAGIC] in (0, 1)
            code = ErrorCode.invalid_record if bad.too_short or older else ErrorCode.corrupt_message
            raise Refused(code, str(bad)) from bad
        if header.size != len(batch):
            raise Refused(ErrorCode.invalid_record, "exactly one batch is taken for each partition")
        if header.records <= 0 or header.last_offset_delta != header.records - 1 or header.is_control:
            raise Refused(ErrorCode.invalid_record, "a batch from a client holds records, numbered without gaps")
        if header.base_offset or (header.producer_id >= 0 and header.base_sequence < 0):
            raise Refused(ErrorCode.invalid_record, "a batch from a client counts from 0, its sequence from 0 or more")
        if header.attributes & COMPRESSION_MASK > ZSTD:
            raise Refused(ErrorCode.unsupported_compression_type, "a compression that Kafka does not have")
        _check_size(header.size, rules)
        if rules.keys_required:
            self._check_keys(batch)
        if not rules.append_time:
            _check_time(batch, header, rules, now)
        self._check_writable()
        if header.producer_id >= 0:
            written = self.producers.check(header)
            if written is not None:
                return Appended(written.base_offset, written.timestamp)
            if header.is_transactional:
                self.guard(self, header)
            elif header.producer_id in self.producers.open:
                raise Refused(ErrorCode.invalid_txn_state, "its producer has a transaction open here")
        base_offset = self.log.end_offset
        if rules.compression is not None and header.attributes & COMPRESSION_MASK != rules.compression:
            batch = _recompressed(batch, rules)
            header = check_batch(memoryview(batch))
        if rules.append_time:
            header = stamp(batch, now)
        self._write(batch, header, rules)
        return Appended(base_offset, now if rules.append_time else -1)

    def _check_keys(self, batch: bytearray | memoryview) -> None:
        try:
            keyless = [
                position for position, record in enumerate(iter_records(memoryview(batch))) if record.key is None
            ]
        except BadBatch as bad:
            raise Refused(ErrorCode.invalid_record, str(bad)) from bad
        if keyless:
            reason = "a compacted topic takes no record without a key"
            raise Refused(ErrorCode.invalid_record, reason, [(at, reason) for at in keyless[:MAX_RECORD_ERRORS]])

    def end_transaction(self, producer_id: int, epoch: int, *, commit: bool, now: int, rules: Rules) -> None:
        """Write the marker, unless this producer has nothing open here: then it has been written before."""
        self._check_writable()
        first = self.producers.open.get(producer_id)
        if first is None:
            return
        marker = build_marker(producer_id, epoch, commit, now)
        header = check_batch(memoryview(marker))
        if commit:
            self._write(marker, header, rules)
            return
        # Known as aborted before the marker stands: the other order could show aborted records after a failed write.
        with self._storage_errors():
            self.aborted.add(Aborted(producer_id, first, self.log.end_offset))
        try:
            self._write(marker, header, rules)
        except Refused:
            with self._storage_errors():
                self.aborted.drop_last()
            raise

    def _write(self, batch: bytearray | memoryview, header: BatchHeader, rules: Rules) -> None:
        stable = self.stable_offset
        base_offset = self.log.end_offset
        with self._storage_errors():
            segment, position = self.log.append(batch, header, rules.roll_at, rules.roll_after)
        self._note(header._replace(base_offset=base_offset), segment, position)
        self.on_append(len(batch))
        if self.waiters:
            moved = self.stable_offset > stable
            for waiter in tuple(self.waiters):
                waiter.grown(self, len(batch))
                if moved:
                    waiter.grown(self, 0)

    def delete_records(self, until: int) -> None:
        """Let the log begin at `until`, also amid an open transaction. Raises OSError."""
        self.log.advance_start(until)
        self._note_start()
        self.tell_readers()

    def _note_start(self) -> None:
        if self.producers.open:
            self._starts_at = self.log.batch_start(self.log.start_offset)

    def tell_readers(self) -> None:
        """Something else than the end has changed: where the log begins, or whether it is there at all."""
        for waiter in tuple(self.waiters):
            waiter.grown(self, 0)

    def _note(self, header: BatchHeader, segment: Segment, position: int) -> int | None:
        """Take a written batch into the producers' state; the first offset of the transaction it ends, if any."""
        if header.producer_id < 0:
            return None
        if not header.is_control:
            self.producers.note(header)
            if header.is_transactional and self.producers.open.get(header.producer_id) == header.base_offset:
                self._open_at[header.base_offset] = (segment, position)
            return None
        first = self.producers.end(header)
        if first is not None:
            del self._open_at[first]
        return first

    def _check_writable(self) -> None:
        """Nor is anything repeated acknowledged while nobody knows whether the disk has what came first."""
        try:
            self.log.check_writable()
        except OSError as error:
            raise self._storage_error(error) from error

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._storage_error(error) from error

    def _storage_error(self, error: OSError) -> Refused:
        where = f"cannot write {self.topic}-{self.index} in {self.log.folder}: {error.strerror}"
        return Refused(ErrorCode.kafka_storage_error, where)

    def read(self, offset: int, max_bytes: int, *, committed: bool) -> bytes:
        """Batches from `offset` on, for a committed reader only up to the last stable offset.

        Raises Refused if the offset is not within the log.
        """
        if not self.log.start_offset <= offset <= self.log.end_offset:
            raise Refused(ErrorCode.offset_out_of_range)
        until = None
        if committed:
            stable = self.stable_offset
            if offset >= stable:
                return b""
            until = self._open_at.get(stable)
        elif offset == self.log.end_offset:
            return b""
        return self.log.read(offset, max_bytes, until)

    def aborted_between(self, from_offset: int) -> list[Aborted]:
        return self.aborted.between(from_offset, self.stable_offset) if self.aborted else []


def _check_time(batch: bytearray | memoryview, header: BatchHeader, rules: Rules, now: int) -> None:
    # By the batch's header: what is compressed is not unpacked unless something is wrong.
    if header.max_timestamp - now <= rules.latest and now - header.base_timestamp <= rules.earliest:
        return
    reason = f"timestamps are taken from {now - rules.earliest} to {now + rules.latest}"
    wrong: list[tuple[int, str]] = []
    with suppress(BadBatch):  # what is wrong with the batch itself is found elsewhere
        for position, record in enumerate(iter_records(memoryview(batch))):
            if not -rules.earliest <= record.timestamp - now <= rules.latest and len(wrong) < MAX_RECORD_ERRORS:
                wrong.append((position, f"{reason}, not {record.timestamp}"))
    raise Refused(ErrorCode.invalid_timestamp, reason, wrong)


def _check_size(size: int, rules: Rules) -> None:
    if size > rules.max_bytes:
        reason = f"{size} bytes in a batch, max.message.bytes is {rules.max_bytes}"
        raise Refused(ErrorCode.message_too_large, reason)


def _recompressed(batch: bytearray | memoryview, rules: Rules) -> bytearray:
    assert rules.compression is not None
    try:
        changed = recompress(memoryview(batch), rules.compression)
    except BadBatch as bad:
        raise Refused(ErrorCode.invalid_record, str(bad)) from bad
    _check_size(len(changed), rules)
    return changed
