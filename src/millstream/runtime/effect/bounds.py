"""Limits of the events in hand and of the parked ones: a partition that reaches one is paused."""

from collections import Counter
from collections.abc import Iterable, Mapping

from millstream.kafka.port import Consumer, TopicPartition
from millstream.runtime.effect.in_flight import Partition
from millstream.telemetry import get_logger

log = get_logger(__name__)

MAX_IN_HAND = 500
"""Events of one partition received and not settled; past it the partition is paused. Also keeps its metadata short."""


class Bounds:
    """Pauses partitions, and resumes them. Used by the thread that polls.

    - `redrives`: the redrive topic, which is never paused for parked events.
    - `max_parked`: the limit of parked events of all partitions with one number.
    """

    def __init__(self, consumer: Consumer, redrives: str, max_parked: int) -> None:
        self._consumer = consumer
        self._redrives = redrives
        self._max_parked = max_parked
        self._busy: set[TopicPartition] = set()
        self._full: set[TopicPartition] = set()

    @property
    def busy(self) -> bool:
        """Return whether a partition is paused for events in hand, which may end at any moment."""
        return bool(self._busy)

    @property
    def full(self) -> int:
        """Return how many partitions are paused for parked events; those of all topics with one number count as one."""
        return len({number for _, number in self._full})

    @property
    def paused(self) -> set[TopicPartition]:
        """The paused partitions, for either reason."""
        return self._busy | self._full

    def hold_back(self, partitions: Mapping[TopicPartition, Partition]) -> None:
        """Pause those with much in hand, until half of it is settled, and those with much parked, until it is less."""
        before = self.paused
        self._full = self._too_full(partitions)
        self._busy = {
            at
            for at, held in partitions.items()
            if held.in_hand >= MAX_IN_HAND or (at in self._busy and held.in_hand > MAX_IN_HAND // 2)
        }
        if pause := self.paused - before:
            self._consumer.pause(sorted(pause))
        if resume := before - self.paused:
            self._consumer.resume(sorted(resume))

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that this worker has lost."""
        self._busy.difference_update(partitions)
        self._full.difference_update(partitions)

    def _too_full(self, partitions: Mapping[TopicPartition, Partition]) -> set[TopicPartition]:
        events: Counter[int] = Counter()
        keys: Counter[int] = Counter()
        for (_, number), held in partitions.items():
            events[number] += held.parked
            keys[number] += held.parked_keys
        full = {at for at in partitions if at[0] != self._redrives and events[at[1]] >= self._max_parked}
        for topic, number in sorted(full - self._full):
            log.warning(
                "too much is parked: the partition waits until what its handlers call answers again, or until its keys "
                "are redriven or discarded (millstream dlq)",
                code="too_much_parked",
                topic=topic,
                partition=number,
                events=events[number],
                keys=keys[number],
                limit=self._max_parked,
            )
        return full
