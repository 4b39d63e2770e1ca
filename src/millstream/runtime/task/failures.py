"""Failures of events: another attempt, a parked key, a dead letter, or the end of the worker."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, NoReturn

from millstream.declare import Handler, Kind, OnFailure, Service
from millstream.errors import DecodeError, EncodeError, RegistryUnavailable, Rejected
from millstream.kafka.limits import RecordLimits
from millstream.kafka.port import Message
from millstream.runtime.outage import Outage
from millstream.runtime.process_pauses import PAUSES_FORGIVEN, ProcessPauses
from millstream.runtime.records.dead_letter import Record, dead_letter, reason_of
from millstream.runtime.records.inbound import EventMetadata, InboundReader
from millstream.runtime.records.redrive import Action, Redrive, read_redrive
from millstream.runtime.task.decision import Decision, decide
from millstream.runtime.task.invoke import GaveUp, retry_handler
from millstream.runtime.task.key_queues import queue_of
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.runtime.task.parked import ParkedEvent, park
from millstream.runtime.task.partition_task import PartitionTask
from millstream.runtime.worker import ProcessEnds
from millstream.telemetry import get_logger

log = get_logger(__name__)


_MINIMAL_BYTES = 0
"""The size limit that leaves out of a dead letter everything that can be."""


class Stop(Exception):
    """An event cannot be passed; everything before it is committed. `error` is what the worker raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Tried(NamedTuple):
    """How often an event has failed before, and since when; how often it had been redriven.

    - `slept`: seconds since the first failure in which it could not be tried.
    """

    attempts: int = 0
    first_failed_at: float = 0.0
    redrives: int = 0
    slept: float = 0.0

    @classmethod
    def before(cls, head: ParkedEvent) -> "Tried":
        """Return the attempts of a parked event that is due. What it is late by is no part of its retries: its process
        did not run,
        or had other things to do."""
        late = max(0.0, time.time() - head.due_at) if head.due_at and head.attempts else 0.0
        return cls(head.attempts, head.first_failed_at, head.redrives, head.slept + late)


class Outcome(NamedTuple):
    """The outcome of an event: records, and the parked event, if it waits."""

    records: list[Record]
    parked: ParkedEvent | None = None


class FailureHandler:
    """Handles the events of a worker that are not done at the first call. Used by its thread alone.

    - `commit`: commits what earlier events did; called before every wait.
    - `outage`: how it waits for the registry, and knows of the order to stop.
    - `limits`: how large a dead letter may be; `limits_changed`: asks for the limits of topics again, and says whether
      any has changed.
    - `spare`: whether an error is not the event's fault; it is raised as it is.
    - `pauses`: of the process; a failure with one in its midst is no attempt.
    """

    def __init__(
        self,
        service: Service,
        kind: Kind,
        name: str,
        reader: InboundReader,
        metrics: WorkerMetrics,
        commit: Callable[[], None],
        spare: Callable[[BaseException], bool] = lambda error: False,
        *,
        outage: Outage,
        limits: RecordLimits,
        limits_changed: Callable[[], bool],
        pauses: ProcessPauses,
    ) -> None:
        self.rejected: dict[tuple[str, int, int], EncodeError] = {}
        """Events whose outputs Kafka refuses, by topic, partition and offset."""
        self._service = service.name
        self._group = service.group(kind)
        self._redrives = service.redrive_topic(kind)
        self._name = name
        self._reader = reader
        self._metrics = metrics
        self._commit = commit
        self._spare = spare
        self._outage = outage
        self._limits = limits
        self._limits_changed = limits_changed
        self._pauses = pauses
        self._pauses_before = 0
        """The count of pauses when the calls began that may have failed since."""
        self._minimal: set[tuple[str, int, int]] = set()
        """Events whose whole dead letter Kafka refuses, too."""

    def calls_begin(self) -> None:
        """Note that the worker calls handlers itself from now on: earlier pauses do not explain their failures."""
        self._pauses_before = self._pauses.count

    def first(
        self, message: Message, task: PartitionTask, *, failed: BaseException | None = None, redrives: int = 0
    ) -> list[Record]:
        """Handle an event, or park it behind its parked key; return its records. Raises `Stop` and `Stopping`.

        - `failed`: what its first call raised, where that was made already.
        """
        behind = task.queues.by_key and message.key() is not None and queue_of(message) in task.queues
        if behind and _at(message) not in self.rejected:
            return self._park(Outcome([], park(message, redrives=redrives)), message, task, Tried(redrives=redrives))
        tried = Tried(redrives=redrives)
        outcome = self._process(message, task, tried, failed)
        if outcome.parked is not None:
            return self._park(outcome, message, task, tried)
        return outcome.records

    def _park(self, outcome: Outcome, message: Message, task: PartitionTask, tried: Tried) -> list[Record]:
        assert outcome.parked is not None
        try:
            task.queues.add(outcome.parked)
        except EncodeError as error:
            # An event that cannot be stored cannot wait. Its key goes on without it.
            return self._dead_letter(message, self._handler(message), error, tried).records
        return outcome.records

    def do(self, message: ParkedEvent | Message, task: PartitionTask) -> list[Record]:
        """Handle what was due; return its records. Raises as `first` does."""
        return self.retry(message, task) if isinstance(message, ParkedEvent) else self.first(message, task)

    def retry(self, head: ParkedEvent, task: PartitionTask) -> list[Record]:
        """Handle a parked event that is due; return its records. Raises as `first` does."""
        tried = Tried.before(head)
        outcome = self._process(head, task, tried, None)
        if outcome.parked is not None:
            try:
                task.queues.retry(outcome.parked)
            except EncodeError as error:
                outcome = self._dead_letter(head, self._handler(head), error, tried)
            else:
                return outcome.records
        task.queues.leave(head)
        return outcome.records

    def redrive(self, message: Message, task: PartitionTask, ours: Callable[[Redrive], bool]) -> list[Record]:
        """Handle a record of the redrive topic; return its records. Raises as `first` does.

        - `ours`: whether this worker has the partition that the event was first read from.
        """
        try:
            redrive = read_redrive(message)
        except DecodeError as error:
            self._metrics.no_redrive(message, str(error))
            return []
        if redrive.topic() not in self._reader.decode or not ours(redrive):
            self._metrics.no_redrive(message, f"{redrive.topic()}[{redrive.partition()}] is not read here")
            return []
        if (refused := self.rejected.get(_at(message))) is not None:
            self.rejected[redrive.at] = refused
        if (parked := task.queues.find(redrive)) is not None:
            self._free(parked, redrive, task)
            return []
        return [] if redrive.action is Action.DISCARD else self.first(redrive, task, redrives=redrive.count)

    def reject_output(self, message: Message, error: EncodeError) -> None:
        """Note that Kafka refuses an output: handled again, the event becomes a dead letter.

        Raises `Stop` where its dead letter is refused, too.
        """
        at = _at(message)
        if at in self._minimal:
            error.add_note(
                f"Even a dead letter of {at[0]}[{at[1]}] at offset {at[2]} without its value is refused; raise "
                f"max.message.bytes of {at[0]}.dlq, and message.max.bytes here."
            )
            raise Stop(error)
        if at in self.rejected:
            self._minimal.add(at)
        self.rejected[at] = error

    def committed(self, passed: Mapping[tuple[str, int], int]) -> None:
        """Forget refused outputs of events below these offsets of topics and partitions."""
        if self.rejected:
            for at in [at for at in self.rejected if at[2] < passed.get(at[:2], 0)]:
                del self.rejected[at]
                self._minimal.discard(at)

    def _free(self, parked: ParkedEvent, redrive: Redrive, task: PartitionTask) -> None:
        if redrive.action is Action.DISCARD:
            task.queues.leave(parked)
        else:
            task.queues.retry(park(redrive, redrives=redrive.count))

    def _process(self, message: Message, task: PartitionTask, tried: Tried, failed: BaseException | None) -> Outcome:
        if (refused := self.rejected.get(_at(message))) is not None:
            return self._dead_letter(message, self._handler(message), refused, tried)
        try:
            read = self._read(message)
        except DecodeError as undecodable:
            return self._dead_letter(message, None, undecodable, tried)
        if read is None:
            return Outcome([])
        handler, event, meta = read

        def attempt() -> list[Record]:
            return task.attempt(handler, event, meta)

        if failed is not None and not isinstance(failed, RegistryUnavailable) and not self._is_of_a_pause(failed):
            return self._decide(handler, message, attempt, failed, tried)
        return self._attempt(handler, message, attempt, tried)

    def _decide(
        self,
        handler: Handler,
        message: Message,
        attempt: Callable[[], list[Record]],
        failed: BaseException,
        tried: Tried,
    ) -> Outcome:
        """Decide about an event after one more failure, and carry that out."""
        if self._spare(failed):
            raise failed
        if isinstance(failed, EncodeError) and self._limits_changed():
            # It may have been too large for the topic's previous limit only.
            return self._attempt(handler, message, attempt, tried)
        now = time.time()
        tried = tried._replace(attempts=tried.attempts + 1, first_failed_at=tried.first_failed_at or now)
        decided = decide(
            handler,
            failed,
            attempts=tried.attempts,
            seconds=now - tried.first_failed_at - tried.slept,
            keyed=message.key() is not None,
        )
        if decided is Decision.RETRY and message.key() is None:
            return self._retry_handler(handler, message, attempt, failed, tried)
        if decided is Decision.RETRY:
            return Outcome([], park(message, **tried._asdict(), due_at=now + handler.retry.backoff(tried.attempts)))
        if decided is Decision.STOP:
            self._stop_at(message, handler, failed)
        if decided is Decision.PARK_KEY:
            dead = self._dead_letter(message, handler, failed, tried, parked=True)
            return Outcome(dead.records, park(message, **tried._asdict()))
        return self._dead_letter(message, handler, failed, tried)

    def _attempt(
        self, handler: Handler, message: Message, attempt: Callable[[], list[Record]], tried: Tried
    ) -> Outcome:
        before = self._pauses.seconds
        try:
            records = self._call(attempt)
        except ProcessEnds:
            raise
        except BaseException as error:
            if tried.first_failed_at:
                tried = tried._replace(slept=tried.slept + self._pauses.seconds - before)
            # Not beyond this clause: an error that a frame of its own traceback names keeps all of its frames, and with
            # them a whole chunk of records, until the garbage is collected.
            return self._decide(handler, message, attempt, error, tried)
        return self._handled(handler, message, records)

    def _call(self, attempt: Callable[[], list[Record]]) -> list[Record]:
        """Make an attempt, and once more at once where the process paused in its midst."""
        for _ in range(PAUSES_FORGIVEN):
            self.calls_begin()
            try:
                return attempt()
            except BaseException as error:
                if not self._is_of_a_pause(error):
                    raise
        return attempt()

    def _is_of_a_pause(self, failed: BaseException) -> bool:
        """Return True when it may have failed for a stop of the process during the call, and can be called again."""
        if isinstance(failed, (Rejected, ProcessEnds)) or self._spare(failed):
            return False
        self._pauses.beat()
        return self._pauses.count > self._pauses_before

    def _retry_handler(
        self,
        handler: Handler,
        message: Message,
        attempt: Callable[[], list[Record]],
        failed: BaseException,
        tried: Tried,
    ) -> Outcome:
        """Retry an event without a key while its partition waits: no other event has to wait for its key."""
        try:
            # No transaction stays open while waiting: what was finished before is committed first.
            records = retry_handler(
                handler,
                lambda: self._call(attempt),
                stop=self._outage.stop,
                failed=failed,
                before_wait=self._commit,
                clock=self._pauses.awake,
            )
        except GaveUp as gave_up:
            if self._spare(gave_up.error):
                raise gave_up.error from None
            if handler.on_failure is OnFailure.STOP:
                self._stop_at(message, handler, gave_up.error)
            return self._dead_letter(message, handler, gave_up.error, tried._replace(attempts=gave_up.attempts))
        return self._handled(handler, message, records)

    def _handled(self, handler: Handler, message: Message, records: list[Record]) -> Outcome:
        self._metrics.handled[handler.name, message.topic()] += 1
        return Outcome(records)

    def _stop_at(self, message: Message, handler: Handler, error: BaseException) -> NoReturn:
        self._commit()
        where = f"{message.topic()}[{message.partition()}] at offset {message.offset()}"
        error.add_note(f"{self._name} stops, as {handler.name} says, without moving past {where}.")
        raise Stop(error) from None

    def _read(self, message: Message) -> tuple[Handler, object, EventMetadata] | None:
        """An event whose schema only the registry knows waits for it, and those behind it too: they may be like it."""
        return self._outage.wait_out(lambda: self._reader.read(message), before_wait=self._commit)

    def _handler(self, message: Message) -> Handler | None:
        try:
            read = self._read(message)
            return read[0] if read else None
        except DecodeError:  # without an event there is no handler; the refusal says why
            return None

    def _dead_letter(
        self, message: Message, handler: Handler | None, error: BaseException, tried: Tried, *, parked: bool = False
    ) -> Outcome:
        name = handler.name if handler else None
        self._metrics.dead_letter(name, message.topic(), reason_of(error))
        record = dead_letter(
            message,
            service=self._service,
            group=self._group,
            handler=name,
            error=error,
            attempts=max(tried.attempts, 1) if handler else 0,
            first_failed_at=tried.first_failed_at or None,
            parked=parked,
            redrives=tried.redrives,
            limit=_MINIMAL_BYTES if _at(message) in self._minimal else self._limits.record(f"{message.topic()}.dlq"),
        )
        return Outcome([record])


def _at(message: Message) -> tuple[str, int, int]:
    return message.topic(), message.partition(), message.offset()
