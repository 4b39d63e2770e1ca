"""From a record to an event on its way: one that came, one that was parked, one that a person hands in again."""

import threading
import time
from collections.abc import Mapping

from millstream.errors import DecodeError, RegistryUnavailable
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.calling import Stopping
from millstream.runtime.effect_lanes import Partition, Work
from millstream.runtime.inbound import Inbox
from millstream.runtime.parking import ParkedEvent
from millstream.runtime.redrive import Action, read_redrive
from millstream.runtime.tally import Tally
from millstream.telemetry import get_logger

log = get_logger(__name__)

PATIENCE = 60.0
"""Seconds that the registry may be silent before the worker gives up, and its process starts anew."""


class Reader:
    """Decodes events. Used by the thread that polls.

    - `redrives`: the topic of redrives.
    - `partitions`: those that are ours.
    """

    def __init__(
        self, inbox: Inbox, redrives: str, partitions: Mapping[TopicPartition, Partition], tally: Tally
    ) -> None:
        self._inbox = inbox
        self._redrives = redrives
        self._partitions = partitions
        self._tally = tally

    def read(self, message: Message, stop: threading.Event) -> Work:
        """What came. Raises `RegistryUnavailable` where the registry is silent for a minute, and `Stopping`."""
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
        work.attempts, work.first_failed_at = event.attempts, event.first_failed_at
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
        deadline, pause = time.monotonic() + PATIENCE, 0.05
        while True:
            try:
                work.handler, work.event, work.meta = self._inbox.read(work.message)
            except DecodeError as error:
                work.unreadable = error
            except RegistryUnavailable as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the registry does not answer", topic=work.message.topic(), error=str(error))
                if stop.wait(pause):
                    raise Stopping from None
                pause = min(2.0, 2 * pause)
                continue
            return
