"""A service in a world: two instances that ship what customers pay for, whatever goes wrong."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.runtime.rig import Parcels

from millstream.contracts import Contracts, edge_id, header_writer
from millstream.declare import Kind
from millstream.errors import Unavailable
from millstream.kafka import Producer
from millstream.operate.assembly import topics_of
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.simulation import CALM, ROUGH, Faults, Process, SimulatedRegistry, World


class Shop:
    """Customers pay `payments` times for some orders; each payment gets a shipment with the order's next number."""

    def __init__(self, world: World, payments: int = 200, orders: int = 20, **options: Any) -> None:
        self.world = world
        self.parcels = Parcels("parcels", **options)
        self.contracts = Contracts(SimulatedRegistry())
        self.contracts.register([self.parcels.Paid, self.parcels.Shipped])
        self.paid: list[str] = []
        self._payments, self._orders = payments, orders
        self._make_topics()
        self.customer = world.process("customer", self._pay, restart=False)
        self.instances = [self._instance(slot) for slot in range(2)]

    def finish(self) -> None:
        """Let everybody pay, then all trouble end, then the service catch up."""
        self.world.until(lambda: not self.customer.running, 600, "the customer to have paid", every=0.1)
        assert self.customer.error is None, self.customer.error
        self.world.faults = CALM
        self.world.broker.restart()
        self.world.until(self._caught_up, 600, "the service to catch up", every=0.5)

    def right(self) -> bool:
        """Whether nothing is lost, nothing was done twice, and nothing on the wrong state."""
        return self._shipped() == {order: list(range(1, count + 1)) for order, count in Counter(self.paid).items()}

    def check(self) -> None:
        assert self.right(), f"paid {Counter(self.paid)}, shipped {self._shipped()}"

    def pay(self, *orders: str) -> None:
        """As a customer of this process."""
        producer = self.world.kafka().producer()
        self._send(producer, *orders)
        producer.close()

    def _shipped(self) -> dict[str, list[int]]:
        decode = self.contracts.decoder([self.parcels.shipments]).decode
        numbers: dict[str, list[int]] = {}
        for batch in self.world.kafka().read_to_end(self.parcels.shipments.name):
            for message in batch:
                shipped = decode(message.value())
                numbers.setdefault(shipped.order_id, []).append(shipped.number)
        return numbers

    def _settings(self, slot: int) -> Settings:
        return Settings(slot=slot, session_timeout_ms=6_000, heartbeat_interval_ms=300, commit_interval_ms=20)

    def _make_topics(self) -> None:
        self.world.kafka().admin().ensure_topics(topics_of(self.parcels.service))

    def _instance(self, slot: int) -> Process:
        settings = self._settings(slot)

        def main() -> None:
            kafka = self.world.kafka(settings, f"shipping-{slot}")
            KafkaWorker(self.parcels.service, settings, self.contracts, kafka).run(threading.Event())

        return self.world.process(f"shipping-{slot}", main)

    def _pay(self) -> None:
        producer, random = self.world.kafka().producer(), self.world.random
        while len(self.paid) < self._payments:
            self._send(producer, *(f"o-{random.randrange(self._orders)}" for _ in range(random.randint(1, 10))))
            self.world.sleep(random.uniform(0, 1))
        producer.close()

    def _send(self, producer: Producer, *orders: str) -> None:
        head = header_writer(self.parcels.Paid, "test")
        for order in orders:
            event, id = self.parcels.Paid(order_id=order, grams=1), edge_id()
            headers = head(id, id, None, None)
            producer.produce(self.parcels.payments.name, self.contracts.encode(event), order.encode(), headers)
            self.paid.append(order)
        producer.flush(60)

    def _caught_up(self) -> bool:
        group, topic = self.parcels.service.group(Kind.KAFKA), self.parcels.payments.name
        try:
            return sum(each.lag for each in self.world.kafka().admin().group_lag(group, [topic])) == 0
        except Unavailable:
            # A frozen instance holds a transaction open: what will be committed is not known yet.
            return False


@contextmanager
def shop(seed: int, faults: Faults, payments: int = 200, **options: Any) -> Iterator[Shop]:
    with World(seed, faults) as world:
        yield Shop(world, payments, **options)


def timeline(seed: int, faults: Faults = ROUGH, payments: int = 40) -> str:
    """What happens in the shop's world."""
    with shop(seed, faults, payments) as made:
        made.finish()
        made.check()
        return made.world.timeline
