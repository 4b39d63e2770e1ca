"""The worker of handlers with a database: what an event did and how far the group has come commit together."""

import threading
import time
from collections.abc import Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from millstream.contracts import Contracts
from millstream.declare import Handler, Kind, OnFailure, Service
from millstream.errors import DecodeError, Fenced, RegistryUnavailable
from millstream.kafka import BEGINNING, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.calling import GaveUp, Stopping, caller, persist
from millstream.runtime.database import READ_ONLY, passing
from millstream.runtime.dead_letters import Record, dead_letter, reason_of
from millstream.runtime.inbound import Inbox, Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.outbox import Outbox
from millstream.runtime.positions import read_positions
from millstream.runtime.signs import Signs
from millstream.runtime.sql_unit import Overtaken, SqlUnit, not_done
from millstream.runtime.tally import Tally
from millstream.runtime.telling import Telling
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer, get_logger

log = get_logger(__name__)

POLL_RECORDS = 500
POLL_SECONDS = 0.1
SIGN_OF_LIFE = 120.0
MOST_TROUBLES = 8
"""Times in a row that a transaction may fail for no fault of an event; some ten seconds."""
MOST_OVERTAKEN = 5
"""Times in a row that somebody else may have been quicker, before this process takes itself for the zombie."""


class SqlWorker:
    """Runs a service's handlers that ask for a `Connection` or `Session`.

    - `engine`: the service's database, from `open_database`.
    - `wake_relay`: set whenever outbox rows were committed.

    Exactly once: outputs and dead letters are outbox rows, and the position moves by compare-and-set, all in one SQL
    transaction per batch; positions start from the database, whatever Kafka says. With `delivery="at_least_once"` the
    database commits first, then outputs are published, then offsets are committed.
    """

    def __init__(
        self,
        service: Service,
        settings: Settings,
        contracts: Contracts,
        kafka: Kafka,
        engine: Engine,
        wake_relay: threading.Event,
        tracer: Tracer | None = None,
        *,
        health: Health | None = None,
    ) -> None:
        self.name = f"{service.name}.{Kind.SQL.value}"
        self._service = service.name
        self._topics = [topic.name for topic in service.consumed(Kind.SQL)]
        self._exactly_once = service.delivery == "exactly_once"
        self._engine = engine
        self._wake_relay = wake_relay
        self._tracer = tracer or Tracer()
        self._slice = settings.commit_interval_ms / 1000
        self._most = settings.commit_max_events
        self._inbox = Inbox(service, Kind.SQL, contracts)
        self._outbound = Outbound(service, contracts)
        self._outbox = Outbox(service.name)
        self._callers = {handler.name: caller(handler) for handler in service.of_kind(Kind.SQL)}
        self._group = service.group(Kind.SQL)
        self._instance = f"{self._group}-{settings.slot}"
        self._consumer = kafka.consumer(self._group, instance=self._instance)
        self._producer = None if self._exactly_once else kafka.producer()
        self._tally = Tally(service.name, self._group)
        self._signs = Signs(health, self.name, SIGN_OF_LIFE)
        self._positions: dict[TopicPartition, int] = {}
        self._telling = Telling(self.name)
        self._overtaken = 0

    def run(self, stop: threading.Event) -> None:
        """Handles events until `stop` is set.

        Raises `Fenced` when a newer holder of this slot took over, what the database raises when it does not come to
        itself within some ten seconds, and a handler's own error where it is declared `on_failure=stop`.
        """
        try:
            self._consumer.subscribe(
                self._topics, on_assigned=self._assigned, on_revoked=self._revoked, on_lost=self._lost
            )
            while not stop.is_set():
                self._signs.beat()
                messages = self._consumer.poll_batch(min(POLL_RECORDS, self._most), POLL_SECONDS)
                if messages:
                    self._work_through(messages, stop)
                if not messages or self._telling.due:
                    self._telling.tell(self._consumer, self._positions)
                self._tally.lag(self._consumer)
        finally:
            self._consumer.close()
            if self._producer is not None:
                self._producer.close()

    def _work_through(self, messages: Sequence[Message], stop: threading.Event) -> None:
        troubles = 0
        while messages and not stop.is_set():
            try:
                self._transaction(messages, stop)
                self._overtaken = troubles = 0
            except Stopping:
                return
            except Overtaken:
                self._catch_up()
                return
            except (DBAPIError, RegistryUnavailable) as error:
                troubles += 1
                if not (passing(error) or isinstance(error, RegistryUnavailable)) or troubles > MOST_TROUBLES:
                    raise
                self._tally.transaction("aborted", 0)
                log.warning("doing the transaction again", worker=self.name, error=str(error))
                stop.wait(min(3.0, 0.025 * 2**troubles))
            messages = not_done(messages, self._positions)

    def _transaction(self, messages: Sequence[Message], stop: threading.Event) -> None:
        """Handles as many of `messages` as fit into one transaction's time."""
        group, outbox = (self._group, self._outbox) if self._exactly_once else (None, None)
        began = time.monotonic()
        with SqlUnit(self._engine, self._positions, group, outbox) as unit:
            for done, message in enumerate(messages, 1):
                unit.done(message, self._handle(message, unit, stop))
                if (seconds := time.monotonic() - began) > self._slice or done == len(messages):
                    self._tally.chunk(done, seconds)
                    break
            self._commit(unit)

    def _handle(self, message: Message, unit: SqlUnit, stop: threading.Event) -> list[Record]:
        """What comes of one event: outputs, or a dead letter."""
        try:
            handler, event, meta = self._inbox.read(message)
        except DecodeError as error:
            return self._set_aside(message, None, error, 0)
        if handler is None:
            return []
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
            try:
                records = persist(
                    handler,
                    lambda: self._attempt(handler, event, meta, unit),
                    stop=stop,
                    # No lock is held while waiting: what came before commits, and the next attempt begins anew.
                    before_wait=lambda: self._commit(unit),
                )
            except GaveUp as gave_up:
                if passing(gave_up.error):
                    raise gave_up.error from None
                span.fail(gave_up.error)
                if handler.on_failure is OnFailure.STOP:
                    self._commit(unit)
                    raise gave_up.error from None
                return self._set_aside(message, handler, gave_up.error, gave_up.attempts)
        self._tally.handled[handler.name, message.topic()] += 1
        return records

    def _attempt(self, handler: Handler, event: object, meta: Meta, unit: SqlUnit) -> list[Record]:
        with unit.call(handler) as given:
            outputs = self._callers[handler.name](event, meta, given)
            return self._outbound.records(handler.name, meta, outputs)

    def _set_aside(self, message: Message, handler: Handler | None, error: Exception, attempts: int) -> list[Record]:
        name = handler.name if handler else None
        self._tally.dead_letter(name, message.topic(), reason_of(error))
        return [dead_letter(message, service=self._service, handler=name, error=error, attempts=attempts)]

    def _commit(self, unit: SqlUnit) -> None:
        began = time.monotonic()
        records = unit.commit()
        if self._producer is not None:
            for topic, key, value, headers in records:
                self._producer.produce(topic, value, key, headers)
            self._producer.flush()
            self._telling.tell(self._consumer, self._positions)
        elif records:
            self._wake_relay.set()
        self._tally.transaction("committed", time.monotonic() - began)

    def _assigned(self, partitions: list[TopicPartition]) -> Offsets | None:
        found = self._read_positions(partitions) if self._exactly_once else {}
        self._signs.assigned()
        if not self._exactly_once:
            return None
        # Where the database knows nothing, nothing was done, whatever the group has committed.
        return {partition: found.get(partition, BEGINNING) for partition in partitions}

    def _read_positions(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        with self._engine.execution_options(**READ_ONLY).connect() as connection:
            found = read_positions(connection, self._group, partitions)
        for partition in partitions:
            self._positions.pop(partition, None)
        self._positions.update(found)
        return found

    def _revoked(self, partitions: list[TopicPartition]) -> None:
        self._telling.tell(self._consumer, self._positions)
        self._lost(partitions)

    def _lost(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._telling.forget(partition)

    def _catch_up(self) -> None:
        """Somebody else was quicker: go on from where the database says, unless that happens over and over."""
        self._overtaken += 1
        self._tally.transaction("aborted", 0)
        if self._overtaken > MOST_OVERTAKEN:
            raise Fenced(
                f"Group {self._group!r} has another holder of these partitions: the positions in the database moved "
                f"{self._overtaken} times while {self._instance!r} worked on them. Stop this process."
            )
        mine = self._consumer.assignment()
        found = self._read_positions(mine)
        log.warning("positions moved elsewhere; going on from there", worker=self.name, positions=len(found))
        self._consumer.seek({partition: found.get(partition, BEGINNING) for partition in mine})
