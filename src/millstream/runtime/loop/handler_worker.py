"""The base of the workers of all three kinds of handlers, and of those that have a task for each partition."""

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from millstream.contracts.catalogue import Contracts
from millstream.declare import Kind, Service
from millstream.kafka.limits import RecordLimits
from millstream.kafka.port import Kafka, Message, TopicPartition
from millstream.runtime.loop.assigned import AssignedPartitions
from millstream.runtime.loop.consumer_loop import ConsumerLoop, Processor
from millstream.runtime.process_pauses import ProcessPauses
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import InboundReader
from millstream.runtime.records.outbound import Outbound
from millstream.runtime.task.failures import FailureHandler
from millstream.runtime.task.partition_task import PartitionTask
from millstream.runtime.task.pausing import PartitionPauses, parked_in
from millstream.runtime.task.timers import timer_decoder
from millstream.settings import Settings
from millstream.telemetry import Health

T = TypeVar("T", bound=PartitionTask)


class HandlerWorker(Processor):
    """The worker of one kind of a service's handlers.

    - `contracts`: encodes what is produced and stored, decodes what is consumed.
    - `state_topics`, `max_records`, `timed`: as in `ConsumerLoop`.
    """

    def __init__(
        self,
        kind: Kind,
        service: Service,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        *,
        state_topics: Iterable[str] = (),
        max_records: int,
        timed: bool = True,
        health: Health | None = None,
    ) -> None:
        self.name = f"{service.name}.{kind.value}"
        self._kind = kind
        self._service = service
        self._settings = settings
        self._kafka = kafka
        self._group = service.group(kind)
        self._topics = [topic.name for topic in service.consumed(kind)]
        self._redrives = service.redrive_topic(kind)
        self._loop = ConsumerLoop(
            self,
            kafka,
            settings,
            name=self.name,
            service=service.name,
            group=self._group,
            topics=[*self._topics, self._redrives],
            state_topics=state_topics,
            max_records=max_records,
            timed=timed,
            health=health,
        )
        self._consumer, self._metrics = self._loop.consumer, self._loop.metrics
        self._reader = InboundReader(service, kind, contracts)
        self._outbound = Outbound(service, contracts, settings.record_bytes)
        self._limits = RecordLimits(kafka, settings.message_bytes)
        self._assigned_partitions = AssignedPartitions(service, kind)
        self._partition_pauses = PartitionPauses(self._consumer, self._topics, service.max_parked)
        self._pauses = ProcessPauses()

    def _ask_limits(self, topics: Sequence[str]) -> None:
        """Know what these topics take now. Called while no transaction is open."""
        self._limits.ask(topics)
        self._keep_to_limits()

    def _keep_to_limits(self) -> None:
        """Produce nothing that its topic does not take."""
        self._outbound.keep_to(self._limits)


class TaskWorker(HandlerWorker, Generic[T]):
    """A worker that calls handlers on its own thread, one event after the other, in a task for each partition.

    - `spare`: as in `FailureHandler`.
    """

    def __init__(
        self,
        kind: Kind,
        service: Service,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        *,
        state_topics: Iterable[str] = (),
        max_records: int,
        spare: Callable[[BaseException], bool] = lambda error: False,
        health: Health | None = None,
    ) -> None:
        super().__init__(
            kind, service, settings, contracts, kafka, state_topics=state_topics, max_records=max_records, health=health
        )
        self._reader.decode[service.timers_topic(kind)] = timer_decoder(service.timers(kind))
        self._tasks: dict[int, T] = {}
        self._failures = FailureHandler(
            service,
            kind,
            self.name,
            self._reader,
            self._metrics,
            self._commit,
            spare,
            outage=self._loop.outage,
            limits=self._limits,
            limits_changed=self._limits_changed,
            pauses=self._pauses,
        )

    def run(self, stop: threading.Event) -> None:
        """Handle events until `stop` is set. Raises what the class says."""
        with self._pauses.beating(self.name):
            self._loop.run(stop)

    @abstractmethod
    def _commit(self) -> None:
        """Commit everything up to the last finished event."""

    def _deal_with(self, message: Message, task: T, failed: BaseException | None = None) -> list[Record]:
        """Return the records of an event that takes more than one simple call."""
        if message.topic() == self._redrives:
            return self._failures.redrive(message, task, lambda redrive: redrive.partition() == task.partition)
        return self._failures.first(message, task, failed=failed)

    def _limits_changed(self) -> bool:
        """Return whether topics take other records than before; asked in the middle of a transaction."""
        changed = self._limits.changed()
        if changed:
            self._keep_to_limits()
        return changed

    def _hold_back(self) -> None:
        """Pause partitions with too many parked events, and report what is parked."""
        self._partition_pauses.hold_back(parked_in(self._tasks))
        self._partition_pauses.report(self._metrics, self._kind, self._tasks)

    def _leave(self, partitions: list[TopicPartition]) -> set[int]:
        """Forget the tasks of partitions that go. Return their numbers."""
        gone = self._loop.numbers_left(partitions)
        self._partition_pauses.forget(partitions)
        for number in gone:
            self._tasks.pop(number, None)
        return gone
