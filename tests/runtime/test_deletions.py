"""Tombstones are events of their own: handled, published, parked, redriven, deleted by, in every kind of handler."""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlalchemy import BigInteger, Column, MetaData, String, Table, select
from sqlalchemy.orm import Session
from tests.runtime.diary import redriven
from tests.runtime.running import Running

from millstream.contracts import Contracts, Registry, derived_id
from millstream.declare import (
    Deleted,
    Envelope,
    Event,
    Kind,
    Retry,
    Service,
    State,
    Store,
    Timer,
    Timers,
    Topic,
    Value,
    exponential,
    park_key,
    seconds,
)
from millstream.errors import Rejected
from millstream.kafka import Message, connect
from millstream.operate.assembly import assemble_handlers, topics_of
from millstream.patterns.view import View
from millstream.patterns.view.sql import SqlSink
from millstream.runtime.records.redrive import Action
from millstream.runtime.sql.database import open_database
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

# The three together in `make test-all`; each mechanism once in `make test`.
KINDS = ["kafka", "sql", "effect"]
OTHERS_SLOW = ["kafka", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])]


class Gateway: ...


class Shop:
    """A service that lists products, and withdraws the listings of those that are deleted.

    Each deletion it handles leads to a tombstone on `listings` and a `Withdrawn` with the deletion's key.
    """

    def __init__(self, kind: str, **topic: Any) -> None:
        name = f"d{uuid.uuid4().hex[:8]}"

        class Product(Event, key="code", namespace="test"):
            code: str

        class Listing(Event, key="code", namespace="test"):
            code: str

        class Withdrawn(Event, key="code", namespace="test"):
            code: str
            id: str = ""

        class Purge(Timer, key="code"):
            code: str

        self.Product, self.Listing, self.Withdrawn = Product, Listing, Withdrawn
        self.products = Topic(f"{name}.products", Product, partitions=2, **({"compacted": True} | topic))
        format = self.products.format
        self.listings = Topic(f"{name}.listings", Listing, partitions=2, compacted=True, format=format)
        self.news = Topic(f"{name}.news", Withdrawn, partitions=2, format=format)
        self.failures: list[Exception] = []
        self.tables = MetaData()
        self.service = service = Service(f"{name}-shop", tables=self.tables)
        listed = Store("listed", Product)
        options: dict[str, Any] = {"retry": Retry(attempts=2, backoff=exponential(0.05)), "on_failure": park_key}

        def outcome(product: Any, envelope: Envelope) -> list[Any]:
            if self.failures:
                raise self.failures.pop(0)
            return [Deleted[Listing](key=product.key), Withdrawn(code=product.key, id=envelope.type)]

        if kind == "kafka":

            @service.on(Product)
            def list_it(product: Product, stock: Annotated[State[Product], listed]) -> Listing:
                stock.put(product.code, product)
                return Listing(code=product.code)

            @service.on(Deleted[Product], **options)
            def withdraw(
                product: Deleted[Product], stock: Annotated[State[Product], listed], envelope: Envelope, timers: Timers
            ) -> list[Deleted[Listing] | Withdrawn]:
                timers.set(Purge(code=product.key), after=seconds(3600))
                assert (stock.get(product.key) is not None) == (product.key != "p-2")
                stock.delete(product.key)
                return outcome(product, envelope)

            @service.on(Purge)
            def purge(due: Purge) -> None: ...

        elif kind == "sql":

            @service.on(Product, Deleted[Product], **options)
            def change(
                product: Product | Deleted[Product], db: Session, envelope: Envelope
            ) -> list[Listing | Deleted[Listing] | Withdrawn]:
                return [Listing(code=product.code)] if isinstance(product, Product) else outcome(product, envelope)

        else:

            @service.provides
            async def gateway(settings: Settings) -> AsyncIterator[Gateway]:
                yield Gateway()

            @service.effect(Product)
            async def announce(product: Product) -> Listing:
                return Listing(code=product.code)

            @service.effect(Deleted[Product], **options)
            async def retract(
                product: Deleted[Product], gateway: Gateway, envelope: Envelope
            ) -> list[Deleted[Listing] | Withdrawn]:
                return outcome(product, envelope)

        service.check()


class Rig:
    """The shop on a cluster."""

    def __init__(self, kafka: LocalKafka, folder: Path, kind: str, service: Service, topics: list[Topic]) -> None:
        self.service, self.kind = service, Kind(kind)
        self.settings = Settings(
            bootstrap_servers=kafka.bootstrap,
            registry_url=kafka.registry,
            data_dir=folder,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )
        self.kafka = connect(self.settings, service.name)
        self.contracts = Contracts(Registry(kafka.registry))
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(service))
        admin.close()
        self.contracts.register(service.produced())
        for topic in topics:
            self.contracts.register(topic.contracts)

    def send(self, topic: str, *records: tuple[bytes | None, bytes | None], partition: int = -1, headers: Any = None):
        producer = self.kafka.producer()
        for key, value in records:
            producer.produce(topic, value, key, headers, partition)
        producer.flush()
        producer.close()

    def records(self, topic: str) -> list[Message]:
        return [m for batch in self.kafka.read_to_end(topic, timeout=20) for m in batch]

    def redrive(self, letter: Message) -> None:
        topic, key, value, headers, partition = redriven(letter, self.service.redrive_topic(self.kind), Action.HANDLE)
        assert value is None
        self.send(topic, (key, value), partition=partition, headers=headers)

    def count(self, topic: str, count: int) -> list[Message]:
        wait_until(lambda: len(self.records(topic)) >= count, seconds=60, what=f"{count} of {topic}", every=0.05)
        return self.records(topic)

    @contextmanager
    def running(self) -> Iterator[None]:
        @cache
        def engine():
            return open_database(self.service, self.settings)

        early, late = assemble_handlers(
            self.service, self.settings, self.contracts, self.kafka, engine, health=Health(), tracer=Tracer()
        )
        with ExitStack() as stack:
            if engine.cache_info().currsize:
                stack.callback(engine().dispose)
            running = [Running(worker) for worker in [*late, *early]]
            for each in running:
                stack.callback(each.stop)
            yield
        assert [each.error for each in running] == [None] * len(running)


def rig_of(kafka: LocalKafka, folder: Path, kind: str, shop: Shop) -> Rig:
    return Rig(kafka, folder, kind, shop.service, [shop.products])


@pytest.mark.parametrize("format", [pytest.param("json", marks=pytest.mark.slow), "avro"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_is_handled_and_published(shared_kafka: LocalKafka, tmp_path: Path, kind: str, format: str):
    shop = Shop(kind, format=format)
    rig = rig_of(shared_kafka, tmp_path, kind, shop)
    value = rig.contracts.encode(shop.Product(code="p-1"))
    rig.send(shop.products.name, (b"p-1", value), (b"\xff", None), (b"\0\0\0\0\1\6p-1", None), (b"p-1", b""))
    rig.send(shop.products.name, (b"p-1", None))
    with rig.running():
        news = rig.count(shop.news.name, 1)
        rig.count(shop.products.dead_letters, 3)
    listings = rig.records(shop.listings.name)
    assert [(record.key(), record.value() is None) for record in listings] == [(b"p-1", False), (b"p-1", True)]
    decode = rig.contracts.decoder([shop.news]).decode
    assert [decode(record.value()) for record in news] == [shop.Withdrawn(code="p-1", id="test.Product.Deleted")]
    headers = dict(listings[1].headers() or ())
    handler = {"kafka": "withdraw", "sql": "change", "effect": "retract"}[kind]
    assert headers["ce_type"] == b"test.Listing.Deleted"
    assert headers["ce_id"].decode() == derived_id(headers["causationid"].decode(), f"{shop.service.name}.{handler}", 0)
    assert headers["correlationid"] == headers["causationid"]
    letters = {letter.key(): letter for letter in rig.records(shop.products.dead_letters)}
    reasons = {key: dict(letter.headers() or ())["millstream-dlq-reason"] for key, letter in letters.items()}
    assert reasons == {b"\xff": b"bad_key", b"\0\0\0\0\1\6p-1": b"bad_key", b"p-1": b"empty"}
    assert letters[b"\xff"].value() is None
    assert letters[b"p-1"].value() == b""


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_that_fails_is_parked_and_redriven_without_a_value(
    shared_kafka: LocalKafka, tmp_path: Path, kind: str
):
    shop = Shop(kind, format="json")
    shop.failures = [TimeoutError("in passing"), Rejected("not_now"), Rejected("nor_now")]
    rig = rig_of(shared_kafka, tmp_path, kind, shop)
    rig.send(shop.products.name, (b"p-2", None))
    with rig.running():
        (letter,) = rig.count(shop.products.dead_letters, 1)
        assert letter.value() is None
        assert dict(letter.headers() or ())["millstream-dlq-reason"] == b"not_now"
    # Another life of the process reads what is parked, whose key waits.
    rig.send(shop.products.name, (b"p-2", None))
    with rig.running():
        rig.redrive(letter)
        letter = rig.count(shop.products.dead_letters, 2)[1]
        assert letter.value() is None
        rig.redrive(letter)
        rig.count(shop.news.name, 2)
    assert [(record.key(), record.value()) for record in rig.records(shop.listings.name)] == [(b"p-2", None)] * 2


@pytest.mark.parametrize("kind", OTHERS_SLOW)
@pytest.mark.parametrize("tombstones", ["skip", "refuse", None])
def test_a_topic_says_what_becomes_of_tombstones(shared_kafka: LocalKafka, tmp_path: Path, kind: str, tombstones: Any):
    class Changed(Event, key="code", namespace="test"):
        code: str

    class Noted(Event, key="code", namespace="test"):
        code: str

    name = f"d{uuid.uuid4().hex[:8]}"
    topic = Topic(f"{name}.changes", Changed, partitions=1, format="json", tombstones=tombstones)
    notes = Topic(f"{name}.notes", Noted, partitions=1, format="json")
    service = Service(f"{name}-notes", tables=MetaData())
    if kind == "kafka":

        @service.on(Changed)
        def note(changed: Changed) -> Noted:
            return Noted(code=changed.code)

    elif kind == "sql":

        @service.on(Changed)
        def note_it(changed: Changed, db: Session) -> Noted:
            return Noted(code=changed.code)

    else:

        @service.effect(Changed)
        async def note_that(changed: Changed) -> Noted:
            return Noted(code=changed.code)

    rig = Rig(shared_kafka, tmp_path, kind, service, [topic])
    rig.send(topic.name, (b"c-1", None), (None, None), (b"c-1", b'{"code":"c-1"}'))
    with rig.running():
        rig.count(notes.name, 1)
    letters = rig.records(topic.dead_letters)
    # One without a key, too, is no deletion of anything: where deletions are skipped, it is skipped with them.
    assert len(letters) == (0 if tombstones == "skip" else 2)


def test_a_view_deletes_its_row(shared_kafka: LocalKafka, tmp_path: Path):
    class Product(Event, key="code", namespace="test"):
        code: str

    class Row(Value, namespace="test"):
        code: str

    name = f"d{uuid.uuid4().hex[:8]}"
    products = Topic(f"{name}.products", Product, partitions=2, compacted=True)
    tables = MetaData()
    table = Table("rows", tables, Column("code", String, primary_key=True), Column("version", BigInteger))
    view = View("rows", Row, topic=f"{name}.rows", sinks=[SqlSink(table)])

    @view.on(Product)
    def listed(product: Product, row: Row | None) -> Row:
        return Row(code=product.code)

    @view.on(Deleted[Product])
    def gone(product: Deleted[Product], row: Row | None) -> None:
        assert row == Row(code=product.key)

    service = Service(f"{name}-read-model", tables=tables)
    view.mount(service)
    service.check()
    rig = Rig(shared_kafka, tmp_path, "kafka", service, [products])

    def codes() -> set[str]:
        engine = open_database(service, rig.settings)
        try:
            with engine.connect() as connection:
                return set(connection.scalars(select(table.c.code)))
        finally:
            engine.dispose()

    encode = rig.contracts.encode
    with rig.running():
        rig.send(products.name, *((code.encode(), encode(Product(code=code))) for code in ("p-1", "p-2")))
        rig.count(view.topic, 2)
        wait_until(lambda: codes() == {"p-1", "p-2"}, seconds=60, what="both rows", every=0.05)
        rig.send(products.name, (b"p-1", None))
        wait_until(lambda: codes() == {"p-2"}, seconds=60, what="one row less", every=0.05)
    assert [record.value() for record in rig.records(view.topic) if record.key() == b"p-1"][-1] is None
    assert not rig.records(products.dead_letters)
