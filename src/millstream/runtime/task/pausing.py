"""The limit of parked events of one partition: its topics pause when it is reached."""

import time
from collections.abc import Iterable, Mapping, Sequence

from millstream.declare import Kind
from millstream.kafka.port import Consumer
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.partition_task import PartitionTask
from millstream.telemetry import get_logger

log = get_logger(__name__)


_REPORT_EVERY = 1.0


class PartitionPauses:
    """Pauses partitions with too many parked events, and resumes them. The redrive topic is never paused.

    - `kind`: of the handlers.
    - `topics`: those that pause.
    - `max_parked`: the limit of events of one partition.
    """

    def __init__(self, kind: Kind, consumer: Consumer, topics: Sequence[str], max_parked: int) -> None:
        self._kind = kind
        self._consumer = consumer
        self._topics = topics
        self._max_parked = max_parked
        self._full: set[int] = set()
        self._reported = False
        self._report_at = 0.0

    def hold_back(self, tasks: Mapping[int, PartitionTask]) -> None:
        """Pause and resume partitions by what is parked now."""
        full = {number for number, task in tasks.items() if task.parked and len(task.queues) >= self._max_parked}
        if full == self._full:
            return
        for number in full - self._full:
            log.warning(
                "too much is parked: the partition waits until handlers succeed again, or until its keys are redriven "
                "or discarded (millstream dlq)",
                code="too_much_parked",
                topics=list(self._topics),
                partition=number,
                events=len(tasks[number].queues),
                keys=tasks[number].queues.keys,
                limit=self._max_parked,
            )
        if pause := self._partitions(full - self._full):
            self._consumer.pause(pause)
        if resume := self._partitions(self._full - full):
            self._consumer.resume(resume)
        self._full = full

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget partitions that this worker has lost."""
        self._full.difference_update(numbers)

    def report(self, metrics: WorkerMetrics, tasks: Mapping[int, PartitionTask]) -> None:
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
        events = sum(map(len, parked))
        metrics.parked(self._kind.value, events, retrying=keys - held, held=held, paused=len(self._full))

    def _partitions(self, numbers: Iterable[int]) -> list[tuple[str, int]]:
        mine = self._consumer.assignment()
        return [at for at in mine if at[0] in self._topics and at[1] in set(numbers)]
