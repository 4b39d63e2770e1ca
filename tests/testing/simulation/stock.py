"""A service with a database in a world: two instances, each a worker and a relay in one process."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import select
from tests.runtime.sql_rig import Stock

from millstream.contracts import Contracts
from millstream.operate.assembly import topics_of
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.relay import Relay
from millstream.runtime.sql.worker import SqlWorker
from millstream.settings import Settings
from millstream.testing.simulation import CALM, Faults, Process, World


class Warehouse:
    """Customers order products; each order gets a reservation with the product's next number."""

    def __init__(self, world: World, orders: int = 100, products: int = 10, **options: Any) -> None:
        self.world = world
        self.stock = Stock("warehouse", **options)
        self.service = self.stock.service
        self.ordered: list[str] = []
        self._orders, self._products = orders, products
        world.kafka().admin().ensure_topics(topics_of(self.stock.service))
        self.customer = world.process("customer", self._order, restart=False)
        self.instances = [self._instance(slot) for slot in range(2)]

    def finish(self) -> None:
        self.world.until(lambda: not self.customer.running, 600, "the customer to have ordered", every=0.1)
        assert self.customer.error is None, self.customer.error
        self.world.faults = CALM
        self.world.broker.restart()
        self.world.until(lambda: len(self._published()) >= len(self.ordered), 600, "all to be published", every=0.5)
        self.world.sleep(5)

    def check(self) -> None:
        numbers: dict[str, list[int]] = {}
        for event in self._published():
            numbers.setdefault(event["product"], []).append(event["number"])
        counts = Counter(self.ordered)
        assert numbers == {product: list(range(1, count + 1)) for product, count in counts.items()}
        products = self.stock.products.c
        with open_database(self.service, self._settings(0)).connect() as connection:
            assert {
                row.product: row.number for row in connection.execute(select(products.product, products.number))
            } == counts

    def _published(self) -> list[Any]:
        batches = self.world.kafka().read_to_end(self.stock.reserved.name)
        return [msgspec.json.decode(message.value() or b"") for batch in batches for message in batch]

    def _settings(self, slot: int) -> Settings:
        return Settings(
            slot=slot,
            data_dir=self.world.folder,
            database_url=None,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=300,
            commit_interval_ms=20,
        )

    def _instance(self, slot: int) -> Process:
        settings = self._settings(slot)

        def main() -> None:
            kafka = self.world.kafka(settings, f"stock-{slot}")
            engine, wake = open_database(self.service, settings), threading.Event()
            try:
                relay = Relay(self.service, kafka, engine, wake)
                threading.Thread(target=relay.run, args=(threading.Event(),), name=f"relay-{slot}").start()
                SqlWorker(self.service, settings, Contracts(None), kafka, engine, wake).run(threading.Event())
            finally:
                engine.dispose()

        return self.world.process(f"stock-{slot}", main)

    def _order(self) -> None:
        producer, random = self.world.kafka().producer(), self.world.random
        while len(self.ordered) < self._orders:
            for _ in range(random.randint(1, 10)):
                product = f"p-{random.randrange(self._products)}"
                value = msgspec.json.encode({"product": product, "quantity": 1})
                producer.produce(self.stock.orders.name, value, product.encode())
                self.ordered.append(product)
            producer.flush(60)
            self.world.sleep(random.uniform(0, 1))
        producer.close()


@contextmanager
def warehouse(seed: int, faults: Faults, orders: int = 100) -> Iterator[Warehouse]:
    with World(seed, faults) as world:
        yield Warehouse(world, orders)
