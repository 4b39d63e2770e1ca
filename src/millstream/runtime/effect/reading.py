"""From a record to an event in flight: a new one, a parked one, or a redrive."""

from collections.abc import Mapping

from millstream.errors import DecodeError
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.effect.in_flight import InFlight, Partition
from millstream.runtime.outage import Outage
from millstream.runtime.records.inbound import InboundReader
from millstream.runtime.records.redrive import Action, read_redrive
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.parked import ParkedEvent


class InFlightReader:
    """Decodes events. Used by the thread that polls.

    - `redrives`: the redrive topic.
    - `partitions`: those of this worker.
    - `outage`: how it waits for the registry.
    """

    def __init__(
        self,
        reader: InboundReader,
        redrives: str,
        partitions: Mapping[TopicPartition, Partition],
        metrics: WorkerMetrics,
        outage: Outage,
    ) -> None:
        self._reader = reader
        self._redrives = redrives
        self._partitions = partitions
        self._metrics = metrics
        self._outage = outage

    def read(self, message: Message) -> InFlight:
        """Read a record that was polled.

        Raises `RegistryUnavailable` where the registry stays silent, and `Stopping`.
        """
        partition = self._partitions[message.topic(), message.partition()]
        partition.received += 1
        if message.topic() == self._redrives:
            return self._redriven(partition, message)
        item = InFlight(partition, partition, message.offset(), message)
        self._outage.wait_out(lambda: self._decode(item))
        return item

    def parked(self, event: ParkedEvent) -> InFlight:
        """Read an event that a predecessor has parked.

        Raises `RegistryUnavailable` at once: the caller waits it out, for all of them together.
        """
        partition = self._partitions[event.at[:2]]
        item = InFlight(partition, partition, event.offset(), event, redrives=event.redrives, parked=True)
        item.attempts, item.first_failed_at, item.slept = event.attempts, event.first_failed_at, event.slept
        item.due_at = None if event.held else event.due_at or 0.0
        self._decode(item)
        return item

    def _redriven(self, partition: Partition, message: Message) -> InFlight:
        try:
            redrive = read_redrive(message)
            home = self._partitions[redrive.at[:2]]
        except (DecodeError, KeyError) as error:
            self._metrics.no_redrive(message, str(error))
            return InFlight(partition, partition, message.offset(), message)
        item = InFlight(partition, home, message.offset(), redrive, redrive.action, redrive.count)
        if redrive.action is Action.HANDLE:
            self._outage.wait_out(lambda: self._decode(item))
        return item

    def _decode(self, item: InFlight) -> None:
        try:
            read = self._reader.read(item.message)
        except DecodeError as error:
            item.unreadable = error
        else:
            if read is not None:
                item.handler, item.event, item.meta = read
