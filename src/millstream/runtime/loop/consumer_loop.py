"""The loop of every worker that consumes: how it joins its group, polls, waits out silence, and leaves.

What becomes of records, and where positions are kept, differs between the kinds of workers: that is their `Processor`.
The handlers of all three kinds and the sinks of views run in this one loop, so a silent registry, silent brokers, a
rebalance and the order to stop have one outcome in all of them.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from millstream.errors import Unavailable
from millstream.kafka.port import HOLD, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.loop.liveness import Liveness
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.runtime.outage import Outage
from millstream.runtime.task.failures import Stop
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.worker import Stopping
from millstream.settings import Settings
from millstream.telemetry import Health, get_logger

log = get_logger(__name__)

T = TypeVar("T")


class Processor(ABC):
    """The work of one kind of worker on its partitions and their records. Called on the loop's thread alone."""

    def open(self) -> None:  # noqa: B027 - not every worker has it
        """Get ready, before the group is joined."""

    @abstractmethod
    def assign(self, partitions: list[TopicPartition]) -> Offsets:
        """Restore what these partitions need, and return where each of them is to be read from.

        Those that are left out are held back. Called again after `Unavailable` or `RegistryUnavailable`, until it
        succeeds or the bound of an outage is reached.
        """

    @abstractmethod
    def revoke(self, partitions: list[TopicPartition]) -> None:
        """Commit what is done of these partitions and leave them: their next member waits until this returns."""

    @abstractmethod
    def lose(self, partitions: list[TopicPartition]) -> None:
        """Leave these partitions: another member has them already, and nothing of them can be committed."""

    @abstractmethod
    def before_poll(self) -> float:
        """Do what is due without any record. Return how many seconds the poll may wait for one."""

    @abstractmethod
    def process(self, batch: list[Message]) -> None:
        """Deal with the records of one poll, in their order; of none, too."""

    def meanwhile(self) -> None:  # noqa: B027 - not every worker has it
        """Do what cannot wait, between two tries of an outage."""

    def finish(self) -> None:  # noqa: B027 - not every worker has it
        """End what is under way, while partitions are still held: the worker was told to stop."""

    def fail(self, error: BaseException) -> None:  # noqa: B027 - not every worker has it
        """Commit nothing more of what is half done: the worker ends with this error."""

    @abstractmethod
    def close(self) -> None:
        """Close what `open` opened. The consumer is closed by now."""


class ConsumerLoop:
    """The consumer of one worker, and what its processor needs beside it.

    - `name`: of the worker, in logs, metrics and health.
    - `topics`: what is consumed. The first one is asked for when it is unclear whether brokers answer.
    - `state_topics`: what holds state of the worker in Kafka.
    - `max_records`: of one poll.
    - `co_partitioned`: whether partitions of one number go to one member.
    - `timed`: as in `WorkerMetrics`.
    """

    def __init__(
        self,
        processor: Processor,
        kafka: Kafka,
        settings: Settings,
        *,
        name: str,
        service: str,
        group: str,
        topics: Sequence[str],
        state_topics: Iterable[str] = (),
        max_records: int,
        co_partitioned: bool = True,
        timed: bool = True,
        health: Health | None = None,
    ) -> None:
        self._processor = processor
        self._name = name
        self._topics = topics
        self._max_records = max_records
        self._liveness = Liveness(health, name)
        self._not_assigned: BaseException | None = None
        self.metrics = WorkerMetrics(service, group, timed=timed)
        self.outage = Outage(name, settings, health, self._between_tries)
        self.ids = TopicIds(kafka, group, topics, state_topics)
        self.instance = f"{group}-{settings.slot}"
        self.consumer = kafka.consumer(
            group, instance=self.instance, co_partitioned=co_partitioned, on_error=self.outage.heard
        )

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set. Raises whatever the processor raises, and `Fenced`."""
        self.outage.stop = stop
        try:
            self._processor.open()
            self.consumer.subscribe(
                self._topics,
                on_assigned=self._assigned,
                on_revoked=self._processor.revoke,
                on_lost=self._processor.lose,
            )
            while not stop.is_set():
                self._turn()
            self._processor.finish()
        except Stopping:  # told to stop while it waited
            pass
        except Stop as stopped:
            self._processor.fail(stopped.error)
            raise stopped.error from None
        except BaseException as error:
            self._processor.fail(error)
            raise
        finally:
            self.consumer.close()
            self._processor.close()

    @property
    def stop(self) -> threading.Event:
        """Set when the worker is to stop."""
        return self.outage.stop

    def wait_out(self, step: Callable[[], T], before_wait: Callable[[], object] = lambda: None) -> T:
        """Return what `step` returns, once brokers and registry answer; see `Outage.wait_out`."""
        return self.outage.wait_out(step, before_wait)

    def check_order(self, batch: Iterable[Message], position: Callable[[TopicPartition], int]) -> None:
        """Raise `TopicReplaced` where offsets of a batch are past: they are of a topic that was made again.

        - `position`: the next offset of a partition, as far as it is known.
        """
        if any(message.offset() < position((message.topic(), message.partition())) for message in batch):
            self.wait_out(self.ids.check)

    def numbers_left(self, partitions: Iterable[TopicPartition]) -> set[int]:
        """Return the partition numbers that this worker has no more once these partitions are gone.

        A number is held through any of the topics, and under one assignor all of them move together.
        """
        taken = set(partitions)
        staying = {number for _, number in set(self.consumer.assignment()) - taken}
        return {number for _, number in taken} - staying

    def _turn(self) -> None:
        self.metrics.lag(self.consumer)
        self.outage.probe(self.consumer, self._topics[0])
        seconds = self._processor.before_poll()
        self._processor.process(self._poll(seconds))

    def _poll(self, seconds: float) -> list[Message]:
        try:
            return self.consumer.poll_batch(self._max_records, seconds)
        except Unavailable as error:
            if error is self._not_assigned:
                raise
            # Whether brokers answer, the probe of the next turn finds out.
            log.warning("a poll failed", code="poll_failed", worker=self._name, error=str(error))
            self.outage.heard(error)
            return []

    def _between_tries(self) -> None:
        self.metrics.lag(self.consumer)
        self._processor.meanwhile()

    def _assigned(self, partitions: list[TopicPartition]) -> Offsets:
        try:
            starts = self.wait_out(lambda: self._processor.assign(partitions))
        except BaseException as error:
            # A poll that ends with it must not be tried again: records would come for partitions that no task has.
            self._not_assigned = error
            raise
        self._liveness.assigned()
        return {**dict.fromkeys(partitions, HOLD), **starts}
