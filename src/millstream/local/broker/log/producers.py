"""What one partition remembers of its producers: sequences against duplicates, and which transactions are open."""

from collections import deque
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from millstream.local.broker.errors import Refused
from millstream.local.broker.log.batch import BatchHeader

REMEMBERED_BATCHES = 5
_SEQUENCE_WRAP = 0x7FFFFFFF


class Written(NamedTuple):
    first_sequence: int
    last_sequence: int
    base_offset: int
    timestamp: int


class Producer:
    """One producer id: its newest epoch and last batches, the first offset of its open transaction or None, and whether
    a transaction of it has ended here."""

    __slots__ = ("batches", "epoch", "has_ended", "last_timestamp", "open_from")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[Written] = deque(maxlen=REMEMBERED_BATCHES)
        self.open_from: int | None = None
        self.last_timestamp = 0
        self.has_ended = False

    def adopt(self, epoch: int) -> None:
        """Sequences start again with a new epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches.clear()


class Producers:
    """The producers of one partition.

    `open` maps producer ids to the first offset of their open transaction, the lowest first: offsets only grow, so
    the order of insertion is the order of offsets.
    """

    __slots__ = ("by_id", "open")

    def __init__(self) -> None:
        self.by_id: dict[int, Producer] = {}
        self.open: dict[int, int] = {}

    def check(self, header: BatchHeader) -> Written | None:
        """None if the batch comes next, or the batch it repeats. Raises Refused for a gap and for an old epoch."""
        producer = self.by_id.get(header.producer_id)
        if producer is None:
            return None
        if header.producer_epoch < producer.epoch:
            raise Refused(
                ErrorCode.invalid_producer_epoch,
                f"producer {header.producer_id} has epoch {producer.epoch} by now, not {header.producer_epoch}",
            )
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise Refused(ErrorCode.out_of_order_sequence_number, "a new epoch begins with sequence 0")
            return None
        for written in producer.batches:
            if (written.first_sequence, written.last_sequence) == (header.base_sequence, header.last_sequence):
                return written
        last = producer.batches[-1].last_sequence if producer.batches else -1
        expected = 0 if last == _SEQUENCE_WRAP else last + 1
        if header.base_sequence != expected:
            raise Refused(
                ErrorCode.out_of_order_sequence_number,
                f"producer {header.producer_id} sent sequence {header.base_sequence}, {expected} comes next",
            )
        return None

    def note(self, header: BatchHeader) -> None:
        """A batch of data was written at its base offset."""
        producer = self.by_id.get(header.producer_id)
        if producer is None:
            producer = self.by_id[header.producer_id] = Producer(header.producer_epoch)
        producer.adopt(header.producer_epoch)
        producer.batches.append(
            Written(header.base_sequence, header.last_sequence, header.base_offset, header.max_timestamp)
        )
        producer.last_timestamp = header.max_timestamp
        if header.is_transactional and producer.open_from is None:
            producer.open_from = self.open[header.producer_id] = header.base_offset

    def end(self, header: BatchHeader) -> int | None:
        """A marker was written: returns the first offset of the transaction it ends, None when none was open."""
        producer = self.by_id.get(header.producer_id)
        if producer is None:
            producer = self.by_id[header.producer_id] = Producer(header.producer_epoch)
        producer.adopt(max(header.producer_epoch, producer.epoch))
        producer.last_timestamp = header.max_timestamp
        producer.open_from = None
        producer.has_ended = True
        return self.open.pop(header.producer_id, None)

    def forget_idle(self, before: int) -> None:
        """Drop producers that wrote nothing since `before` (ms) and have no open transaction."""
        idle = [
            pid for pid, producer in self.by_id.items() if producer.last_timestamp < before and pid not in self.open
        ]
        for pid in idle:
            del self.by_id[pid]

    def checkpoint(self) -> list[Any]:
        return [
            [pid, p.epoch, p.open_from, p.last_timestamp, [list(b) for b in p.batches], p.has_ended]
            for pid, p in self.by_id.items()
        ]

    def restore(self, checkpoint: list[Any]) -> None:
        for pid, epoch, open_from, last_timestamp, batches, *ended in checkpoint:
            producer = self.by_id[pid] = Producer(epoch)
            producer.open_from = open_from
            producer.last_timestamp = last_timestamp
            producer.has_ended = any(ended)
            producer.batches.extend(Written(*batch) for batch in batches)
        self.open = dict(
            sorted(
                ((pid, p.open_from) for pid, p in self.by_id.items() if p.open_from is not None),
                key=lambda entry: entry[1],
            )
        )
