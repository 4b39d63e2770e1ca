"""Delivery of a producer's records to the broker: batched, in order, once."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from millstream.errors import EncodeError, KafkaFault, TopicMissing, Unavailable
from millstream.kafka.faults import undelivered
from millstream.kafka.port import Headers, Message, TopicPartition
from millstream.settings import MAX_BYTES, Settings
from millstream.testing.simulation.cluster.broker import ConnectionLost
from millstream.testing.simulation.cluster.clients.client import AGAIN, TRANSIENT, Client, failure_of
from millstream.testing.simulation.cluster.records import (
    Record,
    SimulatedMessage,
    batch_of,
    murmur2,
)
from millstream.testing.simulation.scheduler.tasks import Signal, Steps

LINGER = 0.005
MAX_BATCH_BYTES = 500_000
FULL_QUEUE_TIMEOUT = 30.0
"""Seconds that a full queue may stay full before `produce` raises."""
DELIVERED_BEFORE = 46
"""The error code for a batch that the broker has already: the answer to the first attempt was lost."""

Failure = KafkaFault | EncodeError
OnReport = Callable[[Failure | None, Message], None]


class Sender:
    """Queues records and delivers them beside the application, under one producer id at a time.

    - `enlist(partitions)`: steps to be done before the first record goes to a partition.
    - `on_report`: called for each record that is delivered or fails.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        transactional_id: str | None = None,
        enlist: Callable[[Iterable[TopicPartition]], Steps[None]] | None = None,
        on_report: OnReport = lambda failure, message: None,
    ) -> None:
        self.failure: Failure | None = None
        self.identity: tuple[int, int] | None = None
        """Producer id and epoch."""
        self.changed = Signal()
        self.batch_bytes = MAX_BATCH_BYTES
        options = settings.kafka
        self._client = client
        self._transactional_id = transactional_id
        self._enlist = enlist
        self._on_report = on_report
        self._queue_limit = int(options.get("queue.buffering.max.messages", 20_000))
        self._delivery_timeout = int(options.get("message.timeout.ms", 30_000)) * 1000
        self._topic_timeout = int(options.get("topic.metadata.propagation.max.ms", 5_000)) * 1000
        if transactional_id is not None:
            self._delivery_timeout = settings.transaction_timeout_ms * 1000 * 2 // 3
        self._queue: deque[Record] = deque()
        self._in_flight = 0
        self._sequences: dict[TopicPartition, int] = {}
        self._added = Signal()
        self._task = client.incarnation.task(self._send())

    @property
    def pending(self) -> int:
        """Records that are not delivered yet."""
        return len(self._queue) + self._in_flight

    def add(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        partition: int,
        timestamp: int,
    ) -> None:
        """Queue a record; waits while the queue is full."""
        scheduler = self._client.scheduler
        now = scheduler.wall_clock // 1000
        record = Record(topic, partition, key, value, list(headers or ()), timestamp or now)
        if record.size > MAX_BYTES:
            raise failure_of(10, f"writing to {topic!r}")
        if self.pending >= self._queue_limit and not scheduler.wait(
            lambda: self.pending < self._queue_limit, FULL_QUEUE_TIMEOUT
        ):
            raise Unavailable(f"The queue towards {topic!r} stayed full ({self.pending} records).")
        self._queue.append(record)
        self._added.notify()

    def identify(self, identity: tuple[int, int] | None) -> None:
        """Go on under another id and epoch; None: ask for them before the next batch."""
        self.identity = identity
        self.failure = None
        self._sequences.clear()

    def drop(self) -> bool:
        """Drop whatever is not delivered. Returns whether the broker may have received some of it, or may still."""
        uncertain = self._in_flight > 0
        self._task.cancel()
        self._queue.clear()
        self._in_flight = 0
        self._task = self._client.incarnation.task(self._send())
        return uncertain

    def close(self) -> None:
        self._task.cancel()

    def _send(self) -> Steps[None]:
        while True:
            while not self._queue:
                yield self._added.next()
            yield LINGER
            records = list(self._queue)
            self._queue.clear()
            self._in_flight = len(records)
            yield from self._deliver(records)
            self.changed.notify()

    def _deliver(self, records: list[Record]) -> Steps[None]:
        waiting = yield from self._partitioned(records)
        while waiting:
            if self._transactional_id is not None and self.failure is not None:
                # Nothing of this transaction will count.
                self._in_flight = 0
                return
            if self.identity is None:
                yield from self._get_identity()
            try:
                if self._enlist is not None:
                    yield from self._enlist(waiting)
                batches = {partition: _head(records, self.batch_bytes) for partition, records in waiting.items()}
                yield from self._produce(batches)
            except (KafkaFault, EncodeError) as failure:
                self._fail([record for each in waiting.values() for record in each], failure)
                return
            waiting = {
                partition: rest for partition, each in waiting.items() if (rest := each[len(batches[partition]) :])
            }

    def _partitioned(self, records: list[Record]) -> Steps[dict[TopicPartition, list[Record]]]:
        """Group records by partition. Those of topics that are not created in time fail."""
        scheduler, topics = self._client.scheduler, list(dict.fromkeys(record.topic for record in records))
        deadline = scheduler.now + self._topic_timeout
        while True:
            counts = yield from self._client.partitions_of(topics)
            if len(counts) == len(topics) or scheduler.now > deadline:
                break
            yield AGAIN
        partitioned: dict[TopicPartition, list[Record]] = {}
        for record in records:
            count = counts.get(record.topic, 0)
            if record.partition >= count or not count:
                self._fail([record], failure_of(3, f"writing to {record.topic!r}"))
                continue
            index = record.partition
            if index < 0 and record.key is None:
                index = scheduler.random.randrange(count)
            elif index < 0:
                index = (murmur2(record.key or b"") & 0x7FFFFFFF) % count
            partitioned.setdefault((record.topic, index), []).append(record)
        return partitioned

    def _get_identity(self) -> Steps[None]:
        answer = yield from self._client.ask("init_producer_id", producer_id=-1, producer_epoch=-1)
        self.identify((answer.producer_id, answer.producer_epoch))

    def _produce(self, batches: dict[TopicPartition, list[Record]]) -> Steps[None]:
        """Deliver one batch to each partition, and try again until the delivery timeout."""
        assert self.identity is not None
        producer_id, epoch = self.identity
        written = {
            partition: batch_of(
                records,
                producer_id,
                epoch,
                self._sequences.get(partition, 0),
                transactional=self._transactional_id is not None,
            )
            for partition, records in batches.items()
        }
        deadline = self._client.scheduler.now + self._delivery_timeout
        while written:
            if self._client.scheduler.now > deadline:
                late = [record for partition in written for record in batches[partition]]
                self._fail(late, failure_of(7, f"writing to {late[0].topic!r}"))
                return
            try:
                answer = yield from self._client.ask_once(
                    "produce",
                    transactional_id=self._transactional_id,
                    acks=-1,
                    topic_data=_data(written),
                )
            except ConnectionLost:
                yield AGAIN
                continue
            for topic in answer.responses:
                for entry in topic.partition_responses:
                    partition = (topic.name, entry.index)
                    if entry.error_code in TRANSIENT:
                        continue
                    del written[partition]
                    self._settle(partition, batches[partition], entry)
            if written:
                yield AGAIN

    def _settle(self, partition: TopicPartition, records: list[Record], entry: Any) -> None:
        if entry.error_code and entry.error_code != DELIVERED_BEFORE:
            self._fail(records, undelivered(int(entry.error_code), partition[0]))
            return
        self._sequences[partition] = self._sequences.get(partition, 0) + len(records)
        self._in_flight -= len(records)
        for number, record in enumerate(records):
            self._report(None, record, partition[1], entry.base_offset + number)

    def _fail(self, records: list[Record], failure: Failure) -> None:
        self._in_flight = max(0, self._in_flight - len(records))
        self._client.record(f"cannot write {len(records)} records: {failure}")
        if self._transactional_id is None and not isinstance(failure, TopicMissing):
            # Whether they were written is not known: their sequence numbers cannot be used again.
            self.identify(None)
        self.failure = self.failure or failure
        for record in records:
            self._report(failure, record, record.partition, -1)

    def _report(self, failure: Failure | None, record: Record, partition: int, offset: int) -> None:
        timestamp = (1, record.timestamp)
        message = SimulatedMessage(record.topic, partition, offset, timestamp, record.key, record.value, record.headers)
        self._on_report(failure, message)


def _head(records: list[Record], limit: int) -> list[Record]:
    """Return as many as fit into one batch."""
    size = 0
    for count, record in enumerate(records):
        size += record.size
        if count and size > limit:
            return records[:count]
    return records


def _data(batches: dict[TopicPartition, bytes]) -> list[dict[str, Any]]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for (topic, index), batch in batches.items():
        topics.setdefault(topic, []).append({"index": index, "records": batch})
    return [{"name": topic, "partition_data": entries} for topic, entries in topics.items()]
