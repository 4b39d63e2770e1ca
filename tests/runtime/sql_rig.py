"""A service that keeps a stock in its database, and what a test needs to run it, here or in a process to be killed."""

import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from subprocess import Popen
from typing import Any

import msgspec
from sqlalchemy import Column, Integer, MetaData, Table, Text, select, update
from sqlalchemy.orm import Session
from tests.runtime.diary import redriven
from tests.runtime.running import Running

from millstream.contracts import Contracts
from millstream.declare import (
    Event,
    Kind,
    OnFailure,
    Retry,
    Service,
    Timer,
    Timers,
    Topic,
    dead_letter,
    exponential,
    seconds,
)
from millstream.errors import Rejected
from millstream.kafka import Message, connect
from millstream.operate.assembly import topics_of
from millstream.runtime.records.redrive import Action
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.relay import Relay
from millstream.runtime.sql.worker import SqlWorker
from millstream.runtime.worker import Worker
from millstream.settings import Settings
from millstream.testing.child import spawn, wait_until

ROOT = Path(__file__).parents[2]
PARTITIONS = 2


class Stock:
    """The declarations, with names of their own for each test.

    Each order takes its quantity and gets a number: how many the product has had. Any order lost or handled twice shows
    in the numbers, in the table and in the topic.
    """

    def __init__(
        self,
        name: str,
        *,
        on_failure: OnFailure = dead_letter,
        retry: Retry | None = None,
        inbox: timedelta | None = None,
        identity: Any = None,
        **options: Any,
    ) -> None:
        class Ordered(Event, key="product"):
            product: str
            quantity: int = 1
            remind_in: float | None = None

        class Reserved(Event, key="product"):
            product: str
            number: int
            quantity: int = 0

        class Remind(Timer, key="product"):
            product: str
            quantity: int

        self.Ordered, self.Reserved, self.Remind = Ordered, Reserved, Remind
        self.orders = Topic(f"{name}.orders", Ordered, partitions=PARTITIONS, format="json", identity=identity)
        self.reserved = Topic(f"{name}.reserved", Reserved, partitions=PARTITIONS, format="json")
        tables = MetaData()
        self.products = products = Table(
            "products", tables, Column("product", Text, primary_key=True), Column("number", Integer, nullable=False)
        )
        self.service = service = Service(f"{name}-stock", tables=tables, **options)
        self.trouble: Callable[[Any, Session], None] = lambda order, db: None
        retry = retry or Retry(attempts=3, backoff=exponential(0.01))

        @service.on(Ordered, retry=retry, on_failure=on_failure, inbox=inbox)
        def reserve(order: Ordered, db: Session, timers: Timers) -> Reserved:
            if order.remind_in is not None:
                timers.set(Remind(product=order.product, quantity=order.quantity), after=seconds(order.remind_in))
            before = db.scalar(select(products.c.number).where(products.c.product == order.product))
            number = (before or 0) + 1
            if before is None:
                db.execute(products.insert().values(product=order.product, number=number))
            else:
                db.execute(update(products).where(products.c.product == order.product).values(number=number))
            if order.quantity < 0:
                raise Rejected("negative", f"{order.quantity}")
            self.trouble(order, db)
            return Reserved(product=order.product, number=number, quantity=order.quantity)

        @service.on(Remind, retry=retry, on_failure=on_failure)
        def remind(due: Remind, db: Session) -> Reserved:
            self.trouble(due, db)
            return Reserved(product=due.product, number=-1, quantity=due.quantity)


class SqlRig:
    """One such service on one cluster and one database."""

    def __init__(
        self, bootstrap: str, folder: Path, name: str | None = None, *, database: str | None = None, **options: Any
    ) -> None:
        self.bootstrap, self.folder, self.database = bootstrap, folder, database
        self.name = name or f"t{uuid.uuid4().hex[:8]}"
        self.stock = Stock(self.name, **options)
        self.service = self.stock.service
        self.kafka = connect(self.settings(0), self.name)
        self.contracts = Contracts(None)
        self.engine = open_database(self.service, self.settings(0))
        self.wake = threading.Event()

    def settings(self, slot: int) -> Settings:
        return Settings(
            bootstrap_servers=self.bootstrap,
            slot=slot,
            data_dir=self.folder,
            database_url=self.database,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )

    def make_topics(self) -> None:
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.service))
        admin.close()

    def ids(self) -> dict[str, str]:
        """The id of the topic of orders."""
        admin = self.kafka.admin()
        try:
            return admin.topic_ids([self.stock.orders.name])
        finally:
            admin.close()

    def remake(self, topic: str) -> None:
        """Delete a topic and make it again."""
        before = (admin := self.kafka.admin()).topic_ids([topic])
        admin.delete_topics([topic])
        wait_until(lambda: topic not in admin.topic_ids([topic]), seconds=60, what="the topic to be gone", every=0.02)
        self.make_topics()
        assert admin.topic_ids([topic]) != before
        admin.close()

    def worker(self, slot: int = 0) -> SqlWorker:
        return SqlWorker(self.service, self.settings(slot), self.contracts, self.kafka, self.engine, self.wake)

    def relay(self) -> Relay:
        return Relay(self.service, self.kafka, self.engine, self.wake)

    def child(self, output: Path, slot: int = 0) -> Popen[bytes]:
        """Worker and relay in a process of their own."""
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.runtime.sql_rig import main; main()"
        arguments = json.dumps([self.bootstrap, str(self.folder), self.name, self.database, slot])
        return spawn([sys.executable, "-c", script, arguments], output=output)

    def order(
        self,
        *orders: tuple[str, int],
        id: str | None = None,
        key: bool = True,
        source: bytes | None = None,
        **fields: Any,
    ) -> None:
        made = [(product, {"product": product, "quantity": n, **fields}) for product, n in orders]
        headers = [] if id is None else [("ce_id", id.encode())]
        headers += [] if source is None else [("ce_source", source)]
        self.send(*[(product if key else None, msgspec.json.encode(order)) for product, order in made], headers=headers)

    def send(self, *records: tuple[str | None, bytes], headers: list[tuple[str, bytes]] | None = None) -> None:
        producer = self.kafka.producer()
        for key, value in records:
            producer.produce(self.stock.orders.name, value, None if key is None else key.encode(), headers)
        producer.flush()
        producer.close()

    def records(self, topic: str) -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, timeout=20) for m in batch]

    def published(self) -> dict[str, list[int]]:
        """The numbers that each product's reservations carry, in order."""
        found: dict[str, list[int]] = {}
        for message in self.records(self.stock.reserved.name):
            event = msgspec.json.decode(message.value() or b"")
            found.setdefault(event["product"], []).append(event["number"])
        return found

    def quantities(self, *, reminded: bool = False) -> dict[str, list[int]]:
        """The quantities of each product's reservations, in order; or of its reminders."""
        found: dict[str, list[int]] = {}
        for message in self.records(self.stock.reserved.name):
            event = msgspec.json.decode(message.value() or b"")
            if (event["number"] == -1) == reminded:
                found.setdefault(event["product"], []).append(event["quantity"])
        return found

    def redrive(self, letter: Message, action: Action = Action.HANDLE, value: bytes | None = None) -> None:
        """As `millstream dlq redrive` does."""
        producer = self.kafka.producer()
        topic, key, made, headers, partition = redriven(letter, self.service.redrive_topic(Kind.SQL), action)
        producer.produce(topic, value or made, key, headers, partition)
        producer.flush()
        producer.close()

    def dead_letters(self) -> list[Message]:
        return self.records(self.stock.orders.dead_letters)

    def table(self) -> dict[str, int]:
        """What the database says of each product."""
        products = self.stock.products.c
        with self.engine.connect() as connection:
            found = connection.execute(select(products.product, products.number))
            return {row.product: row.number for row in found}

    def lag(self) -> int:
        admin = self.kafka.admin()
        try:
            found = admin.group_lag(self.service.group(Kind.SQL), [self.stock.orders.name])
        finally:
            admin.close()
        return sum(partition.lag for partition in found)

    def wait_until_caught_up(self, seconds: float = 120) -> None:
        wait_until(lambda: self.lag() == 0, seconds=seconds, what=f"{self.service.name} to catch up", every=0.05)

    def wait_until_published(self, count: int, seconds: float = 120) -> None:
        wait_until(
            lambda: sum(map(len, self.published().values())) >= count,
            seconds=seconds,
            what=f"{count} reservations of {self.service.name}",
            every=0.05,
        )


@contextmanager
def running(*workers: Worker) -> Iterator[list[Running[Worker]]]:
    """Workers at work until the block ends; one that failed fails the test."""
    threads = [Running(worker) for worker in workers]
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
    for thread in threads:
        if thread.error is not None:
            raise thread.error


def main() -> None:
    bootstrap, folder, name, database, slot = json.loads(sys.argv[1])
    rig = SqlRig(bootstrap, Path(folder), name, database=database)
    relay = threading.Thread(target=rig.relay().run, args=[threading.Event()], daemon=True)
    relay.start()
    rig.worker(slot).run(threading.Event())
