"""The worker of Kafka handlers: outputs, state, timers, parked events, dead letters and offsets commit together."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.declare import Kind, Service
from millstream.errors import CommitUnknown, EncodeError, KafkaFault, RecordsRefused, TransactionAborted, Unavailable
from millstream.kafka.port import BEGINNING, Kafka, Message, Offsets, TopicPartition
from millstream.runtime.kafka.invoke import kafka_invoker, routes
from millstream.runtime.kafka.task import KafkaTask
from millstream.runtime.loop.handler_worker import TaskWorker
from millstream.runtime.loop.transaction import transaction_for
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.foreign_keys import checked_stores
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.output_topics import written_topics
from millstream.runtime.task.parked import ParkedEvent
from millstream.runtime.task.partition_task import InternalStores, seconds_until_due
from millstream.runtime.task.timers import FiredTimer
from millstream.runtime.worker import ProcessEnds, Stopping
from millstream.settings import Settings
from millstream.state.partitions import Progress, StatePartitions
from millstream.telemetry import Health, Tracer, get_logger

log = get_logger(__name__)

CHUNK = 200
"""Records taken at once. Larger chunks leave the processor's caches before they are looked at."""

_IDLE_SECONDS = 0.25
"""Seconds of waiting for a record before the order to stop is looked for."""

_MAX_DUE = 100
"""Parked events and timers of one partition that are dealt with between two chunks."""

_MAX_FORGOTTEN = 20_000
"""Ids of one partition's inbox that are deleted in one transaction: more than one adds."""


class KafkaWorker(TaskWorker[KafkaTask]):
    """Runs the Kafka handlers of a service, in one thread.

    An event is handled exactly once: its outputs and state become visible together with the fact that it was handled.
    A transaction is committed at once when nothing more is waiting, and under load after `commit_interval_ms` or
    `commit_max_events`. With `delivery="at_least_once"` the same without transactions: records first, offsets after.

    A key whose event failed is parked in partition state until its next attempt; other keys go on. Timers fire, and
    parked events are tried, in transactions like any other, also when no event comes.

    - `contracts`: encodes what is produced and stored, decodes what is consumed.
    - `progress`: called with the progress of restores.

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
        self._internal_stores = InternalStores.of(service, Kind.KAFKA)
        self._states = StatePartitions(
            service, contracts, kafka, self._internal_stores.all, record_bytes=settings.record_bytes, progress=progress
        )
        super().__init__(
            Kind.KAFKA,
            service,
            settings,
            contracts,
            kafka,
            state_topics=self._states.topics,
            max_records=CHUNK,
            health=health,
        )
        self._transactional_id = f"{self.name}.{settings.slot}"
        self._transaction = transaction_for(service, kafka, self._transactional_id)
        self._invokers = {
            handler.name: kafka_invoker(handler, service.name, self._group, tracer or Tracer(), self._metrics)
            for handler in service.of_kind(Kind.KAFKA)
        }
        self._checked = checked_stores(service)
        self._routes = routes(self._reader, self._invokers, self._checked)
        self._positions: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        """The last committed offset of each partition that has one."""
        self._incarnation = time.time_ns()
        self._transaction_number = 0
        self._open = False
        self._pending_error: BaseException | None = None
        self._began = 0.0
        self._events = 0
        self._together = settings.commit_max_events
        """The limit of events in one transaction; less while a refused record is searched for."""
        self._chunk = 0
        self._last: Message | None = None
        """The last event of the present chunk, and how many it has."""

    @property
    def partitions(self) -> set[int]:
        """The partitions that this instance works on."""
        return set(self._tasks)

    # What the loop asks for

    def open(self) -> None:
        # First of all: a transaction that a former incarnation left open ends here; what it committed can be read.
        self._loop.wait_out(lambda: self._ask_limits(written_topics(self._service, Kind.KAFKA)))
        self._loop.wait_out(self._transaction.start)

    def before_poll(self) -> float:
        self._recovering(self._do_what_is_due)
        return 0 if self._open else seconds_until_due(self._tasks.values(), _IDLE_SECONDS)

    def process(self, batch: list[Message]) -> None:
        self._recovering(lambda: self._handle_all(batch))
        self._hold_back()

    def assign(self, partitions: list[TopicPartition]) -> Offsets:
        mine = self._assigned_partitions.mine(partitions)
        numbers = {partition for _, partition in mine}
        # First of all: a broker answers with offsets only once no transaction is about to change them, and previous
        # holders can send no more. Before that, a changelog may lack what a frozen predecessor is yet to commit.
        self._loop.ids.refresh()
        committed = self._loop.ids.valid(self._consumer.committed(mine))
        for at in mine:
            self._committed.pop(at, None)
        self._committed |= {at: found.offset for at, found in committed.items() if found.offset is not None}
        self._states.restore(numbers)
        for number in numbers - self._tasks.keys():
            stores = self._states.stores(number)
            self._tasks[number] = KafkaTask(
                number, self._service, self._internal_stores, stores, self._outbound, self._invokers, self._checked
            )
        return {at: self._committed.get(at, BEGINNING) for at in mine}

    def revoke(self, partitions: list[TopicPartition]) -> None:
        if self._pending_error is None:
            try:
                self._commit()
            except (TransactionAborted, CommitUnknown, Unavailable, RecordsRefused) as error:
                # To be dealt with after the poll, for the partitions that stay.
                self._pending_error = error
        self._leave(partitions)

    def lose(self, partitions: list[TopicPartition]) -> None:
        if self._open and self._pending_error is None:
            self._pending_error = TransactionAborted("Partitions were lost to another member of the group.")
        self._leave(partitions)

    def fail(self, error: BaseException) -> None:
        # What was finished is committed; what is half done must not be, on the way out.
        self._pending_error = error

    def close(self) -> None:
        self._transaction.close()

    def _leave(self, partitions: list[TopicPartition]) -> set[int]:
        gone = super()._leave(partitions)
        self._states.drop(gone)
        for at in partitions:
            self._committed.pop(at, None)
        return gone

    # Events

    def _handle_all(self, batch: list[Message]) -> None:
        """Handle what was polled, and commit when nothing more is there."""
        if self._pending_error is not None:
            raise self._pending_error
        if not batch:
            self._commit()
        elif not self._open:
            committed = self._committed
            self._loop.check_order(batch, lambda at: committed.get(at, 0))
        while batch:
            part, batch = batch[: self._together], batch[self._together :]
            self._handle(part)

    def _recovering(self, step: Callable[[], None]) -> None:
        try:
            step()
        except RecordsRefused as refused:
            self._narrow_down(refused)
        except (TransactionAborted, CommitUnknown, Unavailable) as error:
            log.warning("doing a transaction again", code="transaction_retried", worker=self.name, error=str(error))
            self._do_again(error)

    def _handle(self, batch: list[Message]) -> None:
        # The hot loop: names are local, and nothing is done for an event that can be done for a chunk or at the start.
        decode, routes, records = self._reader.decode, self._routes, self._outbound.records
        tasks, positions, rejected = self._tasks, self._positions, self._failures.rejected
        handled, clock = self._metrics.handled, time.monotonic
        began = clock()
        self._failures.calls_begin()
        self._chunk = len(batch)
        self._last = batch[-1]
        deadline = self._begin_if_need_be()
        produce = self._transaction.produce
        for message in batch:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            task = tasks[partition]
            produced: Any = ()
            if (task.parked and (topic, partition, message.key()) in task.parked) or (
                rejected and (topic, partition, offset) in rejected
            ):
                produced = self._deal_with(message, task)
            else:
                try:
                    event = decode[topic](message.value())
                    contract = type(event)
                    if contract in routes:
                        name, call, counted = routes[contract]
                        meta = EventMetadata(message, contract)
                        produced = records(name, meta, call(event, meta, task.context))
                        handled[counted] += 1
                except ProcessEnds:
                    raise
                except BaseException as error:
                    produced = self._on_error(message, task, error)
                    deadline = self._begin_if_need_be()
            for store in task.stores:
                store.keep_event()
            try:
                for target, key, value, headers in produced:
                    produce(target, value, key, headers)
            except RecordsRefused:
                raise
            except EncodeError as error:
                self._do_again_without(message, error)
            positions[topic, partition] = offset + 1
            if clock() > deadline:
                self._commit()
                if self._loop.stop.is_set():
                    raise Stopping
                deadline = self._begin_if_need_be()
        self._metrics.chunk(len(batch), clock() - began)
        self._events += len(batch)
        self._chunk = 0
        if self._events >= self._together:
            self._commit()

    def _on_error(self, message: Message, task: KafkaTask, error: BaseException) -> list[Record]:
        task.undo()
        return self._deal_with(message, task, error)

    # Without an event: parked keys whose turn it is, and timers

    def _do_what_is_due(self) -> None:
        now = time.time()
        for task in list(self._tasks.values()):
            for _ in range(_MAX_DUE):
                if self._loop.stop.is_set() or (message := task.take_due(now)) is None:
                    break
                self._begin_if_need_be()
                self._last, self._chunk = message, 1
                self._finish_one(message, task)
                if time.monotonic() > self._began + self._settings.commit_interval_ms / 1000:
                    self._commit()

    def _finish_one(self, message: ParkedEvent | FiredTimer, task: KafkaTask) -> None:
        records = self._failures.do(message, task)
        self._begin_if_need_be()
        task.done(message)
        try:
            for target, key, value, headers in records:
                self._transaction.produce(target, value, key, headers)
        except RecordsRefused:
            raise
        except EncodeError as error:
            self._do_again_without(message, error)
        self._fence(task.partition)
        self._events += 1
        self._chunk = 0
        if self._events >= self._together:
            self._commit()

    def _fence(self, partition: int) -> None:
        """Commit an unchanged position of the partition with what was done for it: that fences a previous holder."""
        mine = [at for at in self._committed if at[1] == partition]
        at = mine[0] if mine else (self._topics[0], partition)
        self._positions.setdefault(at, self._committed.get(at, 0))

    def _do_again_without(self, message: Message, error: EncodeError) -> None:
        """Abort as Kafka refuses an output, maybe after others of its event: done again, the event is dead-lettered."""
        self._failures.reject_output(message, error)
        raise TransactionAborted(f"An output is refused: {error}") from error

    def _do_again(self, error: KafkaFault | EncodeError) -> None:
        self._pending_error = error
        self._recover(error)
        self._pending_error = None

    def _narrow_down(self, refused: RecordsRefused) -> None:
        """A broker refuses a batch and does not say for which record: do half as many events again in one transaction,
        until the refused one is alone, and becomes a dead letter; others of them are committed meanwhile."""
        events = self._events + self._chunk
        log.warning(
            "records refused",
            code="records_refused",
            worker=self.name,
            topic=refused.topic,
            events=events,
            error=str(refused),
        )
        if self._together == 1 and self._last is not None:
            self._failures.reject_output(self._last, refused)
        self._together = max(1, min(self._together, events) // 2)
        self._do_again(refused)
        self._ask_limits([refused.topic])

    def _ask_limits(self, topics: Sequence[str]) -> None:
        super()._ask_limits(topics)
        self._transaction.keep_to(self._limits.smallest)

    def _keep_to_limits(self) -> None:
        super()._keep_to_limits()
        self._states.keep_to(self._limits)

    # Transactions

    def _begin_if_need_be(self) -> float:
        """Return when the transaction has to be committed."""
        if not self._open:
            self._transaction.begin()
            self._open = True
            self._began = time.monotonic()
        return self._began + self._settings.commit_interval_ms / 1000

    def _commit(self) -> None:
        if not self._open:
            return
        if self._positions:
            for task in self._tasks.values():
                task.forget_old_ids(time.time(), _MAX_FORGOTTEN)
            produce = self._transaction.produce
            for topic, partition, key, value in self._states.changes():
                produce(topic, value, key, None, partition)
            self._transaction_number += 1
            self._transaction.commit(self._consumer, self._positions, self._notes())
            self._states.commit()
            self._committed |= self._positions
            self._failures.committed(self._committed)
            self._together = min(self._settings.commit_max_events, 2 * self._together)
            self._metrics.transaction("committed", time.monotonic() - self._began)
        else:
            self._transaction.abort()
        self._finish()

    def _give_up(self) -> None:
        """Abort the transaction and roll back what it changed in memory."""
        self._transaction.abort()
        self._roll_back()
        self._metrics.transaction("aborted", time.monotonic() - self._began)
        self._finish()

    def _finish(self) -> None:
        self._open = False
        self._positions.clear()
        self._events = 0

    def _recover(self, error: KafkaFault | EncodeError) -> None:
        """Go back to what is committed: nothing after it is visible to any reader."""
        if isinstance(error, CommitUnknown):
            self._loop.wait_out(self._transaction.start)
            self._loop.wait_out(self._settle)
        else:
            self._give_up()
        self._loop.wait_out(self._rewind)

    def _rewind(self) -> None:
        """Read on from what is committed."""
        self._consumer.seek(self._loop.ids.starts(self._consumer.committed(self._consumer.assignment()), BEGINNING))

    def _settle(self) -> None:
        """Find out whether a transaction of unknown outcome was committed: then its mark is beside all of its offsets.

        Offsets alone are no proof: a transaction of timers moves none.
        """
        committed, notes = self._consumer.committed(list(self._positions)), self._notes()
        if all(committed[at] == (position, notes[at]) for at, position in self._positions.items()):
            self._states.commit()
            self._committed |= self._positions
        else:
            self._roll_back()
        self._metrics.transaction("unknown", time.monotonic() - self._began)
        self._finish()

    def _notes(self) -> dict[TopicPartition, str]:
        """Return the metadata of the committed offsets; the mark tells this transaction from all others."""
        mark = f"{self._transactional_id}/{self._incarnation}/{self._transaction_number}"
        return {at: self._loop.ids.note(at[0], offset, mark=mark) for at, offset in self._positions.items()}

    def _roll_back(self) -> None:
        self._states.rollback()
        for task in self._tasks.values():
            task.rebuild_queues()
