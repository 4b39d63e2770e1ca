"""Clients for the conformance suite. Every test runs on the local broker and, marked `real`, on Apache Kafka."""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.conformance.members import Member
from tests.conformance.transactional import Transactional

from millstream.testing.plugin import Cluster
from millstream.testing.wire import Connection, Wire, record_batch

PATIENCE_SECONDS = 60.0
READ_UNCOMMITTED, READ_COMMITTED = 0, 1


def within(ready: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first truthy answer of `ready`; the test fails if there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return answer


class Clients:
    """Clients of one cluster for one test, all closed when it ends. Settings are librdkafka's, `_` for `.`."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.wire = Wire(cluster.bootstrap)
        self.admin = AdminClient(self._settings({}))
        self._consumers: list[Consumer] = []

    @staticmethod
    def name(prefix: str = "t") -> str:
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def name_at(self, broker: Connection, coordinator_of: Callable[[str], Connection]) -> str:
        """A new name that `broker` coordinates, of whatever kind `coordinator_of` asks for."""
        return within(lambda: name if coordinator_of(name := self.name()) is broker else None, "a name for the broker")

    def topic(self, partitions: int = 1, *, one_leader: bool = False, **config: Any) -> str:
        """A new topic that every broker knows and whose leaders answer; with `one_leader` broker 1 leads all of it."""
        name = self.name()
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        replicas = {"replica_assignment": [[1]] * partitions} if one_leader else {}
        new = NewTopic(name, partitions, config=settings, **replicas)
        self.admin.create_topics([new])[name].result(PATIENCE_SECONDS)
        within(lambda: all(self._knows(broker, name) for broker in self.wire.brokers()), f"{name} everywhere")
        within(lambda: all(self._leads(name, partition) for partition in range(partitions)), f"leaders of {name}")
        return name

    @staticmethod
    def _knows(broker: Connection, topic: str) -> bool:
        topics = [{"topic_id": UUID(int=0), "name": topic}]
        asked = {"allow_auto_topic_creation": False, "include_topic_authorized_operations": False}
        (found,) = broker.ask("metadata", 12, topics=topics, **asked).topics
        return found.error_code.name == "none" and all(p.error_code.name == "none" for p in found.partitions)

    def _leads(self, topic: str, partition: int) -> bool:
        return self.list_offset(topic, -1, partition=partition).error_code.name == "none"

    def producer(self, **config: Any) -> Producer:
        return Producer(self._settings({"linger_ms": 0, **config}))

    def transactional(self, transactional_id: str | None = None, **config: Any) -> Producer:
        """A transactional producer that has fenced its predecessors."""
        producer = self.producer(transactional_id=transactional_id or self.name("txn"), **config)
        producer.init_transactions(PATIENCE_SECONDS)
        return producer

    def consumer(self, *subscribed: str, **config: Any) -> Consumer:
        """A consumer that reads from the beginning, committed records only, unless told otherwise."""
        defaults = {
            "group_id": self.name("g"),
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "enable_partition_eof": True,
            "fetch_wait_max_ms": 100,
            "session_timeout_ms": 6000,
            "heartbeat_interval_ms": 200,
        }
        consumer = Consumer(self._settings({**defaults, **config}))
        self._consumers.append(consumer)
        if subscribed:
            consumer.subscribe(list(subscribed))
        return consumer

    def _settings(self, config: dict[str, Any]) -> dict[str, Any]:
        dotted = {key.replace("_", "."): value for key, value in config.items()}
        return {"bootstrap.servers": self.cluster.bootstrap, "log_level": 2, **dotted}

    def closed(self, consumer: Consumer) -> None:
        self._consumers.remove(consumer)
        consumer.close()

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        self.wire.close()

    def send(self, topic: str, *values: str | None, partition: int = 0, producer: Producer | None = None) -> list[int]:
        """Produce and wait for the offsets."""
        reports: list[tuple[KafkaError | None, Message]] = []
        chosen = producer or self.producer()
        for value in values:
            chosen.produce(topic, value, partition=partition, on_delivery=lambda *report: reports.append(report))
        assert chosen.flush(PATIENCE_SECONDS) == 0
        for error, _ in reports:
            if error:
                raise KafkaException(error)
        return [message.offset() for _, message in reports]

    def read(self, topic: str, partitions: int = 1, isolation: str = "read_committed", start: int = 0) -> list[str]:
        """Every value from `start` to the present end, partition by partition."""
        consumer = self.consumer(isolation_level=isolation)
        consumer.assign([TopicPartition(topic, p, start) for p in range(partitions)])
        values: dict[int, list[str]] = {p: [] for p in range(partitions)}
        at_end: set[int] = set()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(at_end) < partitions:
            assert time.monotonic() < deadline, f"the end of {topic} was not reached"
            if (message := consumer.poll(0.5)) is None:
                continue
            if error := message.error():
                assert error.code() == KafkaError._PARTITION_EOF, error
                at_end.add(message.partition())
            else:
                values[message.partition()].append((message.value() or b"").decode())
        self.closed(consumer)
        return [value for partition in values.values() for value in partition]

    def expect(self, topic: str, values: list[str], **reading: Any) -> None:
        """Wait until reading gives exactly these values: a commit is answered before its markers are written."""
        found: list[list[str]] = []

        def as_expected() -> bool:
            found.append(self.read(topic, **reading))
            return found[-1] == values or len(found[-1]) > len(values)

        with contextlib.suppress(AssertionError):
            within(as_expected, "the values", seconds=10)
        assert found[-1] == values

    def poll(self, consumer: Consumer, count: int, seconds: float = PATIENCE_SECONDS) -> list[Message]:
        """The next `count` records; the test fails if they do not come."""
        found: list[Message] = []
        deadline = time.monotonic() + seconds
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} records within {seconds:g} s"
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                found.append(message)
        return found

    def assigned(self, *consumers: Consumer, partitions: int) -> list[set[int]]:
        """Wait until the consumers together hold `partitions` partitions, each one some; what each holds."""

        def shares() -> list[set[int]] | None:
            for consumer in consumers:
                consumer.poll(0.02)
            held = [{p.partition for p in consumer.assignment()} for consumer in consumers]
            complete = sum(map(len, held)) == partitions and all(held)
            return held if complete else None

        return within(shares, "the assignment")

    def append(self, topic: str, batch: bytes, *, acks: int = -1, transactional_id: str | None = None) -> Any:
        """One Produce request by hand; the partition's answer."""
        data = [{"name": topic, "partition_data": [{"index": 0, "records": batch}]}]
        answer = self.wire.leader_of(topic).ask(
            "produce", 10, transactional_id=transactional_id, acks=acks, timeout=10_000, topic_data=data
        )
        return answer.responses[0].partition_responses[0]

    def list_offset(self, topic: str, timestamp: int, isolation: int = READ_UNCOMMITTED, partition: int = 0) -> Any:
        """One ListOffsets request by hand: -1 latest, -2 earliest, -3 greatest timestamp; the partition's answer."""
        topics = [{"name": topic, "partitions": [{"partition_index": partition, "timestamp": timestamp}]}]
        leader = self.wire.leader_of(topic, partition)
        answer = leader.ask("list_offsets", 7, replica_id=-1, isolation_level=isolation, topics=topics)
        return answer.topics[0].partitions[0]

    def fetch(
        self, topic: str, offset: int, *, isolation: int = READ_UNCOMMITTED, max_bytes: int = 1 << 20, wait_ms: int = 0
    ) -> Any:
        """One Fetch request by hand; the partition's answer."""
        partition = {"partition": 0, "fetch_offset": offset, "partition_max_bytes": max_bytes}
        answer = self.wire.leader_of(topic).ask(
            "fetch",
            16,
            max_wait=wait_ms,
            min_bytes=1,
            isolation_level=isolation,
            topics=[{"topic_id": self.wire.topic_id(topic), "partitions": [partition]}],
            forgotten_topics_data=[],
        )
        return answer.responses[0].partitions[0]

    def producer_id(self, transactional_id: str | None = None, timeout_ms: int = 10_000, **more: Any) -> Any:
        """One InitProducerId request by hand, asked again while the last transaction is being completed."""
        asked = {"transactional_id": transactional_id, "transaction_timeout": timeout_ms, **more}
        broker = self.wire.coordinator_of_transactions(transactional_id) if transactional_id else self.wire.any

        def settled() -> Any:
            answer = broker.ask("init_producer_id", 4, **asked)
            passing = answer.error_code.name in ("concurrent_transactions", "coordinator_load_in_progress")
            return None if passing else answer

        return within(settled, "a producer id")


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[Clients]:
    made = Clients(cluster)
    yield made
    made.close()


@pytest.fixture
def batch() -> Callable[..., bytes]:
    """A record batch of the given values, for `Clients.append`."""

    def made(*values: str, **fields: Any) -> bytes:
        encoded: Sequence[bytes] = [value.encode() for value in values]
        return record_batch(encoded, **fields)

    return made


@pytest.fixture
def wait() -> Callable[..., Any]:
    """`within`: wait for a condition, with a bound."""
    return within


@pytest.fixture
def member(clients: Any) -> Any:
    """Makes members of one group of this test's own, that speak by hand."""
    group = clients.name("g")
    return lambda instance=None, through=None: Member(clients, group, instance, through)


@pytest.fixture
def elsewhere(cluster: Any) -> Iterator[Any]:
    """Makes further connections, for members that have to wait for each other."""
    with contextlib.ExitStack() as open_ones:
        yield lambda: open_ones.enter_context(Wire(cluster.bootstrap))


@pytest.fixture
def transactional(clients: Any, batch: Any) -> Any:
    return lambda *args, **named: Transactional(clients, batch, *args, **named)
