"""A view from its events to the table that answers queries."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    inspect,
    select,
)

from millstream.contracts import Contracts, Registry, edge_id, header_writer
from millstream.declare import Envelope, Event, Service, Topic, Value
from millstream.errors import ConfigurationError, DeclarationError
from millstream.kafka import connect
from millstream.operate.assembly import topics_of
from millstream.patterns.view import View
from millstream.patterns.view.sink import PositionsMoved, Row
from millstream.patterns.view.sql import SqlSink
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.sql.database import READ_ONLY, open_engine
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster


class Line(Value, namespace="test"):
    product: str


class OrderRow(Value, namespace="test"):
    status: str
    steps: int
    lines: tuple[Line, ...] = ()


def declarations(name: str) -> SimpleNamespace:
    class Created(Event, key="order_id", namespace="test"):
        order_id: str

    class Paid(Event, key="order_id", namespace="test"):
        order_id: str

    class Erased(Event, key="order_id", namespace="test"):
        order_id: str

    orders = Topic(f"{name}.orders", Created, Erased, partitions=2)
    payments = Topic(f"{name}.payments", Paid, partitions=2)
    metadata = MetaData()
    table = Table(
        "orders",
        metadata,
        Column("order_id", String, primary_key=True),
        Column("status", String),
        Column("steps", Integer),
        Column("lines", JSON),
        Column("version", BigInteger, nullable=False),
        CheckConstraint("order_id <> 'refused'"),
    )
    view = View("orders", OrderRow, topic=f"{name}.read-model", sinks=[SqlSink(table)])

    @view.on(Created)
    def created(event: Created, row: OrderRow | None) -> OrderRow:
        if row is not None:
            return OrderRow(status=row.status, steps=row.steps + 1, lines=(Line(product="late"),))
        return OrderRow(status="created", steps=1, lines=(Line(product="a"),))

    @view.on(Paid)
    def paid(event: Paid, row: OrderRow | None, envelope: Envelope) -> OrderRow:
        assert envelope.topic == payments.name
        return OrderRow(status="paid", steps=row.steps + 1 if row else 1, lines=row.lines if row else ())

    @view.on(Erased)
    def erased(event: Erased, row: OrderRow | None) -> None: ...

    service = Service(f"{name}-read-model", tables=metadata)
    view.mount(service)
    service.check()
    return SimpleNamespace(**locals())


class ReadModel:
    """The whole read model running in this process."""

    def __init__(self, cluster: Cluster, data: Path) -> None:
        self.of = declarations(f"v{uuid.uuid4().hex[:8]}")
        self.settings = Settings(
            bootstrap_servers=cluster.bootstrap,
            registry_url=cluster.registry,
            data_dir=data,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )
        self.kafka = connect(self.settings, self.of.service.name)
        self.contracts = Contracts(Registry(cluster.registry))
        self.engine = open_engine(self.settings.database(self.of.service.name))
        self.producer = self.kafka.producer()
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.of.service))
        admin.close()
        self.threads: list[threading.Thread] = []
        self.stops: list[threading.Event] = []

    def start(self, *, sink_only: bool = False) -> None:
        service = self.of.service
        workers: list[Any] = [
            background.worker(self.settings, self.contracts, self.kafka) for background in service.background
        ]
        if not sink_only:
            workers.append(KafkaWorker(service, self.settings, self.contracts, self.kafka))
        stop = threading.Event()
        self.stops.append(stop)
        for worker in workers:
            thread = threading.Thread(target=worker.run, args=(stop,), name=worker.name)
            thread.start()
            self.threads.append(thread)

    def stop(self) -> None:
        for stop in self.stops:
            stop.set()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        self.threads.clear()

    def send(self, topic: Topic, *events: Any) -> None:
        for event in events:
            id = edge_id()
            headers = header_writer(type(event), "test")(id, id, None, None)
            self.producer.produce(topic.name, self.contracts.encode(event), event.order_id.encode(), headers)
        self.producer.flush()

    def rows(self) -> dict[str, tuple[str, int, Any]]:
        table = self.of.table
        with self.engine.connect() as connection:
            found = connection.execute(select(table.c.order_id, table.c.status, table.c.steps, table.c.lines))
            return {key: (status, steps, lines) for key, status, steps, lines in found}

    def await_table(self) -> None:
        def there() -> bool:
            if not (self.settings.data_dir / "services").exists():
                return False
            with self.engine.execution_options(**READ_ONLY).connect() as connection:
                return inspect(connection).has_table(self.of.table.name)

        wait_until(there, seconds=60, what="the table")

    def wait_for(self, rows: dict[str, tuple[str, int, Any]]) -> None:
        wait_until(lambda: self.rows() == rows, seconds=60, what=f"rows {rows}")


@pytest.fixture
def model(cluster: Cluster, tmp_path: Path) -> Iterator[ReadModel]:
    made = ReadModel(cluster, tmp_path)
    yield made
    made.stop()
    made.producer.close()
    made.engine.dispose()


LINES = [{"product": "a"}]


def test_rows_follow_events_of_several_topics_and_go_when_they_are_deleted(model: ReadModel):
    of, applied = model.of, []
    of.view.listen(lambda rows: applied.extend(rows))
    model.start()
    model.await_table()
    model.send(of.orders, of.Created(order_id="o-1"), of.Created(order_id="o-2"))
    model.wait_for({"o-1": ("created", 1, LINES), "o-2": ("created", 1, LINES)})
    model.send(of.payments, of.Paid(order_id="o-1"))
    model.wait_for({"o-1": ("paid", 2, LINES), "o-2": ("created", 1, LINES)})
    model.send(of.orders, of.Erased(order_id="o-2"), of.Erased(order_id="o-3"))
    model.wait_for({"o-1": ("paid", 2, LINES)})
    wait_until(lambda: len(applied) == 4, seconds=60, what="the listener to hear of every row")
    assert [row.value is None for row in applied] == [False, False, False, True]
    versions = [row.version for row in applied if row.key == "o-1"]
    assert versions == sorted(versions)
    with model.engine.connect() as connection:
        assert connection.execute(select(of.table.c.version)).scalar_one() == versions[-1]


def with_twenty_orders(model: ReadModel) -> dict[str, Any]:
    """Starts it, and answers the rows once they are there."""
    of = model.of
    model.start()
    model.await_table()
    model.send(of.orders, *[of.Created(order_id=f"o-{number}") for number in range(20)])
    everything = {f"o-{number}": ("created", 1, LINES) for number in range(20)}
    model.wait_for(everything)
    return everything


@pytest.mark.scenario(22)
def test_an_emptied_table_is_rebuilt_and_a_restart_goes_on_where_it_was(model: ReadModel):
    of = model.of
    everything = with_twenty_orders(model)
    model.stop()
    with model.engine.begin() as connection:
        connection.execute(of.table.update().where(of.table.c.order_id == "o-1").values(status="touched"))
    model.start()
    model.send(of.orders, of.Created(order_id="o-20"))
    everything["o-20"] = ("created", 1, LINES)
    model.wait_for(everything | {"o-1": ("touched", 1, LINES)})
    model.stop()
    with model.engine.begin() as connection:
        connection.execute(delete(of.table))
    model.start(sink_only=True)
    model.wait_for(everything)


@pytest.mark.scenario(22)
def test_a_table_that_is_emptied_while_the_service_runs_is_rebuilt(model: ReadModel):
    of = model.of
    everything = with_twenty_orders(model)
    with model.engine.begin() as connection:
        connection.execute(delete(of.table))
    model.send(of.orders, of.Created(order_id="o-20"))
    model.wait_for(everything | {"o-20": ("created", 1, LINES)})


class Shelf:
    """Sinks of one table, used by hand: each partition's rows are version 0, 1, …"""

    def __init__(self, data: Path, *sinks: str) -> None:
        self.of = declarations(f"v{uuid.uuid4().hex[:8]}")
        self.settings = Settings(data_dir=data)
        self.partitions = {name: (self.of.view.topic, number) for number, name in enumerate(sinks)}
        self.sinks: dict[str, SqlSink] = {}
        for name in sinks:
            self.start(name)
        self.engine = open_engine(self.settings.database(self.of.service.name))

    def start(self, name: str, topic_id: str = "topic-1") -> int | None:
        if name in self.sinks:
            self.sinks[name].close()
        self.sinks[name] = SqlSink(self.of.table)
        self.sinks[name].open(self.of.service, self.settings, "view.sink", OrderRow, topic_id)
        return self.position(name)

    def position(self, name: str) -> int | None:
        return self.sinks[name].positions([self.partitions[name]]).get(self.partitions[name])

    def apply(self, name: str, *rows: Row) -> None:
        self.sinks[name].apply(rows, {self.partitions[name]: rows[-1].version + 1})

    def empty(self) -> None:
        with self.engine.begin() as connection:
            connection.execute(delete(self.of.table))

    def keys(self) -> list[str]:
        with self.engine.connect() as connection:
            return sorted(connection.scalars(select(self.of.table.c.order_id)))

    def close(self) -> None:
        for sink in self.sinks.values():
            sink.close()
        self.engine.dispose()


def kept(key: str, version: int, status: str = "paid") -> Row:
    return Row(key, OrderRow(status=status, steps=1), version)


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    made = Shelf(tmp_path, "a", "b")
    yield made
    made.close()


def test_after_it_was_emptied_nothing_is_written_before_all_begins_anew(shelf: Shelf):
    shelf.apply("a", kept("a-0", 0), kept("a-1", 1))
    shelf.apply("b", kept("b-0", 0))
    shelf.empty()
    with pytest.raises(PositionsMoved):
        shelf.apply("b", kept("b-1", 1))
    assert shelf.keys() == []
    assert shelf.position("b") is None
    shelf.apply("b", kept("b-0", 0), kept("b-1", 1))
    with pytest.raises(PositionsMoved):
        shelf.apply("a", kept("a-2", 2))
    assert shelf.position("a") is None
    assert shelf.position("b") == 2
    shelf.apply("a", kept("a-0", 0), kept("a-1", 1), kept("a-2", 2))
    assert shelf.keys() == ["a-0", "a-1", "a-2", "b-0", "b-1"]


def test_a_table_whose_rows_were_all_deleted_by_the_topic_goes_on(shelf: Shelf):
    shelf.apply("a", kept("a-0", 0))
    shelf.apply("a", Row("a-0", None, 1))
    shelf.apply("b", Row("b-0", None, 0))
    shelf.apply("a", Row("a-0", None, 2))
    assert (shelf.position("a"), shelf.position("b")) == (3, 1)
    shelf.apply("a", kept("a-0", 3))
    shelf.empty()
    assert shelf.position("a") is None


def test_two_sinks_of_an_empty_table_do_not_set_each_other_back_for_ever(shelf: Shelf):
    shelf.apply("a", Row("a-0", None, 0))
    shelf.apply("b", Row("b-0", None, 0))
    assert shelf.start("a") is None
    shelf.apply("a", Row("a-0", None, 0))
    with pytest.raises(PositionsMoved):
        shelf.apply("b", Row("b-0", None, 1))
    assert shelf.position("b") is None
    shelf.apply("b", Row("b-0", None, 1))
    shelf.apply("a", Row("a-0", None, 1))
    assert (shelf.position("a"), shelf.position("b")) == (2, 2)


def test_foreign_bytes_on_the_topic_become_dead_letters_and_rows_go_on(model: ReadModel):
    of = model.of
    model.start()
    model.await_table()
    model.producer.produce(of.view.topic, b"garbage", b"o-9")
    model.producer.produce(of.view.topic, b"more", b"\xff\xfe")
    model.producer.flush()
    model.send(of.orders, of.Created(order_id="o-1"))
    model.wait_for({"o-1": ("created", 1, LINES)})

    def letters() -> list[bytes | None]:
        return [m.value() for batch in model.kafka.read_to_end(f"{of.view.topic}.dlq") for m in batch]

    wait_until(lambda: sorted(map(bytes, letters())) == [b"garbage", b"more"], seconds=60, what="two dead letters")


def test_a_row_that_the_table_refuses_becomes_a_dead_letter_and_the_others_go_on(model: ReadModel):
    of, applied = model.of, []
    of.view.listen(lambda rows: applied.extend(rows))
    model.start()
    model.await_table()
    model.send(of.orders, *[of.Created(order_id=order_id) for order_id in ("o-1", "refused", "o-2")])
    model.wait_for({"o-1": ("created", 1, LINES), "o-2": ("created", 1, LINES)})
    model.stop()
    model.start()
    model.send(of.orders, of.Created(order_id="o-3"))
    model.wait_for({f"o-{number}": ("created", 1, LINES) for number in (1, 2, 3)})
    (letter,) = [m for batch in model.kafka.read_to_end(f"{of.view.topic}.dlq") for m in batch]
    headers = dict(letter.headers() or ())
    assert letter.key() == b"refused"
    assert headers["millstream-dlq-reason"] == b"IntegrityError"
    assert headers["millstream-dlq-attempts"] == b"1"
    assert sorted(row.key for row in applied) == ["o-1", "o-2", "o-3"]


def test_a_projection_is_a_function():
    of = declarations("unit")
    row = of.created(of.Created(order_id="o-1"), None)
    assert row == OrderRow(status="created", steps=1, lines=(Line(product="a"),))
    assert of.created(of.Created(order_id="o-1"), row).steps == 2


def test_signatures_that_cannot_work_are_refused():
    class Seen(Event, key="id"):
        id: str

    Topic("refused.events", Seen)
    view = View("seen", OrderRow, topic="seen.read-model")
    with pytest.raises(DeclarationError, match=r"event, a row"):

        @view.on(Seen)
        def too_few(event: Seen) -> OrderRow: ...

    with pytest.raises(DeclarationError, match=r"OrderRow \| None"):

        @view.on(Seen)
        def never_none(event: Seen, row: OrderRow) -> OrderRow: ...

    with pytest.raises(DeclarationError, match="must return OrderRow"):

        @view.on(Seen)
        def odd(event: Seen, row: OrderRow | None) -> int: ...


@pytest.mark.scenario(23)
def test_a_stale_projection_writes_nothing(tmp_path: Path):
    settings, of = Settings(data_dir=tmp_path), declarations(f"v{uuid.uuid4().hex[:8]}")
    at, (sink,) = (of.view.topic, 0), of.view.sinks
    stale = SqlSink(of.table)
    for each in (sink, stale):
        each.open(of.service, settings, "view.sink", OrderRow, "topic-1")
        each.positions([at])
    sink.apply([Row("o-1", OrderRow(status="paid", steps=2), 7)], {at: 8})
    with pytest.raises(PositionsMoved):
        stale.apply([Row("o-1", OrderRow(status="created", steps=1), 3)], {at: 4})
    sink.apply([Row("o-1", OrderRow(status="created", steps=1), 3)], {at: 9})
    engine = open_engine(settings.database(of.service.name))
    with engine.connect() as connection:
        assert connection.execute(select(of.table.c.status, of.table.c.version)).all() == [("paid", 7)]
    for each in (sink, stale):
        each.close()
    engine.dispose()


def test_a_table_with_rows_of_a_topic_that_was_made_again_is_refused_until_it_is_empty(tmp_path: Path):
    shelf = Shelf(tmp_path, "a")
    shelf.apply("a", *(Row(f"o-{n}", OrderRow(status="open", steps=1), n) for n in range(3)))
    assert shelf.start("a") == 3
    with pytest.raises(ConfigurationError, match=r"made again.*Empty it \(TRUNCATE"):
        shelf.start("a", "topic-2")
    with shelf.engine.begin() as connection:
        connection.execute(shelf.of.table.delete())
    assert shelf.start("a", "topic-2") is None
    shelf.apply("a", Row("o-0", OrderRow(status="new", steps=1), 0))
    assert shelf.start("a", "topic-2") == 1
