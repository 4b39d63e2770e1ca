"""What a consumer reads: its partitions, how far each is, and what has come and was not handed out yet."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from millstream.errors import TopicMissing
from millstream.kafka.port import BEGINNING, Isolation, Message, Offsets, TopicPartition
from millstream.testing.simulation.client import AGAIN, Client, failure_of
from millstream.testing.simulation.network import Connection, HungUp
from millstream.testing.simulation.records import read_batches
from millstream.testing.simulation.tasks import Signal, Steps

LONGEST_WAIT_MS = 500
MOST_WAITING = 1_000
"""Records of one partition that lie here before no more are asked for."""
OFFSET_OUT_OF_RANGE = 1
_turns = count()
"""None comes twice: a partition that went and came back must not take what was asked for before it went."""


class Place:
    """One partition as its reader has it. `turn` changes with every seek: what was asked for before is dropped."""

    def __init__(self, start: int | None) -> None:
        self.paused = False
        self.position: int | None = None
        self.end: int | None = None
        self.go_to(start)

    def go_to(self, start: int | None) -> None:
        """Read on from there; None: from what is committed."""
        self.turn = next(_turns)
        self.start = start
        self.waiting = 0
        self.told_end: int | None = None


class Fetcher:
    """Reads the partitions of one consumer, beside it."""

    def __init__(self, client: Client, group: str, isolation: Isolation) -> None:
        self.places: dict[TopicPartition, Place] = {}
        self.queue: deque[tuple[TopicPartition, int, Message | int]] = deque()
        """Messages, and where a partition was read to its end."""
        self._client = client
        self._group = group
        self._isolation: Isolation = isolation
        self._connection = Connection(client.world.broker, client.life, client.client_id)
        self._changed = Signal()
        self._task = client.life.task(self._read())

    def assign(self, partitions: Iterable[TopicPartition], starts: Mapping[TopicPartition, int]) -> None:
        for partition in partitions:
            self.places[partition] = Place(starts.get(partition))
        self._changed.give()

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            self.places.pop(partition, None)

    def seek(self, offsets: Offsets) -> None:
        for partition, offset in offsets.items():
            place = self._held(partition)
            place.position = None
            place.go_to(offset)
        self._changed.give()

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            place = self._held(partition)
            if not place.paused:
                place.paused = True
                # What lies here is asked for again afterwards.
                place.go_to(self._next_of(partition, place))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        for partition in partitions:
            self._held(partition).paused = False
        self._changed.give()

    def take(self, most: int) -> list[Message]:
        """Up to `most` messages that are still ours."""
        taken: list[Message] = []
        while self.queue and len(taken) < most:
            partition, turn, item = self.queue.popleft()
            place = self.places.get(partition)
            if place is None or place.turn != turn:
                continue
            if isinstance(item, int):
                place.position = item
            else:
                place.waiting -= 1
                place.position = item.offset() + 1
                taken.append(item)
        self._changed.give()
        return taken

    def lag(self) -> dict[TopicPartition, int]:
        behind: dict[TopicPartition, int] = {}
        for partition, place in self.places.items():
            if place.end is not None:
                behind[partition] = max(0, place.end - (self._next_of(partition, place) or 0))
        return behind

    def close(self) -> None:
        self._task.cancel()
        self._connection.close()

    def _held(self, partition: TopicPartition) -> Place:
        place = self.places.get(partition)
        if place is None:
            raise failure_of(3, f"reading {partition[0]}[{partition[1]}], which is not assigned to this consumer")
        return place

    def _next_of(self, partition: TopicPartition, place: Place) -> int | None:
        """Where the application is: behind what lies here."""
        if place.position is not None:
            return place.position
        first = next((item for key, turn, item in self.queue if key == partition and turn == place.turn), None)
        return place.start if first is None else first if isinstance(first, int) else first.offset()

    def _read(self) -> Steps[None]:
        while True:
            changed = self._changed.next()
            try:
                yield from self._find_starts()
                asked = {
                    partition: (place.turn, place.start)
                    for partition, place in self.places.items()
                    if not place.paused and place.start is not None and place.start >= 0
                    if place.waiting < MOST_WAITING
                }
                if not asked:
                    yield changed
                    continue
                starts = {partition: start for partition, (_, start) in asked.items()}
                found = yield from self._client.fetch(starts, self._isolation, LONGEST_WAIT_MS, self._connection)
            except (HungUp, TopicMissing):
                yield AGAIN
                continue
            wrong = [self._arrived(partition, asked[partition][0], entry) for partition, entry in found.items()]
            if any(wrong):
                yield AGAIN

    def _find_starts(self) -> Steps[None]:
        """Turn `what is committed`, the beginning and the end into offsets."""
        unknown = {key: place.turn for key, place in self.places.items() if place.start is None}
        if unknown:
            doing = f"asking what group {self._group!r} has committed"
            found = yield from self._client.committed_offsets(self._group, list(unknown), doing)
            for key, (offset, _) in found.items():
                if (place := self.places.get(key)) is not None and place.turn == unknown[key]:
                    place.start = BEGINNING if offset < 0 else offset
        relative = {
            key: (place.turn, place.start)
            for key, place in self.places.items()
            if place.start is not None and place.start < 0
        }
        if relative:
            wanted = {key: start for key, (_, start) in relative.items()}
            offsets = yield from self._client.offsets_now(wanted, self._isolation, "looking where to read")
            for key, offset in offsets.items():
                if (place := self.places.get(key)) is not None and place.turn == relative[key][0]:
                    place.start = offset

    def _arrived(self, partition: TopicPartition, turn: int, entry: Any) -> int:
        """Keep what came for a partition; the error code that came instead."""
        place = self.places.get(partition)
        if place is None or place.turn != turn or place.start is None:
            return 0
        if entry.error_code:
            if entry.error_code == OFFSET_OUT_OF_RANGE:
                place.go_to(BEGINNING)
            return int(entry.error_code)
        aborted = [(each.producer_id, each.first_offset) for each in entry.aborted_transactions or ()]
        messages, following = read_batches(*partition, bytes(entry.records or b""), place.start, aborted)
        place.start = following
        end: int = entry.last_stable_offset if self._isolation == "read_committed" else entry.high_watermark
        place.end = end
        place.waiting += len(messages)
        self.queue.extend((partition, turn, message) for message in messages)
        if following >= end and place.told_end != following:
            place.told_end = following
            self.queue.append((partition, turn, following))
        return 0
