"""A broker in a process of its own, real clients against it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from tests.local.broker.world import World

T = TypeVar("T")
PATIENCE = 60.0


class BrokerProcess:
    """`millstream broker` over one folder; it may be killed and started again on the same port."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self._options = options
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        command = [
            sys.executable, "-m", "millstream.local", "--json", "--exit-with-parent",
            "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}", *self._options,
        ]  # fmt: skip
        with (self.data.parent / "broker.log").open("a") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self.data.parent / "broker.log").read_text()
        self._port = int(json.loads(line)["bootstrap"].rpartition(":")[2])

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: int) -> int:
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(how)
        code = process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def producer(self, **settings: Any) -> Producer:
        return Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "linger.ms": 0,
                "acks": "all",
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 20,
                "log_level": 0,
                **{key.replace("_", "."): value for key, value in settings.items()},
            }
        )

    def transactional(self, transactional_id: str, **settings: Any) -> Producer:
        producer = self.producer(transactional_id=transactional_id, transaction_timeout_ms=10_000, **settings)
        producer.init_transactions(PATIENCE)
        return producer

    def consumer(self, group: str = "readers", **settings: Any) -> Consumer:
        return Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.queue.backoff.ms": 10,
                "heartbeat.interval.ms": 100,
                "session.timeout.ms": 6000,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
                **{key.replace("_", "."): value for key, value in settings.items()},
            }
        )

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create(self, topic: str, partitions: int = 1, **config: str) -> str:
        new = NewTopic(topic, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
        admin = self.admin()
        admin.create_topics([new])[topic].result(PATIENCE)
        return topic

    def read_all(self, topic: str, partitions: int = 1, isolation: str = "read_committed") -> list[Message]:
        """What a reader from the beginning sees, up to the end that the broker names now."""
        consumer = self.consumer("", isolation_level=isolation, enable_partition_eof=True, group_id="read-all")
        consumer.assign([TopicPartition(topic, index, 0) for index in range(partitions)])
        messages: list[Message] = []
        ended: set[int] = set()
        try:
            give_up = time.monotonic() + PATIENCE
            while len(ended) < partitions:
                assert time.monotonic() < give_up, f"read {len(messages)} messages and no end"
                message = consumer.poll(0.2)
                if message is None:
                    continue
                if message.error() is None:
                    messages.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        finally:
            consumer.close()
        return messages


def send(producer: Producer, topic: str, *values: str, partition: int = 0) -> list[Message]:
    """Produce and wait until all are acknowledged; the acknowledged messages in order."""
    delivered: list[Message] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        assert error is None, error
        delivered.append(message)

    for value in values:
        producer.produce(topic, value.encode(), partition=partition, on_delivery=on_delivery)
    assert producer.flush(PATIENCE) == 0
    return delivered


def values(messages: list[Message]) -> list[str]:
    return [(message.value() or b"").decode() for message in messages]


def take(consumer: Consumer, count: int) -> list[Message]:
    """Exactly the next `count` messages."""
    messages: list[Message] = []
    give_up = time.monotonic() + PATIENCE
    while len(messages) < count:
        assert time.monotonic() < give_up, f"got {values(messages)}, {count} wanted"
        message = consumer.poll(0.1)
        if message is not None:
            assert message.error() is None, message.error()
            messages.append(message)
    return messages


def until(condition: Callable[[], T], what: str = "") -> T:
    """Wait for the condition to hold; its value."""
    give_up = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < give_up, what or condition
        time.sleep(0.01)
    return found


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path / "data")
    yield process
    process.stop()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path / "data")
    world.broker.topics.create("t", 2, {})
    return world
