"""Fetch, with its long poll: a reader that finds nothing waits in its partitions until one of them has grown."""

from collections.abc import Callable
from uuid import UUID

from kio.schema.errors import ErrorCode

from millstream.local.broker.core import Broker
from millstream.local.broker.errors import Refused
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Timer
from millstream.local.broker.wire.fetch import FetchAnswer, FetchRequest, FetchTopic

MAX_WAIT_MS = 5 * 60 * 1000

Place = tuple[Partition | ErrorCode, int, int, int]
"""A partition, or why there is none; its number, the offset to read from, the most bytes to take."""


class PendingFetch:
    """One fetch from its arrival to its answer, written for `version`. `cancel()` it when the client is gone."""

    __slots__ = ("_broker", "_missing", "_places", "_reply", "_request", "_timer", "_version")

    def __init__(self, broker: Broker, version: int, request: FetchRequest, reply: Callable[[bytes], None]) -> None:
        self._broker = broker
        self._version = version
        self._request = request
        self._reply = reply
        self._timer: Timer | None = None
        self._places = [find_places(broker, topic) for topic in request.topics]
        self._missing = max(request.min_bytes, 1)

    def start(self) -> None:
        """Answer now if there is enough, an error, or no wish to wait; else wait for growth or the time."""
        if self._request.max_wait <= 0 or self._is_due():
            self._answer()
            return
        for places in self._places:
            for partition, *_ in places:
                if isinstance(partition, Partition):
                    partition.waiters.add(self)
        self._timer = self._broker.timers.after(min(self._request.max_wait, MAX_WAIT_MS), self._finish)

    def grown(self, partition: Partition, size: int) -> None:
        """A partition we wait in was written to: count it, and answer when there is enough.

        Data that a committed reader may not see yet does not count; what a marker sets free counts as enough.
        """
        if not size:
            self._broker.wake(self._finish)
        elif not self._request.committed or not partition.producers.open:
            self._missing -= size
            if self._missing <= 0:
                self._broker.wake(self._finish)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            for places in self._places:
                for partition, *_ in places:
                    if isinstance(partition, Partition):
                        partition.waiters.discard(self)

    def _finish(self) -> None:
        if self._timer is not None:
            self.cancel()
            self._answer()

    def _is_due(self) -> bool:
        committed = self._request.committed
        for places in self._places:
            for partition, _, offset, _ in places:
                if not isinstance(partition, Partition):
                    return True
                end = partition.stable_offset if committed else partition.log.end_offset
                if offset == end:
                    continue
                if not partition.log.start_offset <= offset <= partition.log.end_offset:
                    return True
                if offset < end:
                    if self._missing > 1:
                        self._missing -= partition.log.size_from(offset)
                    if self._missing <= 1:
                        return True
        return not any(self._places)

    def _answer(self) -> None:
        left = self._request.max_bytes
        committed = self._request.committed
        answer = FetchAnswer(self._version, len(self._places))
        for (topic, _), places in zip(self._request.topics, self._places, strict=True):
            answer.begin_topic(topic, len(places))
            for partition, index, offset, most in places:
                if not isinstance(partition, Partition):
                    answer.partition(index, partition)
                    continue
                log = partition.log
                end, stable = log.end_offset, partition.stable_offset
                if offset == (stable if committed else end) or left <= 0:
                    answer.idle(index, end, stable, log.start_offset, committed=committed)
                else:
                    left -= _read(answer, partition, index, offset, min(most, left), committed)
            answer.end_topic()
        self._reply(answer.finish())


def find_places(broker: Broker, wanted: FetchTopic) -> list[Place]:
    """The partitions of one topic, by its name or its id."""
    if isinstance(wanted.topic, UUID):
        topic, missing = broker.topics.by_id.get(wanted.topic), ErrorCode.unknown_topic_id
    else:
        topic, missing = broker.topics.by_name.get(wanted.topic), ErrorCode.unknown_topic_or_partition
    partitions = topic.partitions if topic is not None else []
    if topic is not None:
        missing = ErrorCode.unknown_topic_or_partition
    places: list[Place] = []
    for index, epoch, offset, _, _, most, _ in wanted.partitions:
        if not 0 <= index < len(partitions):
            places.append((missing, index, offset, most))
        elif epoch > 0:
            places.append((ErrorCode.unknown_leader_epoch, index, offset, most))
        else:
            places.append((partitions[index], index, offset, most))
    return places


def _read(answer: FetchAnswer, partition: Partition, index: int, offset: int, max_bytes: int, committed: bool) -> int:
    """Write what there is to read, or why not; how many bytes that was."""
    log = partition.log
    try:
        records = partition.read(offset, max_bytes, committed=committed)
    except Refused as refused:
        answer.partition(index, refused.code, log.end_offset, partition.stable_offset, log.start_offset)
        return 0
    aborted = partition.aborted_between(offset) if committed else None
    answer.partition(index, ErrorCode.none, log.end_offset, partition.stable_offset, log.start_offset, aborted, records)
    return len(records)
