"""The limit of parked events of one partition: its topics pause when it is reached."""

import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from millstream.declare import Kind
from millstream.kafka.port import Consumer, TopicPartition
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.partition_task import PartitionTask
from millstream.telemetry import get_logger

log = get_logger(__name__)

_REPORT_EVERY = 1.0


class Parked(NamedTuple):
    """How much of one partition is parked."""

    events: int
    keys: int


class PartitionPauses:
    """Pauses partitions with too many parked events, and resumes them. Used by the thread that polls.

    - `topics`: those that pause for parked events; the redrive topic never does.
    - `max_parked`: the limit of events of all partitions with one number.
    """

    def __init__(self, consumer: Consumer, topics: Sequence[str], max_parked: int) -> None:
        self._consumer = consumer
        self._topics = topics
        self._max_parked = max_parked
        self._full: set[int] = set()
        self._busy: AbstractSet[TopicPartition] = frozenset()
        self._reported = False
        self._report_at = 0.0
        self.paused: set[TopicPartition] = set()
        """The partitions that are paused, for whatever reason."""

    @property
    def full(self) -> int:
        """The number of partitions that are paused for parked events; those of all topics with one number are one."""
        return len(self._full)

    def hold_back(self, parked: Mapping[int, Parked], busy: AbstractSet[TopicPartition] = frozenset()) -> None:
        """Pause and resume partitions.

        - `parked`: by partition number, where anything is.
        - `busy`: partitions that are to pause for another reason.
        """
        full = {number for number, (events, _) in parked.items() if events >= self._max_parked}
        if full == self._full and busy == self._busy:
            return
        for number in sorted(full - self._full):
            log.warning(
                "too much is parked: the partition waits until handlers succeed again, or until its keys are redriven "
                "or discarded (millstream dlq)",
                code="too_much_parked",
                topics=list(self._topics),
                partition=number,
                events=parked[number].events,
                keys=parked[number].keys,
                limit=self._max_parked,
            )
        self._full, self._busy = full, busy
        mine = self._consumer.assignment()
        wanted = {at for at in mine if at in busy or (at[0] in self._topics and at[1] in full)}
        if pause := sorted(wanted - self.paused):
            self._consumer.pause(pause)
        if resume := sorted(self.paused - wanted):
            self._consumer.resume(resume)
        self.paused = wanted

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that this worker has lost: they are not paused when they are assigned again."""
        self.paused.difference_update(partitions)
        self._full.difference_update(number for _, number in partitions)

    def report(self, metrics: WorkerMetrics, kind: Kind, tasks: Mapping[int, PartitionTask]) -> None:
        """Report what is parked, if anything is or was."""
        now = time.monotonic()
        if now < self._report_at:
            return
        self._report_at = now + _REPORT_EVERY
        parked = [task.queues for task in tasks.values() if task.parked]
        if not parked and not self._reported:
            return
        self._reported = bool(parked)
        held = sum(queues.held for queues in parked)
        keys = sum(queues.keys for queues in parked)
        metrics.parked(kind.value, sum(map(len, parked)), retrying=keys - held, held=held, paused=len(self._full))


def parked_in(tasks: Mapping[int, PartitionTask]) -> dict[int, Parked]:
    """Count what is parked of each partition, where anything is."""
    return {number: Parked(len(task.queues), task.queues.keys) for number, task in tasks.items() if task.parked}
