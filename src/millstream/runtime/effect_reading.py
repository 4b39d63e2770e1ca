"""From a record to an event on its way: one that came, one that was parked, one that a person hands in again."""

import threading
from collections.abc import Mapping

from millstream.errors import DecodeError
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.effect_lanes import Partition, Work
from millstream.runtime.inbound import Inbox
from millstream.runtime.outage import Outage
from millstream.runtime.parking import ParkedEvent
from millstream.runtime.redrive import Action, read_redrive
from millstream.runtime.tally import Tally


class Reader:
    """Decodes events. Used by the thread that polls.

    - `redrives`: the topic of redrives.
    - `partitions`: those that are ours.
    - `outage`: how it waits for the registry.
    """

    def __init__(
        self,
        inbox: Inbox,
        redrives: str,
        partitions: Mapping[TopicPartition, Partition],
        tally: Tally,
        outage: Outage,
    ) -> None:
        self._inbox = inbox
        self._redrives = redrives
        self._partitions = partitions
        self._tally = tally
        self._outage = outage

    def read(self, message: Message, stop: threading.Event) -> Work:
        """What came. Raises `RegistryUnavailable` where the registry stays silent, and `Stopping`."""
        partition = self._partitions[message.topic(), message.partition()]
        partition.received += 1
        if message.topic() == self._redrives:
            return self._redriven(partition, message, stop)
        work = Work(partition, partition, message.offset(), message)
        self._decode(work, stop)
        return work

    def parked(self, event: ParkedEvent, stop: threading.Event) -> Work:
        """What was parked by a predecessor. Raises as `read` does."""
        partition = self._partitions[event.at[:2]]
        work = Work(partition, partition, event.offset(), event, redrives=event.redrives, parked=True)
        work.attempts, work.first_failed_at, work.slept = event.attempts, event.first_failed_at, event.slept
        work.due_at = None if event.held else event.due_at or 0.0
        self._decode(work, stop)
        return work

    def _redriven(self, partition: Partition, message: Message, stop: threading.Event) -> Work:
        try:
            redrive = read_redrive(message)
            home = self._partitions[redrive.at[:2]]
        except (DecodeError, KeyError) as error:
            self._tally.no_redrive(message, str(error))
            return Work(partition, partition, message.offset(), message)
        work = Work(partition, home, message.offset(), redrive, redrive.action, redrive.count)
        if redrive.action is Action.HANDLE:
            self._decode(work, stop)
        return work

    def _decode(self, work: Work, stop: threading.Event) -> None:
        try:
            read = self._outage.wait_out(lambda: self._inbox.read(work.message), stop)
        except DecodeError as error:
            work.unreadable = error
        else:
            if read is not None:
                work.handler, work.event, work.meta = read
