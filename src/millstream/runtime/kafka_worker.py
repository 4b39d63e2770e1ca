"""The worker of Kafka handlers: outputs, state, dead letters and offsets commit together, in one Kafka transaction."""

import threading
import time
from collections.abc import Callable
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.declare import Contract, Handler, Kind, OnFailure, Service, home_of
from millstream.errors import (
    CommitUnknown,
    DecodeError,
    EncodeError,
    KafkaFault,
    RegistryUnavailable,
    TransactionAborted,
    Unavailable,
)
from millstream.kafka.port import Consumer, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.calling import Caller, GaveUp, Given, Stopping, caller, persist
from millstream.runtime.dead_letters import Record, dead_letter, reason_of
from millstream.runtime.inbound import Inbox, Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.signs import Signs
from millstream.runtime.tally import Tally
from millstream.runtime.transaction import AtLeastOnce, ExactlyOnce
from millstream.settings import Settings
from millstream.state.memory import MemoryStore
from millstream.state.partitions import Progress, StatePartitions
from millstream.telemetry import Health, Tracer, get_logger

log = get_logger(__name__)

CHUNK = 200
"""Records taken at once. Larger chunks leave the processor's caches before they are looked at."""

_IDLE_SECONDS = 0.25
"""How long to wait for a record before looking whether to stop."""

_SIGN_OF_LIFE = 120.0
_PATIENCE = 60.0
"""Seconds of trouble with brokers after which the worker gives up, so that its process starts anew."""


class _Stop(Exception):
    """An event cannot be passed; everything before it is committed. `error` is what `run` raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Place:
    """What handlers are given for events of one partition, and the stores whose writes may have to be undone."""

    __slots__ = ("given", "stores")

    def __init__(self, stores: dict[Any, MemoryStore[Any]]) -> None:
        self.given = Given(states=stores)
        self.stores = tuple(stores.values())


class KafkaWorker:
    """Runs the Kafka handlers of a service, in one thread.

    An event is handled exactly once: whatever comes of it becomes visible together with the fact that it was handled.
    A transaction is committed at once when nothing more is waiting, and under load after `commit_interval_ms` or
    `commit_max_events`. With `delivery="at_least_once"` the same without transactions: records first, offsets after.

    - `contracts`: encodes what is produced and stored, decodes what is consumed.
    - `progress`: told how restores go.

    `run` raises `Fenced` when a newer holder of the slot took over, the handler's own error where its policy is `stop`,
    and `KafkaFault` for trouble that does not pass.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        *,
        tracer: Tracer | None = None,
        health: Health | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.name = f"{service.name}.{Kind.KAFKA.value}"
        self._service = service
        self._settings = settings
        self._kafka = kafka
        self._group = service.group(Kind.KAFKA)
        self._topics = [topic.name for topic in service.consumed(Kind.KAFKA)]
        self._transactional_id = f"{self.name}.{settings.slot}"
        self._states = StatePartitions(service, contracts, kafka, progress=progress)
        self._inbox = Inbox(service, Kind.KAFKA, contracts)
        self._outbound = Outbound(service, contracts)
        self._tracer = tracer or Tracer()
        self._callers = {handler.name: self._caller(handler) for handler in service.of_kind(Kind.KAFKA)}
        # By class: the handler's name, how to call it, and what to count it as (a class has one topic).
        self._routes: dict[type, tuple[str, Caller, tuple[str, str]]] = {
            contract: (handler.name, self._callers[handler.name], (handler.name, home_of(contract).name))
            for contract, handler in self._inbox.handlers.items()
        }
        self._tally = Tally(service.name, self._group)
        self._signs = Signs(health, self.name, _SIGN_OF_LIFE)

        self._stop = threading.Event()
        self._places: dict[int, _Place] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._condemned: dict[tuple[str, int, int], EncodeError] = {}
        self._open = False
        self._torn: BaseException | None = None
        self._began = 0.0
        self._events = 0

    @property
    def partitions(self) -> set[int]:
        """The partitions that this instance works on."""
        return set(self._places)

    def run(self, stop: threading.Event) -> None:
        self._stop = stop
        once = self._service.delivery == "exactly_once"
        self._transaction = ExactlyOnce(self._kafka, self._transactional_id) if once else AtLeastOnce(self._kafka)
        self._consumer: Consumer = self._kafka.consumer(
            self._group,
            instance=f"{self._group}-{self._settings.slot}",
            co_partitioned=bool(self._service.stores()) and len(self._topics) > 1,
        )
        try:
            # First of all: whatever a former life left open ends here, and what it had committed can be read.
            self._insist(self._transaction.start)
            self._consumer.subscribe(
                self._topics, on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
            )
            while not stop.is_set():
                self._turn()
        except Stopping:
            pass
        except _Stop as stopped:
            raise stopped.error from None
        except BaseException as error:
            # What is half-done must not be committed on the way out.
            self._torn = error
            raise
        finally:
            self._consumer.close()
            self._transaction.close()

    def _turn(self) -> None:
        """Handles what is there, and commits when nothing more is."""
        self._signs.beat()
        self._tally.lag(self._consumer)
        try:
            batch = self._consumer.poll_batch(CHUNK, 0 if self._open else _IDLE_SECONDS)
            if self._torn is not None:
                raise self._torn
            if batch:
                self._handle(batch)
            elif self._open:
                self._commit()
        except (TransactionAborted, CommitUnknown, Unavailable) as error:
            log.warning("doing a transaction again", worker=self.name, error=str(error))
            self._torn = error
            self._recover(error)
            self._torn = None

    def _handle(self, batch: list[Message]) -> None:
        # The hot loop: names are local, and nothing is done for an event that can be done for a chunk or at the start.
        decode, routes, records, handled = self._inbox.decode, self._routes, self._outbound.records, self._tally.handled
        places, positions, condemned, clock = self._places, self._positions, self._condemned, time.monotonic
        began = clock()
        deadline = self._begin_if_need_be()
        produce = self._transaction.produce
        for message in batch:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            place = places[partition]
            try:
                event = decode[topic](message.value())
                contract = type(event)
                produced: Any = ()
                if contract in routes:
                    name, call, counted = routes[contract]
                    meta = Meta(message, contract)
                    produced = records(name, meta, call(event, meta, place.given))
                    handled[counted] += 1
            except Exception as error:
                produced = self._rescue(message, place, error)
            if condemned and (topic, partition, offset) in condemned:
                produced = self._replace(message, place)
            for store in place.stores:
                store.keep_event()
            try:
                for target, key, value, headers in produced:
                    produce(target, value, key, headers)
            except EncodeError as error:
                self._condemn(message, error)
            positions[topic, partition] = offset + 1
            if clock() > deadline:
                self._commit()
                if self._stop.is_set():
                    raise Stopping
                deadline = self._begin_if_need_be()
        self._tally.chunk(len(batch), clock() - began)
        self._events += len(batch)
        if self._events >= self._settings.commit_max_events:
            self._commit()

    # When a handler fails

    def _rescue(self, message: Message, place: _Place, error: Exception) -> list[Record]:
        """What comes of an event that failed at first: outputs after all, or a dead letter."""
        self._undo(place)
        try:
            handler, event, meta = self._read_patiently(message)
        except DecodeError as undecodable:
            return self._set_aside(message, None, undecodable, attempts=0)
        if handler is None:
            return []
        call = self._callers[handler.name]

        def attempt() -> list[Record]:
            try:
                return self._outbound.records(handler.name, meta, call(event, meta, place.given))
            except BaseException:
                self._undo(place)
                raise

        try:
            failed = None if isinstance(error, RegistryUnavailable) else error
            # No transaction stays open while waiting: what was finished before is committed first.
            records = persist(handler, attempt, stop=self._stop, failed=failed, before_wait=self._commit)
        except GaveUp as gave_up:
            if handler.on_failure is OnFailure.STOP:
                self._commit()
                where = f"{message.topic()}[{message.partition()}] at offset {message.offset()}"
                gave_up.error.add_note(f"{self.name} stops, as {handler.name} says, without moving past {where}.")
                raise _Stop(gave_up.error) from None
            records = self._set_aside(message, handler.name, gave_up.error, attempts=gave_up.attempts)
        else:
            self._tally.handled[handler.name, message.topic()] += 1
        self._begin_if_need_be()
        return records

    def _read_patiently(self, message: Message) -> tuple[Handler | None, Any, Meta]:
        """An event whose schema only the registry knows waits for it, and those behind it too: they may be like it."""
        wait = 0.1
        while True:
            try:
                return self._inbox.read(message)
            except RegistryUnavailable as error:
                log.warning("waiting for the registry", worker=self.name, error=str(error))
                self._commit()
            if self._stop.wait(wait):
                raise Stopping
            wait = min(5.0, 2 * wait)

    def _set_aside(self, message: Message, handler: str | None, error: Exception, *, attempts: int) -> list[Record]:
        self._tally.dead_letter(handler, message.topic(), reason_of(error))
        letter = dead_letter(message, service=self._service.name, handler=handler, error=error, attempts=attempts)
        return [letter]

    def _condemn(self, message: Message, error: EncodeError) -> None:
        """Kafka cannot take an output, maybe after others of its event: do it all again, and set the event aside."""
        at = (message.topic(), message.partition(), message.offset())
        if at in self._condemned:
            error.add_note(
                f"The dead letter of {at[0]}[{at[1]}] at offset {at[2]} is too large; raise message.max.bytes."
            )
            raise _Stop(error)
        self._condemned[at] = error
        raise TransactionAborted(f"An output is refused: {error}") from error

    def _replace(self, message: Message, place: _Place) -> list[Record]:
        self._undo(place)
        error = self._condemned[message.topic(), message.partition(), message.offset()]
        handler, _, _ = self._inbox.read(message)
        return self._set_aside(message, handler.name if handler else None, error, attempts=1)

    @staticmethod
    def _undo(place: _Place) -> None:
        for store in place.stores:
            store.undo_event()

    def _caller(self, handler: Handler) -> Caller:
        call = caller(handler)
        if not self._tracer.enabled:
            return call

        def traced(event: Any, meta: Meta, given: Given) -> Any:
            message = meta.message
            with self._tracer.process_span(
                message.topic(),
                message.partition(),
                message.offset(),
                self._group,
                meta.traceparent,
                handler=handler.name,
                key=message.key(),
            ) as span:
                meta.traceparent = span.traceparent
                outputs = call(event, meta, given)
                # A generator's work is done within the span, too.
                return outputs if outputs is None or isinstance(outputs, Contract) else list(outputs)

        return traced

    # Transactions

    def _begin_if_need_be(self) -> float:
        """Answers when the transaction has to be committed."""
        if not self._open:
            self._transaction.begin()
            self._open = True
            self._began = time.monotonic()
        return self._began + self._settings.commit_interval_ms / 1000

    def _commit(self) -> None:
        """Everything up to the last finished event."""
        if not self._open:
            return
        if self._positions:
            produce = self._transaction.produce
            for topic, partition, key, value in self._states.changes():
                produce(topic, value, key, None, partition)
            self._transaction.commit(self._consumer, self._positions)
            self._states.commit()
            self._condemned.clear()
            self._tally.transaction("committed", time.monotonic() - self._began)
        else:
            self._transaction.abort()
        self._finish()

    def _give_up(self) -> None:
        """Drop the transaction and everything that came of it in memory."""
        self._transaction.abort()
        self._states.rollback()
        self._tally.transaction("aborted", time.monotonic() - self._began)
        self._finish()

    def _finish(self) -> None:
        self._open = False
        self._positions.clear()
        self._events = 0

    def _recover(self, error: KafkaFault) -> None:
        """Go back to what is committed: nothing after it is visible to anybody."""
        if isinstance(error, CommitUnknown):
            self._insist(self._transaction.start)
            self._insist(self._settle)
        else:
            self._give_up()
        self._insist(self._consumer.rewind)

    def _settle(self) -> None:
        """Whether a transaction of unknown outcome was committed: then all of its offsets are."""
        committed = self._consumer.committed(list(self._positions))
        if all((committed[at].offset or 0) >= position for at, position in self._positions.items()):
            self._states.commit()
        else:
            self._states.rollback()
        self._tally.transaction("unknown", time.monotonic() - self._began)
        self._finish()

    def _insist(self, step: Callable[[], object]) -> None:
        """Try again while brokers do not answer, within bounds. Raises `Stopping` if told to stop."""
        deadline, wait = time.monotonic() + _PATIENCE, 0.05
        while True:
            try:
                step()
                return
            except Unavailable as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("brokers do not answer", worker=self.name, error=str(error))
            if self._stop.wait(wait):
                raise Stopping
            wait = min(2.0, 2 * wait)

    # Partitions that come and go; called within poll_batch and close

    def _assigned(self, partitions: list[TopicPartition]) -> Offsets | None:
        numbers = {partition for _, partition in partitions}
        # First of all: offsets are told only once no transaction is about to change them, and those who had these
        # partitions can send no more. Before that, a changelog may lack what a frozen predecessor is yet to commit.
        self._insist(lambda: self._consumer.committed(partitions))
        self._insist(lambda: self._states.restore(numbers))
        for number in numbers:
            self._places.setdefault(number, _Place(self._states.stores(number)))
        self._signs.assigned()
        return None

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        if self._torn is None:
            try:
                self._commit()
            except (TransactionAborted, CommitUnknown, Unavailable) as error:
                # To be dealt with after the poll, for the partitions that stay.
                self._torn = error
        self._leave(partitions)

    def _lost(self, partitions: list[TopicPartition]) -> None:
        if self._open and self._torn is None:
            self._torn = TransactionAborted("Partitions were lost to another member of the group.")
        self._leave(partitions)

    def _leave(self, partitions: list[TopicPartition]) -> None:
        # A partition number is held through any of the topics, and under one assignor all of them move together.
        staying = {number for _, number in set(self._consumer.assignment()) - set(partitions)}
        gone = {number for _, number in partitions} - staying
        self._states.drop(gone)
        for number in gone:
            self._places.pop(number, None)
