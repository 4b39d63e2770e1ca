"""Positions that are kept elsewhere, told to the consumer group as offsets."""

import time

from millstream.errors import Fenced, KafkaFault
from millstream.kafka.port import Consumer, Offsets, TopicPartition
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.telemetry import get_logger

log = get_logger(__name__)

EVERY = 1.0
"""Seconds between two times under load."""
AGAIN = 10.0
"""Seconds after which the group is told what it knows: a commit that arrived late may have set it back meanwhile."""
TIMEOUT = 2.0


class OffsetReporter:
    """What a group has heard of a worker's positions.

    - `ids`: of the topics that the positions are of.

    Where positions live in a database, this is for tools that show lag; at least once, what is not told is done again.
    """

    def __init__(self, worker: str, ids: TopicIds) -> None:
        self._worker = worker
        self._ids = ids
        self._reported: dict[TopicPartition, int] = {}
        self._due_at = 0.0
        self._again_at = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time again, although there is work to do."""
        return time.monotonic() > self._due_at

    def report(self, consumer: Consumer, positions: Offsets) -> None:
        """Commits what the group has not heard. Trouble is logged, and it is told again; raises `Fenced` alone."""
        if (now := time.monotonic()) > self._again_at:
            self._reported.clear()
            self._again_at = now + AGAIN
        unreported = {partition: at for partition, at in positions.items() if self._reported.get(partition) != at}
        notes = {at: self._ids.note(at[0], offset) for at, offset in unreported.items()}
        try:
            consumer.commit(unreported, notes, timeout=TIMEOUT)
        except Fenced:
            raise
        except KafkaFault as fault:
            log.warning("the group does not know the positions yet", worker=self._worker, error=str(fault))
        else:
            self._reported.update(unreported)
        self._due_at = time.monotonic() + EVERY

    def forget(self, partition: TopicPartition) -> None:
        """It is somebody else's now."""
        self._reported.pop(partition, None)
