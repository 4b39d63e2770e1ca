"""Every test of this room runs on the local broker, and (marked `real`) on Apache Kafka."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from millstream.kafka import Consumer, Kafka, Message, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.apache import ApacheKafka
from millstream.testing.child import wait_until

_numbers = itertools.count(time.time_ns() // 1_000_000)


class Broker:
    """The broker under test, and clients of it that are closed when the test ends."""

    def __init__(self, bootstrap: str, kill: Callable[[], None], restart: Callable[[], None], stack: ExitStack) -> None:
        self.bootstrap, self.kill, self.restart, self._stack = bootstrap, kill, restart, stack
        self.settings = Settings(bootstrap_servers=bootstrap, session_timeout_ms=6_000, heartbeat_interval_ms=300)
        self.kafka: Kafka = connect(self.settings, "test")

    def name(self, kind: str) -> str:
        return f"{kind}-{next(_numbers)}"

    def topic(self, partitions: int = 1, **config: str) -> str:
        spec = TopicSpec(self.name("topic"), partitions, config)
        self.kafka.admin().ensure_topics([spec])
        return spec.name

    def write(self, topic: str, *values: bytes, partition: int = -1) -> None:
        # An idempotent producer takes half a second to get its id.
        hasty = self.settings.model_copy(update={"kafka": {"enable.idempotence": "false"}})
        producer = connect(hasty, "test").producer()
        for value in values:
            producer.produce(topic, value, value, partition=partition)
        producer.flush()
        producer.close()

    def values(self, topic: str, isolation: str = "read_committed") -> list[bytes]:
        batches = self.kafka.read_to_end(topic, isolation=isolation, timeout=20)
        return [message.value() for batch in batches for message in batch]

    def closing(self, client):
        self._stack.callback(client.close)
        return client


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Apache Kafka that is gone altogether when its only node is killed."""
    with ApacheKafka(tmp_path_factory.mktemp("one-node"), nodes=1) as apache:
        yield apache


@pytest.fixture(params=["local", pytest.param("apache", marks=pytest.mark.real)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with ExitStack() as stack:
        if request.param == "local":
            local = request.getfixturevalue("shared_kafka")
            yield Broker(local.bootstrap, local.kill, local.restart, stack)
        else:
            apache = request.getfixturevalue("one_node")
            yield Broker(apache.bootstrap, lambda: apache.kill(1), lambda: apache.restart(1), stack)


@pytest.fixture
def kafka(broker: Broker) -> Kafka:
    return broker.kafka


def take(consumer: Consumer, count: int, seconds: float = 20.0) -> list[Message]:
    """Read until there are `count` records."""
    found: list[Message] = []

    def enough() -> bool:
        found.extend(consumer.poll_batch(200, 0.1))
        return len(found) >= count

    wait_until(enough, seconds=seconds, what=f"{count} records", every=0)
    return found
