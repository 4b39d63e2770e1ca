"""The three that keep to the port: librdkafka on the local broker and on Apache Kafka, and the simulation.

Tests wait with `until` and tell the time with `clock`: in the simulation time passes only while somebody waits.
"""

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
from tests.kafka.proxy import Proxy

from millstream.kafka import Consumer, Kafka, Message, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.child import end, first_line, last_lines, spawn, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.simulation import Crashed, RequestOutcome, World

SETTINGS = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 300}
_numbers = itertools.count(time.time_ns() // 1_000_000)


class Flaky(Protocol):
    """A way to the broker that can be made to fail."""

    hits: threading.Event
    """Set when an answer was lost."""

    def lose(self, *api_keys: int) -> None:
        """From now on hang up instead of answering such requests; the broker has carried them out."""
        ...

    def lose_once(self, api_key: int) -> None: ...
    def hold(self, api_key: int) -> None:
        """Hang up on the next such request, and keep it."""
        ...

    def release(self) -> None:
        """Let it arrive after all; returns when the broker has carried it out."""
        ...

    def cut(self) -> None:
        """From now on nobody gets through."""
        ...

    def heal(self) -> None: ...


class Broker:
    """A broker under test, and clients of it that are closed when the test ends."""

    bootstrap: str

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.kafka = self.connect()

    def connect(self, **settings: Any) -> Kafka:
        """The port, with other settings than `kafka` has."""
        raise NotImplementedError

    def nobody(self) -> tuple[str, Kafka]:
        """An address at which nobody answers, and the port to it."""
        raise NotImplementedError

    def flaky(self) -> tuple[Flaky, Kafka]:
        """A way that can fail, and the port over it."""
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def clock(self) -> float:
        """Seconds."""
        raise NotImplementedError

    def until(self, ready: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        """Ask again and again; the asking itself may wait."""
        raise NotImplementedError

    def together(self, count: int, work: Callable[[], None]) -> None:
        """Do the same several times at once."""
        raise NotImplementedError

    def doomed(self, group: str, topic: str, output: Path) -> Callable[[], bool]:
        """An instance in a process of its own that has both partitions, and dies by kill -9 when it is to give one up;
        says whether it has."""
        raise NotImplementedError

    def name(self, kind: str) -> str:
        return f"{kind}-{next(_numbers)}"

    def topic(self, partitions: int = 1, **config: str) -> str:
        spec = TopicSpec(self.name("topic"), partitions, config)
        self.kafka.admin().ensure_topics([spec])
        return spec.name

    def write(self, topic: str, *values: bytes, partition: int = -1) -> None:
        # An idempotent producer of librdkafka's takes half a second to get its id.
        producer = self.connect(kafka={"enable.idempotence": "false"}).producer()
        for value in values:
            producer.produce(topic, value, value, partition=partition)
        producer.flush()
        producer.close()

    def values(self, topic: str, isolation: Any = "read_committed") -> list[bytes | None]:
        batches = self.kafka.read_to_end(topic, isolation=isolation, timeout=20)
        return [message.value() for batch in batches for message in batch]

    def closing(self, client: Any) -> Any:
        self._stack.callback(client.close)
        return client

    def assigned(self, consumer: Consumer) -> None:
        """Poll until it has partitions; nothing comes from them yet."""
        self.until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), "an assignment")

    def take(self, consumer: Consumer, count: int, seconds: float = 60.0) -> list[Message]:
        """Read until there are `count` records."""
        found: list[Message] = []

        def enough() -> bool:
            found.extend(consumer.poll_batch(200, 0.1))
            return len(found) >= count

        self.until(enough, f"{count} records", seconds)
        return found


class RealBroker(Broker):
    """librdkafka on a broker that runs in a process of its own."""

    def __init__(self, bootstrap: str, kill: Callable[[], None], restart: Callable[[], None], stack: ExitStack) -> None:
        self.bootstrap, self._kill, self._restart = bootstrap, kill, restart
        super().__init__(stack)

    def connect(self, **settings: Any) -> Kafka:
        return connect(Settings(**{"bootstrap_servers": self.bootstrap, **SETTINGS, **settings}), "test")

    def nobody(self) -> tuple[str, Kafka]:
        return "127.0.0.1:1", self.connect(bootstrap_servers="127.0.0.1:1")

    def flaky(self) -> tuple[Flaky, Kafka]:
        proxy = self.closing(Proxy(self.bootstrap))
        return proxy, self.connect(bootstrap_servers=proxy.bootstrap)

    def kill(self) -> None:
        self._kill()

    def restart(self) -> None:
        self._restart()

    def clock(self) -> float:
        return time.monotonic()

    def until(self, ready: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        wait_until(ready, seconds=seconds, what=what, every=0.005)

    def together(self, count: int, work: Callable[[], None]) -> None:
        with ThreadPoolExecutor(count) as pool:
            for future in [pool.submit(work) for _ in range(count)]:
                future.result(60)

    def doomed(self, group: str, topic: str, output: Path) -> Callable[[], bool]:
        command = [sys.executable, "-c", _DOOMED, self.bootstrap, group, topic]
        child = spawn(command, output=output, stdout=subprocess.PIPE)
        self._stack.callback(end, child)
        assert first_line(child, 30) == b"all\n", last_lines(output)
        return lambda: child.poll() is not None


_DOOMED = """
import os, signal, sys
from millstream.kafka import connect
from millstream.settings import Settings
bootstrap, group, topic = sys.argv[1:]
consumer = connect(Settings(bootstrap_servers=bootstrap, heartbeat_interval_ms=300), "test").consumer(
    group, instance="slot-0"
)
consumer.subscribe([topic], on_revoked=lambda partitions: os.kill(os.getpid(), signal.SIGKILL))
while True:
    consumer.poll_batch(10, 0.1)
    if len(consumer.assignment()) == 2:
        print("all", flush=True)
"""


class SimulatedBroker(Broker):
    """The simulation, in a world of the test's own."""

    def __init__(self, world: World, stack: ExitStack) -> None:
        self.world = world
        self.bootstrap = world.broker.address
        super().__init__(stack)

    def connect(self, **settings: Any) -> Kafka:
        return self.world.kafka(Settings(**{**SETTINGS, **settings}), "test")

    def nobody(self) -> tuple[str, Kafka]:
        self.kill()
        return self.bootstrap, self.kafka

    def flaky(self) -> tuple[Flaky, Kafka]:
        return _FlakyWay(self.world), self.kafka

    def kill(self) -> None:
        self.world.broker.kill()

    def restart(self) -> None:
        self.world.broker.restart()

    def clock(self) -> float:
        return self.world.now / 1_000_000

    def until(self, ready: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
        self.world.until(ready, seconds, what, every=0.005)

    def together(self, count: int, work: Callable[[], None]) -> None:
        workers = [self.world.process(f"worker-{number}", work, restart=False) for number in range(count)]
        self.until(lambda: not any(worker.running for worker in workers), "all to be done")
        assert [worker.error for worker in workers] == [None] * count

    def doomed(self, group: str, topic: str, output: Path) -> Callable[[], bool]:
        def die(partitions: object) -> None:
            raise Crashed

        def main() -> None:
            consumer = self.connect().consumer(group, instance="slot-0")
            consumer.subscribe([topic], on_revoked=die)
            try:
                while True:
                    consumer.poll_batch(10, 0.1)
                    if len(consumer.assignment()) == 2:
                        both.set()
            finally:
                process.kill()

        both = threading.Event()
        process = self.world.process("doomed", main, restart=False)
        self.until(both.is_set, "both partitions to be assigned")
        return lambda: not process.running


class _FlakyWay:
    def __init__(self, world: World) -> None:
        self.hits = threading.Event()
        self._world = world
        self._lost: set[int] = set()
        self._once = False
        self._hold: int | None = None
        world.broker.decide_outcome = self._decide_outcome

    def lose(self, *api_keys: int) -> None:
        self._lost = set(api_keys)

    def lose_once(self, api_key: int) -> None:
        self._once = True
        self.lose(api_key)

    def hold(self, api_key: int) -> None:
        self._hold = api_key

    def release(self) -> None:
        assert self._world.broker.held
        self._world.broker.release()
        self._world.sleep(0.1)

    def cut(self) -> None:
        self._world.broker.cut()

    def heal(self) -> None:
        self._world.broker.heal()
        self._lost = set()

    def _decide_outcome(self, api_key: int) -> RequestOutcome | None:
        if api_key == self._hold:
            self._hold = None
            return "held"
        if api_key not in self._lost:
            return None
        self.hits.set()
        if self._once:
            self.heal()
        return "answer lost"


def local_broker(local: LocalKafka, stack: ExitStack) -> Broker:
    return RealBroker(local.bootstrap, local.kill, local.restart, stack)


def someone_elses_broker(bootstrap: str, stack: ExitStack) -> Broker:
    """The cluster that `--kafka-at` names: it is not ours to kill."""

    def kill() -> None:
        pytest.skip("needs an Apache Kafka of its own: run it without --kafka-at")

    return RealBroker(bootstrap, kill, lambda: None, stack)
