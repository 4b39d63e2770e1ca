"""The fetcher of a consumer: its partitions, their positions, and the records that wait for the application."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from millstream.errors import TopicMissing
from millstream.kafka.port import BEGINNING, Isolation, Message, Offsets, TopicPartition
from millstream.testing.simulation.cluster.broker import ConnectionLost
from millstream.testing.simulation.cluster.clients.client import AGAIN, Client, failure_of
from millstream.testing.simulation.cluster.records import read_batches
from millstream.testing.simulation.scheduler.tasks import Signal, Steps

MAX_WAIT_MS = 500
MAX_BUFFERED = 1_000
"""Records of one partition that may wait here; no more are requested then."""
OFFSET_OUT_OF_RANGE = 1
_epochs = count()
"""None comes twice: a partition that was revoked and assigned again must not take what was requested before that."""


class FetchState:
    """The state of one partition. `epoch` changes with every seek: what was requested before is dropped.

    - `start`: the next offset to request; None: what is committed.
    - `position`: the next offset that the application gets.
    - `end`: the partition's end, when it was last read.
    - `buffered`: records that wait for the application.
    - `reported_end`: the end that the application was given, or will be.
    """

    def __init__(self, start: int | None) -> None:
        self.paused = False
        self.position: int | None = None
        self.end: int | None = None
        self.epoch = next(_epochs)
        self.start = start
        self.buffered = 0
        self.reported_end: int | None = None

    def seek(self, start: int | None) -> None:
        """Read on from `start`; None: from what is committed."""
        self.epoch = next(_epochs)
        self.start = start
        self.buffered = 0
        self.reported_end = None


class Fetcher:
    """Reads the partitions of one consumer, beside it."""

    def __init__(self, client: Client, group: str, isolation: Isolation) -> None:
        self.partitions: dict[TopicPartition, FetchState] = {}
        self.queue: deque[tuple[TopicPartition, int, Message | int]] = deque()
        """Messages, and the offsets at which a partition was read to its end; each with the epoch that asked for it."""
        self._client = client
        self._group = group
        self._isolation: Isolation = isolation
        self._connection = client.connect()
        self._changed = Signal()
        self._task = client.incarnation.task(self._read())

    def assign(self, partitions: Iterable[TopicPartition], starts: Mapping[TopicPartition, int]) -> None:
        for partition in partitions:
            self.partitions[partition] = FetchState(starts.get(partition))
        self._changed.notify()

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.partitions.pop(partition, None)

    def seek(self, offsets: Offsets) -> None:
        for partition, offset in offsets.items():
            state = self._assigned(partition)
            state.position = None
            state.seek(offset)
        self._changed.notify()

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            state = self._assigned(partition)
            if not state.paused:
                state.paused = True
                # What is buffered is requested again afterwards.
                state.seek(self._next_of(partition, state))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._assigned(partition).paused = False
        self._changed.notify()

    def take(self, limit: int) -> list[Message]:
        """Return up to `limit` messages of partitions that are still assigned."""
        taken: list[Message] = []
        while self.queue and len(taken) < limit:
            partition, epoch, item = self.queue.popleft()
            state = self.partitions.get(partition)
            if state is None or state.epoch != epoch:
                continue
            if isinstance(item, int):
                state.position = item
            else:
                state.buffered -= 1
                state.position = item.offset() + 1
                taken.append(item)
        self._changed.notify()
        return taken

    def lag(self) -> dict[TopicPartition, int]:
        behind: dict[TopicPartition, int] = {}
        for partition, state in self.partitions.items():
            if state.end is not None:
                behind[partition] = max(0, state.end - (self._next_of(partition, state) or 0))
        return behind

    def close(self) -> None:
        self._task.cancel()
        self._connection.close()

    def _assigned(self, partition: TopicPartition) -> FetchState:
        state = self.partitions.get(partition)
        if state is None:
            raise failure_of(3, f"reading {partition[0]}[{partition[1]}], which is not assigned to this consumer")
        return state

    def _next_of(self, partition: TopicPartition, state: FetchState) -> int | None:
        """Return the application's offset, which is behind what is buffered."""
        if state.position is not None:
            return state.position
        first = next((item for key, epoch, item in self.queue if key == partition and epoch == state.epoch), None)
        return state.start if first is None else first if isinstance(first, int) else first.offset()

    def _read(self) -> Steps[None]:
        while True:
            changed = self._changed.next()
            try:
                yield from self._find_starts()
                asked = {
                    partition: (state.epoch, state.start)
                    for partition, state in self.partitions.items()
                    if not state.paused and state.start is not None and state.start >= 0
                    if state.buffered < MAX_BUFFERED
                }
                if not asked:
                    yield changed
                    continue
                starts = {partition: start for partition, (_, start) in asked.items()}
                found = yield from self._client.fetch(starts, self._isolation, MAX_WAIT_MS, self._connection)
            except (ConnectionLost, TopicMissing):
                yield AGAIN
                continue
            wrong = [self._arrived(partition, asked[partition][0], entry) for partition, entry in found.items()]
            if any(wrong):
                yield AGAIN

    def _find_starts(self) -> Steps[None]:
        """Turn `what is committed`, the beginning and the end into offsets."""
        unknown = {key: state.epoch for key, state in self.partitions.items() if state.start is None}
        if unknown:
            doing = f"asking what group {self._group!r} has committed"
            found = yield from self._client.committed_offsets(self._group, list(unknown), doing)
            for key, (offset, _) in found.items():
                if (state := self.partitions.get(key)) is not None and state.epoch == unknown[key]:
                    state.start = BEGINNING if offset < 0 else offset
        relative = {
            key: (state.epoch, state.start)
            for key, state in self.partitions.items()
            if state.start is not None and state.start < 0
        }
        if relative:
            wanted = {key: start for key, (_, start) in relative.items()}
            offsets = yield from self._client.offsets_now(wanted, self._isolation, "looking where to read")
            for key, offset in offsets.items():
                if (state := self.partitions.get(key)) is not None and state.epoch == relative[key][0]:
                    state.start = offset

    def _arrived(self, partition: TopicPartition, epoch: int, entry: Any) -> int:
        """Buffer what came for a partition; return the error code that came instead."""
        state = self.partitions.get(partition)
        if state is None or state.epoch != epoch or state.start is None:
            return 0
        if entry.error_code:
            if entry.error_code == OFFSET_OUT_OF_RANGE:
                state.seek(BEGINNING)
            return int(entry.error_code)
        aborted = [(each.producer_id, each.first_offset) for each in entry.aborted_transactions or ()]
        messages, following = read_batches(*partition, bytes(entry.records or b""), state.start, aborted)
        state.start = following
        end: int = entry.last_stable_offset if self._isolation == "read_committed" else entry.high_watermark
        state.end = end
        state.buffered += len(messages)
        self.queue.extend((partition, epoch, message) for message in messages)
        if following >= end and state.reported_end != following:
            state.reported_end = following
            self.queue.append((partition, epoch, following))
        return 0
