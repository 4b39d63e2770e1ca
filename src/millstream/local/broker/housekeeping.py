"""What goes on by itself: records expire, compacted topics are compacted, idle producers are forgotten."""

import logging
from collections.abc import Callable

from millstream.local.broker.errors import DataError
from millstream.local.broker.log.batch import BadBatch
from millstream.local.broker.log.compaction import Plan, Steps
from millstream.local.broker.log.files import Files
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Timers
from millstream.local.broker.topics import Topic, Topics

log = logging.getLogger(__name__)

INTERVAL_MS = 5_000
STEP_PAUSE_MS = 10
"""Between two steps of a compaction, each of some 10 ms, the broker answers its clients."""
PRODUCER_EXPIRY_MS = 24 * 60 * 60 * 1000


class Housekeeping:
    """Does its rounds by timer once `start` was called; `run` and `compact` do the same on demand, at once.

        housekeeping.run()  # what has expired by the broker's clock is gone
        housekeeping.compact("accounts")  # of every key only the last record is left

    `checkpoint` is called before a log is changed in a way that only an up-to-date checkpoint fits.
    """

    def __init__(self, files: Files, topics: Topics, timers: Timers, checkpoint: Callable[[], None]) -> None:
        self._files = files
        self._topics = topics
        self._timers = timers
        self._checkpoint = checkpoint
        self._compacting: Steps | None = None

    def start(self) -> None:
        self._timers.after(INTERVAL_MS, self._round)

    def run(self) -> None:
        """Remove what retention says is too old or too much, as Kafka does: by whole segments, the newest one too when
        all of it has expired. A disk that refuses is said in the log, and tried again at the next time."""
        now = self._timers.clock()
        changed = False
        for topic, partition in tuple(self._topics.partitions()):
            retention = topic.retention
            try:
                if retention is not None and partition.log.retain(now, retention, keep_from=partition.stable_offset):
                    changed = True
                    partition.tell_readers()
                if changed and partition.aborted:
                    start = partition.log.start_offset
                    partition.aborted.keep(lambda entry, start=start: entry.marker_offset >= start)
            except OSError as error:
                log.warning(
                    "cannot remove what expired in %s: %s",
                    partition.log.folder,
                    error.strerror,
                    extra={"code": "expired_segments_not_removed"},
                )
            partition.producers.forget_idle(now - PRODUCER_EXPIRY_MS)
        if changed:
            self._try_checkpoint()

    def compact(self, topic: str) -> None:
        """Compact all of the topic now, to the end: also its newest segment, also when there is little to gain, and
        whatever its cleanup.policy.

        What reaches an open transaction, or is younger than `min.compaction.lag.ms`, stays as it is. Tombstones stay
        for `delete.retention.ms` after the first time, so two calls remove them when it is 0. Raises Refused when
        there is no such topic, DataError when a log is damaged, OSError when the disk refuses.
        """
        found = self._topics.get(topic)
        self._stop()
        for partition in found.partitions:
            if partition.log.segments[-1].size:
                partition.log.roll()
        self._checkpoint()
        for partition in found.partitions:
            while True:
                plan = self._plan(found, partition)
                plan.choose(partition.stable_offset)
                before = partition.log.compacted_to
                try:
                    for _ in plan.run():
                        pass
                except BadBatch as bad:
                    raise DataError(f"{partition.log.folder} is damaged: {bad}") from bad
                if not plan.dirty or partition.log.compacted_to == before:
                    break
                if partition.log.compacted_to >= partition.log.segments[-1].base_offset:
                    break
        self._checkpoint()

    def _round(self) -> None:
        self._timers.after(INTERVAL_MS, self._round)
        self.run()
        if self._compacting is None and any(topic.compaction for topic in self._topics.by_name.values()):
            self._compacting = self._compact_all()
            self._step()

    def _step(self) -> None:
        if self._compacting is not None:
            try:
                next(self._compacting)
            except StopIteration:  # it is done
                self._compacting = None
            else:
                self._timers.after(STEP_PAUSE_MS, self._step)

    def _stop(self) -> None:
        if self._compacting is not None:
            self._compacting.close()
            self._compacting = None

    def _compact_all(self) -> Steps:
        for topic, partition in tuple(self._topics.partitions()):
            if topic.compaction is None or self._topics.by_name.get(topic.name) is not topic:
                continue
            plan = self._plan(topic, partition)
            if not plan.choose(partition.stable_offset):
                continue
            where = partition.log.folder
            try:
                self._checkpoint()
                for _ in plan.run():
                    yield
                    if self._topics.by_name.get(topic.name) is not topic:
                        break
            except BadBatch as bad:
                log.error("%s is damaged and cannot be compacted: %s", where, bad, extra={"code": "log_damaged"})
            except FileNotFoundError:
                log.info(
                    "what was to be compacted in %s has expired meanwhile", where, extra={"code": "compaction_obsolete"}
                )
            except OSError as error:
                log.warning("cannot compact %s: %s", where, error.strerror, extra={"code": "compaction_failed"})
            yield

    def _plan(self, topic: Topic, partition: Partition) -> Plan:
        rules = topic.compaction or topic.compaction_rules
        now = self._timers.clock()
        return Plan(self._files, partition.log, partition.aborted, partition.producers, rules, now)

    def _try_checkpoint(self) -> None:
        try:
            self._checkpoint()
        except OSError as error:
            log.warning("cannot write the checkpoint: %s", error.strerror, extra={"code": "checkpoint_not_written"})
