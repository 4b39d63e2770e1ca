"""A service that counts parcels, and what a test needs to run it: in this process, or in one to be killed."""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Annotated, Any

from tests.runtime.diary import redriven
from tests.runtime.running import Running

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import (
    Event,
    Kind,
    OnFailure,
    Retry,
    Service,
    State,
    Store,
    Topic,
    Value,
    dead_letter,
    exponential,
)
from millstream.errors import Rejected
from millstream.kafka import Message, connect
from millstream.operate.assembly import topics_of
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.records.redrive import Action
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

HEAVY = 1_000_000
"""A payment for more grams than this yields a second shipment, of so many bytes: more than a broker takes."""

ROOT = Path(__file__).parents[2]


class Parcels:
    """The declarations, with names of their own for each test.

    Every payment gets a shipment that says how many its order has had so far: any event lost, handled twice, or handled
    on the wrong state shows in the numbers.
    """

    def __init__(self, name: str, on_failure: OnFailure = dead_letter, **options: Any) -> None:
        class Paid(Event, key="order_id", namespace="test"):
            order_id: str
            grams: int = 0
            noted: int = 0

        class Shipped(Event, key="order_id", namespace="test"):
            order_id: str
            number: int
            note: str = ""

        class Count(Value, namespace="test"):
            number: int
            note: str = ""

        self.name, self.Paid, self.Shipped, self.Count = name, Paid, Shipped, Count
        self.payments = Topic(f"{name}.payments", Paid, partitions=2)
        self.shipments = Topic(f"{name}.shipments", Shipped, partitions=2)
        self.counts = Store("counts", Count)
        self.service = service = Service(f"{name}-shipping", **options)
        self.trouble: Callable[[Any], None] = lambda paid: None

        @service.on(Paid, retry=Retry(attempts=3, backoff=exponential(0.01)), on_failure=on_failure)
        def ship(paid: Paid, counts: Annotated[State[Count], self.counts]) -> Iterator[Shipped]:
            before = counts.get(paid.order_id)
            number = before.number + 1 if before else 1
            counts.put(paid.order_id, Count(number=number, note="x" * paid.noted))
            if paid.grams < 0:
                raise Rejected("weightless", f"{paid.grams} g")
            self.trouble(paid)
            yield Shipped(order_id=paid.order_id, number=number)
            if paid.grams > HEAVY:
                yield Shipped(order_id=paid.order_id, number=number, note="x" * paid.grams)

        self.ship = ship


class Rig:
    """One service on one cluster."""

    def __init__(self, bootstrap: str, registry: str, name: str | None = None, **options: Any) -> None:
        self.name = name or f"t{uuid.uuid4().hex[:8]}"
        self.parcels = Parcels(self.name, **options)
        self.service = self.parcels.service
        self.bootstrap, self.registry = bootstrap, registry
        self.kafka = connect(self.settings(0), self.name)
        self._producer = self.kafka.producer()
        self.contracts = Contracts(Registry(registry))

    def settings(self, slot: int) -> Settings:
        return Settings(
            bootstrap_servers=self.bootstrap,
            registry_url=self.registry,
            slot=slot,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )

    def close(self) -> None:
        self._producer.close()

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.service))
        admin.close()

    def worker(self, slot: int = 0) -> KafkaWorker:
        return KafkaWorker(self.service, self.settings(slot), self.contracts, self.kafka)

    @contextmanager
    def running(self, worker: KafkaWorker | None = None) -> Iterator[Running[KafkaWorker]]:
        running = Running(worker or self.worker())
        try:
            yield running
        finally:
            running.stop()

    def child(self, output: Path, slot: int = 0) -> Popen[bytes]:
        """The same worker in a process of its own."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.runtime.rig import main; main()"
        arguments = json.dumps([self.bootstrap, self.registry, self.name, slot])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def pay(self, *payments: tuple[str, int]) -> None:
        self.send(self.parcels.payments, [self.parcels.Paid(order_id=order, grams=grams) for order, grams in payments])

    def send(self, topic: Topic, events: Sequence[Any]) -> None:
        for event in events:
            id = edge_id()
            headers = header_writer(type(event), "test")(id, id, None, None)
            self._producer.produce(topic.name, self.contracts.encode(event), event.order_id.encode(), headers)
        self._producer.flush()

    def send_raw(self, topic: Topic, value: bytes | None, key: bytes | None, headers: Any = None) -> None:
        self._producer.produce(topic.name, value, key, headers)
        self._producer.flush()

    def redrive(self, letter: Message, value: bytes) -> None:
        """Hand a dead letter in again, with another value."""
        topic, key, _, headers, partition = redriven(letter, self.service.redrive_topic(Kind.KAFKA), Action.HANDLE)
        self._producer.produce(topic, value, key, headers, partition)
        self._producer.flush()

    def records(self, topic: str, isolation: Any = "read_committed") -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, isolation=isolation, timeout=20) for m in batch]

    def shipped(self) -> dict[str, list[int]]:
        """The numbers that each order's shipments carry, in order."""
        decode = self.contracts.decoder([self.parcels.shipments]).decode
        found: dict[str, list[int]] = {}
        for message in self.records(self.parcels.shipments.name):
            event = decode(message.value())
            found.setdefault(event.order_id, []).append(event.number)
        return found

    def dead_letters(self) -> list[Message]:
        return self.records(self.parcels.payments.dead_letters)

    def lag(self) -> int:
        admin = self.kafka.admin()
        try:
            found = admin.group_lag(self.service.group(Kind.KAFKA), [self.parcels.payments.name])
        finally:
            admin.close()
        return sum(partition.lag for partition in found)

    def wait_until_caught_up(self, seconds: float = 120) -> None:
        wait_until(lambda: self.lag() == 0, seconds=seconds, what=f"{self.service.name} to catch up", every=0.05)


def main() -> None:
    bootstrap, registry, name, slot = json.loads(sys.argv[1])
    Rig(bootstrap, registry, name).worker(slot).run(threading.Event())
