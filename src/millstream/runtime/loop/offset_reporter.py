"""Positions that are stored outside Kafka, committed to the consumer group as offsets."""

import time

from millstream.errors import Fenced, KafkaFault
from millstream.kafka.port import Consumer, Offsets, TopicPartition
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.telemetry import get_logger
from millstream.timeouts import OFFSET_REPORT_TIMEOUT

log = get_logger(__name__)

EVERY = 1.0
"""Seconds between two reports under load."""
AGAIN = 10.0
"""Seconds after which all offsets are committed again: a commit that arrived late may have set one back."""


class OffsetReporter:
    """Commits a worker's positions to its group.

    - `ids`: of the topics that the positions are of.

    Where positions are in a database, this is for tools that show lag; with delivery at least once, events after the
    reported offset are handled again.
    """

    def __init__(self, worker: str, ids: TopicIds) -> None:
        self._worker = worker
        self._ids = ids
        self._reported: dict[TopicPartition, int] = {}
        self._due_at = 0.0
        self._again_at = 0.0

    @property
    def due(self) -> bool:
        """Return whether the next report is due, although there is work to do."""
        return time.monotonic() > self._due_at

    def report(self, consumer: Consumer, positions: Offsets) -> None:
        """Commit the positions that the group does not know.

        Failures are logged and tried again; raises only `Fenced`.
        """
        if (now := time.monotonic()) > self._again_at:
            self._reported.clear()
            self._again_at = now + AGAIN
        unreported = {partition: at for partition, at in positions.items() if self._reported.get(partition) != at}
        notes = {at: self._ids.note(at[0], offset) for at, offset in unreported.items()}
        try:
            consumer.commit(unreported, notes, timeout=OFFSET_REPORT_TIMEOUT)
        except Fenced:
            raise
        except KafkaFault as fault:
            log.warning(
                "the group does not know the positions yet",
                code="positions_not_committed",
                worker=self._worker,
                error=str(fault),
            )
        else:
            self._reported.update(unreported)
        self._due_at = time.monotonic() + EVERY

    def forget(self, partition: TopicPartition) -> None:
        """Forget a partition that this worker has lost."""
        self._reported.pop(partition, None)
