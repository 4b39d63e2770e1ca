"""The worker of handlers with a database: what an event did and the position of the group commit together."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from millstream.contracts import Contracts
from millstream.declare import Kind, Service
from millstream.errors import Fenced
from millstream.kafka import BEGINNING, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.loop.handler_worker import TaskWorker
from millstream.runtime.loop.offset_reporter import OffsetReporter
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.output_topics import written_topics
from millstream.runtime.sql.database import READ_ONLY, passing
from millstream.runtime.sql.inbox import forget_old_ids
from millstream.runtime.sql.outbox import Outbox
from millstream.runtime.sql.positions import read_positions
from millstream.runtime.sql.stores import SqlInternalStores
from millstream.runtime.sql.task import SqlInvoker, SqlTask
from millstream.runtime.sql.unit import PositionConflict, SqlUnit, not_done
from millstream.runtime.task.partition_task import seconds_until_due
from millstream.runtime.worker import ProcessEnds, Stopping
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer, get_logger
from millstream.timeouts import DATABASE_PAUSES

log = get_logger(__name__)

POLL_RECORDS = 500
POLL_SECONDS = 0.1
MAX_TROUBLES = 8
"""Times in a row that a transaction may fail for no fault of an event; some ten seconds."""
MAX_DUE = 100
"""Parked events and timers of one partition that are dealt with in one transaction."""
TIDY_SECONDS = 10.0
"""Seconds between two deletions of ids whose window has passed."""
MAX_CONFLICTS = 5
"""Position conflicts in a row, after which this process takes itself for the zombie."""


class SqlWorker(TaskWorker[SqlTask]):
    """Runs a service's handlers that ask for a `Connection` or `Session`.

    - `engine`: the service's database, from `open_database`.
    - `wake_relay`: set whenever outbox rows were committed.

    Exactly once: outputs and dead letters are outbox rows, and the position moves by compare-and-set, all in one SQL
    transaction per batch; positions start from the database, whatever Kafka says. Parked keys and timers are rows too.
    With `delivery="at_least_once"` the
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
        super().__init__(
            Kind.SQL,
            service,
            settings,
            contracts,
            kafka,
            max_records=min(POLL_RECORDS, settings.commit_max_events),
            spare=passing,
            health=health,
        )
        self._exactly_once = service.delivery == "exactly_once"
        self._engine = engine
        self._wake_relay = wake_relay
        self._slice = settings.commit_interval_ms / 1000
        self._outbox = Outbox(service.name)
        self._producer = None if self._exactly_once else kafka.producer()
        self._positions: dict[TopicPartition, int] = {}
        self._internal_stores = SqlInternalStores(service)
        self._unit: SqlUnit
        self._invoker = SqlInvoker(service, self._outbound, tracer or Tracer(), self._metrics, lambda: self._unit)
        self._has_inbox = any(handler.inbox for handler in service.of_kind(Kind.SQL))
        self._tidy_at = 0.0
        self._offset_reporter = OffsetReporter(self.name, self._loop.ids)
        self._conflicts = 0

    # What the loop asks for

    def open(self) -> None:
        self._loop.wait_out(lambda: self._ask_limits(written_topics(self._service, Kind.SQL)))

    def before_poll(self) -> float:
        return seconds_until_due(self._tasks.values(), POLL_SECONDS)

    def process(self, batch: list[Message]) -> None:
        if batch:
            self._work_through(batch)
        if seconds_until_due(self._tasks.values(), POLL_SECONDS) == 0:
            self._retry_until_committed(self._do_what_is_due)
        if not batch or self._offset_reporter.due:
            self._report_offsets()
        self._tidy()
        self._hold_back()

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close()

    def assign(self, partitions: list[TopicPartition]) -> Offsets:
        self._loop.ids.refresh()
        mine = self._assigned_partitions.mine(partitions)
        found = self._read_state(mine)
        if not self._exactly_once:
            return self._loop.ids.starts(self._consumer.committed(mine), BEGINNING)
        # Where the database knows nothing, nothing was done, whatever the group has committed.
        return {partition: found.get(partition, BEGINNING) for partition in mine}

    def revoke(self, partitions: list[TopicPartition]) -> None:
        self._report_offsets()
        self.lose(partitions)

    def lose(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._offset_reporter.forget(partition)
        gone = self._leave(partitions)
        self._internal_stores.drop(gone)
        for number in gone:
            self._positions.pop((self._internal_stores.declared.parked.topic, number), None)

    # Transactions

    def _work_through(self, messages: Sequence[Message]) -> None:
        positions = self._positions
        self._loop.check_order(messages, lambda at: positions.get(at, 0))
        going_on = True
        while going_on and not self._loop.stop.is_set() and (left := not_done(messages, positions)):
            going_on = self._retry_until_committed(lambda left=left: self._transaction(not_done(left, positions)))
            messages = left

    def _retry_until_committed(self, transaction: Callable[[], None]) -> bool:
        """Do a transaction, and again after transient errors; return False where there is nothing to go on with.

        Raises an error that lasts longer than some ten seconds.
        """
        troubles, stop, pause = 0, self._loop.stop, DATABASE_PAUSES.first
        while not stop.is_set():
            try:
                transaction()
            except Stopping:  # stopped while it waited
                return False
            except PositionConflict:
                self._catch_up()
                return False
            except DBAPIError as error:
                troubles += 1
                if not passing(error) or troubles > MAX_TROUBLES:
                    raise
                self._metrics.transaction("aborted", 0)
                log.warning("doing a transaction again", code="transaction_retried", worker=self.name, error=str(error))
                stop.wait(pause)
                pause = DATABASE_PAUSES.after(pause)
            else:
                self._conflicts = 0
                return True
        return False

    def _transaction(self, messages: Sequence[Message]) -> None:
        """Handle as many of `messages` as fit into one transaction's time."""
        began = time.monotonic()
        with self._open_unit() as unit:
            for done, message in enumerate(messages, 1):
                task = self._tasks[message.partition()]
                unit.done(message, self._handle(message, task))
                task.keep()
                if (seconds := time.monotonic() - began) > self._slice or done == len(messages):
                    self._metrics.chunk(done, seconds)
                    break
            self._commit()

    def _do_what_is_due(self) -> None:
        """Parked events whose turn it is, and timers, as many as fit into one transaction's time."""
        began, now = time.monotonic(), time.time()
        with self._open_unit() as unit:
            for task in self._tasks.values():
                for _ in range(MAX_DUE):
                    if self._loop.stop.is_set() or time.monotonic() - began > self._slice:
                        break
                    if (message := task.take_due(now)) is None:
                        break
                    unit.came(self._failures.do(message, task))
                    task.done(message)
            self._commit()

    @contextmanager
    def _open_unit(self) -> Iterator[SqlUnit]:
        group, outbox = (self._group, self._outbox) if self._exactly_once else (None, None)
        with SqlUnit(self._engine, self._positions, group, outbox, self._internal_stores, self._loop.ids.ids) as unit:
            self._unit = unit
            try:
                yield unit
            except BaseException:
                self._internal_stores.rollback()
                for task in self._tasks.values():
                    task.rebuild_queues()
                raise

    def _handle(self, message: Message, task: SqlTask) -> list[Record]:
        """Return the records of one event: outputs, a dead letter, or nothing yet."""
        if task.parked or self._failures.rejected or message.topic() == self._redrives:
            return self._deal_with(message, task)
        try:
            read = self._reader.read(message)
            if read is None:
                return []
            handler, event, meta = read
            self._failures.calls_begin()
            records = task.attempt(handler, event, meta)
        except ProcessEnds:
            raise
        except BaseException as error:
            return self._failures.first(message, task, failed=error)
        self._metrics.handled[handler.name, message.topic()] += 1
        return records

    def _tidy(self) -> None:
        """Delete ids whose window has passed, in small transactions: others wait for each of them."""
        if not self._has_inbox or (now := time.monotonic()) < self._tidy_at:
            return
        self._tidy_at, more = now + TIDY_SECONDS, True
        try:
            while more and time.monotonic() < now + self._slice:
                with self._engine.begin() as connection:
                    more = forget_old_ids(connection, self._group)
        except DBAPIError as error:
            if not passing(error):
                raise
            log.warning(
                "old ids of the inbox are forgotten later", code="inbox_not_pruned", worker=self.name, error=str(error)
            )
        else:
            self._tidy_at = 0.0 if more else self._tidy_at

    def _commit(self) -> None:
        began, unit = time.monotonic(), self._unit
        if self._producer is not None and unit.changes_stores:
            # The commit deletes parked events: by then their outputs must be published.
            self._publish(unit.records)
            unit.records.clear()
        records = unit.commit()
        if self._producer is not None:
            self._publish(records)
            self._report_offsets()
        elif records:
            self._wake_relay.set()
        self._metrics.transaction("committed", time.monotonic() - began)

    def _publish(self, records: Sequence[Record]) -> None:
        assert self._producer is not None
        for topic, key, value, headers in records:
            self._producer.produce(topic, value, key, headers)
        self._producer.flush()

    def _report_offsets(self) -> None:
        marks = self._internal_stores.declared.parked.topic
        self._offset_reporter.report(
            self._consumer, {at: next for at, next in self._positions.items() if at[0] != marks}
        )

    def _read_state(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Read the positions and the internal stores of these partitions from the database."""
        numbers = sorted({number for _, number in partitions})
        wanted = [*partitions, *((self._internal_stores.declared.parked.topic, number) for number in numbers)]
        with self._engine.execution_options(**READ_ONLY).connect() as connection:
            found = read_positions(connection, self._group, wanted, self._loop.ids.ids) if self._exactly_once else {}
            self._internal_stores.restore(connection, numbers)
        for partition in wanted:
            self._positions.pop(partition, None)
        self._positions.update(found)
        for number in numbers:
            self._tasks[number] = SqlTask(
                number, self._internal_stores.declared, self._internal_stores.stores(number), self._invoker
            )
        return found

    def _catch_up(self) -> None:
        """Go on from the positions in the database after a conflict, unless conflicts repeat."""
        self._conflicts += 1
        self._metrics.transaction("aborted", 0)
        if self._conflicts > MAX_CONFLICTS:
            raise Fenced(
                f"Group {self._group!r} has another holder of these partitions: the positions in the database moved "
                f"{self._conflicts} times while {self._loop.instance!r} worked on them. Stop this process."
            )
        mine = self._consumer.assignment()
        found = self._read_state(mine)
        log.warning(
            "positions moved elsewhere; going on from there",
            code="positions_moved",
            worker=self.name,
            positions=len(found),
        )
        self._consumer.seek({partition: found.get(partition, BEGINNING) for partition in mine})
