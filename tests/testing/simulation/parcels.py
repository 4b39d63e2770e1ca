"""A service in a world: two instances that ship what customers pay for, whatever goes wrong."""

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.runtime.rig import Parcels

from millstream.contracts import Contracts, edge_id, header_writer
from millstream.declare import Kind
from millstream.errors import Unavailable
from millstream.kafka import TopicSpec
from millstream.runtime.kafka_worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.simulation import CALM, Faults, Process, World
from millstream.testing.simulation.registry import SimulatedRegistry

_names = itertools.count()


class Shop:
    """Customers pay `payments` times for some orders; each payment gets a shipment with the order's next number."""

    def __init__(self, world: World, payments: int = 200, orders: int = 20) -> None:
        self.world = world
        self.parcels = Parcels(f"p{next(_names)}")
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

    def check(self) -> None:
        """Nothing is lost, nothing is done twice, nothing was done on the wrong state."""
        decode = self.contracts.decoder([self.parcels.shipments]).decode
        numbers: dict[str, list[int]] = {}
        for batch in self.world.kafka().read_to_end(self.parcels.shipments.name):
            for message in batch:
                shipped = decode(message.value())
                numbers.setdefault(shipped.order_id, []).append(shipped.number)
        assert numbers == {order: list(range(1, count + 1)) for order, count in Counter(self.paid).items()}

    def _settings(self, slot: int) -> Settings:
        return Settings(slot=slot, session_timeout_ms=6_000, heartbeat_interval_ms=300, commit_interval_ms=20)

    def _make_topics(self) -> None:
        parcels, service = self.parcels, self.parcels.service
        specs = [TopicSpec(topic.name, 2) for topic in (parcels.payments, parcels.shipments)]
        specs += [TopicSpec(topic.dead_letters, 1) for topic in service.consumed()]
        specs += [TopicSpec(store.changelog(service.name), 2) for store in service.stores()]
        self.world.kafka().admin().ensure_topics(specs)

    def _instance(self, slot: int) -> Process:
        def main() -> None:
            settings = self._settings(slot)
            kafka = self.world.kafka(settings, f"shipping-{slot}")
            KafkaWorker(self.parcels.service, settings, self.contracts, kafka).run(self.world.event())

        return self.world.process(f"shipping-{slot}", main)

    def _pay(self) -> None:
        producer, random = self.world.kafka().producer(), self.world.random
        head = header_writer(self.parcels.Paid, "test")
        while len(self.paid) < self._payments:
            for _ in range(random.randint(1, 10)):
                order = f"o-{random.randrange(self._orders)}"
                event, id = self.parcels.Paid(order_id=order, grams=1), edge_id()
                headers = head(id, id, None, None)
                producer.produce(self.parcels.payments.name, self.contracts.encode(event), order.encode(), headers)
                self.paid.append(order)
            producer.flush(60)
            self.world.sleep(random.uniform(0, 1))
        producer.close()

    def _caught_up(self) -> bool:
        group, topic = self.parcels.service.group(Kind.KAFKA), self.parcels.payments.name
        try:
            return sum(each.lag for each in self.world.kafka().admin().group_lag(group, [topic])) == 0
        except Unavailable:
            # A frozen instance holds a transaction open: what will be committed is not known yet.
            return False


@contextmanager
def shop(seed: int, faults: Faults, payments: int = 200) -> Iterator[Shop]:
    with World(seed, faults) as world:
        yield Shop(world, payments)
