"""Debezium in the relay's place: set up as docs/outbox.md prints it, it publishes what the relay would."""

import re
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine, make_url, select, text
from sqlalchemy.orm import Session
from tests.outbox.connect import KafkaConnect
from tests.runtime.sql_rig import PARTITIONS, ROOT, SqlRig, running

from millstream.contracts import envelope_from
from millstream.declare import Kind, Service, days
from millstream.kafka import Message, partition_of
from millstream.operate.assembly import topics_of
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.outbox import Outbox, OutboxRow
from millstream.runtime.sql.worker import SqlWorker
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.postgresql import PostgreSQL

pytestmark = pytest.mark.real

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def printed(language: str) -> str:
    """What the page says in that language, so that page and proof cannot drift apart."""
    page = (ROOT / "docs" / "outbox.md").read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return block


@pytest.fixture
def rig(kafka: LocalKafka, tmp_path: Path):
    """A service on a PostgreSQL that Debezium may read. A worker of it alone is what runs without the relay."""
    with PostgreSQL(wal_level="logical") as server:
        made = SqlRig(kafka.bootstrap, tmp_path, database=server.url)
        made.make_topics()
        execute(made, printed("sql"))
        yield made
        made.engine.dispose()


@pytest.fixture
def connect(rig: SqlRig, kafka: LocalKafka, tmp_path: Path):
    """Kafka Connect with the connector of the page; only where the database is differs."""
    connector = dict(line.split("=", 1) for line in printed("properties").splitlines())
    url = make_url(rig.database or "")
    place = {"database.hostname": url.host, "database.port": str(url.port), "database.dbname": url.database}
    assert place.keys() < connector.keys()
    made = KafkaConnect(tmp_path, kafka.bootstrap, {**connector, **place})
    yield made
    made.kill()


def execute(rig: SqlRig, *statements: str) -> None:
    """As the superuser, outside a transaction: VACUUM runs in none."""
    engine = create_engine(rig.database or "", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def handle(rig: SqlRig, *orders: tuple[str, int]) -> None:
    rig.order(*orders)
    rig.wait_until_caught_up()


def rows(rig: SqlRig) -> list[OutboxRow]:
    """The outbox as the relay would read it."""
    with rig.engine.connect() as connection:
        return Outbox(rig.service.name).rows_from(connection, 0, 10_000)


def reserved(rig: SqlRig) -> list[Message]:
    return rig.records(rig.stock.reserved.name)


def ce_id(message: Message) -> bytes:
    return dict(message.headers() or [])["ce_id"]


def test_it_publishes_what_the_relay_would(rig: SqlRig, connect: KafkaConnect):
    with running(rig.worker()):
        handle(rig, *[("old", 1)] * 8)
        handle(rig, *[("tea", 1)] * 4)
        # The next rows take the place on the disk of those that are gone, before rows that were committed earlier.
        execute(rig, "DELETE FROM millstream_outbox WHERE aggregateid = 'old'", "VACUUM millstream_outbox")
        handle(rig, *[("tea", 1), ("coffee", 1)] * 4)
        with rig.engine.connect() as connection:
            on_disk = list(connection.scalars(text("SELECT seq FROM millstream_outbox")))
        assert on_disk != sorted(on_disk)
        with connect.started():
            connect.wait_until(lambda: len(reserved(rig)) >= 12, what="the rows of before are published")
            rig.send(("tea", b'{"product": "tea"}'), headers=[("traceparent", TRACE)])
            handle(rig, *[("tea", 1), ("coffee", 1)] * 20)
            connect.wait_until(lambda: len(reserved(rig)) >= 53, what="new rows are published")
    expected = rows(rig)
    published = {ce_id(message): message for message in reserved(rig)}
    assert len(expected) == len(published) == len(reserved(rig)) == 53
    decode = rig.contracts.decoder([rig.stock.reserved]).decode
    numbers: dict[str, list[int]] = defaultdict(list)
    for message in reserved(rig):
        event = decode(message.value())
        numbers[event.product].append(event.number)
    assert numbers == {"tea": list(range(1, 30)), "coffee": list(range(1, 25))}
    for row in expected:
        message = published[dict(row.headers)["ce_id"]]
        assert (message.topic(), message.key(), message.value()) == (row.topic, row.key, row.value)
        added, *headers = message.headers() or []
        assert added == ("id", ce_id(message))
        assert [header for header in headers if header[1] is not None] == row.headers
        assert message.partition() == partition_of((row.key or b"").decode(), PARTITIONS)
        envelope = envelope_from(message, rig.stock.Reserved)
        found = [envelope.id, envelope.correlation_id, envelope.type, envelope.source, envelope.causation_id]
        said = {name: value.decode() for name, value in row.headers}
        assert found == [said[name] for name in ("ce_id", "correlationid", "ce_type", "ce_source", "causationid")]
        assert envelope.traceparent == said.get("traceparent")
    assert sum(row.headers[-1] == ("traceparent", TRACE) for row in expected) == 1


def test_dead_letters_keep_topic_key_and_bytes(rig: SqlRig, connect: KafkaConnect):
    with running(rig.worker()), connect.started():
        rig.order(("tea", -1))
        rig.order(("tea", -2), key=False)
        rig.send(("tea", b"no json"), headers=[("ce_id", b"given"), ("odd", b"\xff")])
        producer = rig.kafka.producer()
        producer.produce(rig.stock.orders.name, None, b"coffee")
        producer.flush()
        producer.close()
        connect.wait_until(lambda: len(rig.dead_letters()) >= 4, what="the dead letters are published")
    found = {(message.key(), message.value()) for message in rig.dead_letters()}
    assert found == {(row.key, row.value) for row in rows(rig)}
    assert {key for key, _ in found} == {b"tea", b"coffee", None}
    assert (b"tea", b"no json") in found and (b"coffee", None) in found


def test_nothing_is_lost_when_connect_is_killed(rig: SqlRig, connect: KafkaConnect):
    """Orders come all the time. Connect dies before it has saved any offsets, and then where it has."""
    orders = 0
    with running(rig.worker()):
        for flush_ms, saved in ((600_000, False), (100, True)):
            with connect.started(flush_ms=flush_ms):
                seen = {*map(ce_id, reserved(rig))}
                for count in (20, 200):
                    rig.order(*[("tea", 1), ("coffee", 1)] * count)
                    orders += 2 * count
                    connect.wait_until(
                        lambda seen=seen, new=count: len({*map(ce_id, reserved(rig))} - seen) > new,
                        what="some of the new orders' rows are published",
                    )
                connect.wait_until(lambda saved=saved: connect.offsets.exists() == saved, what="offsets are saved")
                connect.kill()
        rig.wait_until_caught_up()
        with connect.started():
            connect.wait_until(lambda: len({*map(ce_id, reserved(rig))}) >= orders, what="all rows are published")
    first: dict[bytes, Message] = {}
    for message in reserved(rig):
        before = first.setdefault(ce_id(message), message)
        assert (before.key(), before.value()) == (message.key(), message.value())
    assert first.keys() == {dict(row.headers)["ce_id"] for row in rows(rig)}
    decode = rig.contracts.decoder([rig.stock.reserved]).decode
    numbers: dict[str, list[int]] = defaultdict(list)
    for message in first.values():
        event = decode(message.value())
        numbers[event.product].append(event.number)
    assert numbers == {product: list(range(1, orders // 2 + 1)) for product in ("tea", "coffee")}
    assert len(reserved(rig)) > orders, "no offsets were saved before the first kill, so rows must have come again"
    assert noted_once(rig) == numbers


def noted_once(rig: SqlRig) -> dict[str, list[int]]:
    """What a Millstream service with an inbox makes of the topic, duplicates and all: each product's numbers."""
    tables = MetaData()
    columns = [Column("row", Integer, primary_key=True), Column("product", Text), Column("number", Integer)]
    noted = Table("noted", tables, *columns)
    ledger = Service(f"{rig.name}-ledger", tables=tables)

    @ledger.on(rig.stock.Reserved, inbox=days(7))
    def note(event: Any, db: Session) -> None:
        db.execute(noted.insert().values(product=event.product, number=event.number))

    settings = rig.settings(0).model_copy(update={"database_url": None})
    engine, admin = open_database(ledger, settings), rig.kafka.admin()
    admin.ensure_topics(topics_of(ledger))
    where = ledger.group(Kind.SQL), [rig.stock.reserved.name]
    with running(SqlWorker(ledger, settings, rig.contracts, rig.kafka, engine, threading.Event())):
        wait_until(
            lambda: not any(partition.lag for partition in admin.group_lag(*where)),
            seconds=60,
            what="the ledger has read all",
            every=0.1,
        )
    admin.close()
    found: dict[str, list[int]] = defaultdict(list)
    with engine.connect() as connection:
        for product, number in connection.execute(select(noted.c.product, noted.c.number).order_by(noted.c.row)):
            found[product].append(number)
    engine.dispose()
    return found


def test_published_rows_may_go_and_the_log_after_them(rig: SqlRig, connect: KafkaConnect):
    """The heartbeat confirms the log, though the outbox stays as it is and only other tables change."""

    def log(position: str) -> int:
        with rig.engine.connect() as connection:
            return connection.scalar(text(f"SELECT {position} - '0/0'::pg_lsn")) or 0

    with running(rig.worker()), connect.started():
        handle(rig, *[("tea", 1)] * 10)
        connect.wait_until(lambda: len(reserved(rig)) >= 10, what="the rows are published")
        execute(rig, "DELETE FROM millstream_outbox WHERE created_at < extract(epoch FROM now())")
        assert rows(rig) == []
        handle(rig, ("tea", 1))
        connect.wait_until(lambda: len(reserved(rig)) >= 11, what="the row of after is published")
        execute(rig, "UPDATE products SET number = number + 1")
        written = log("pg_current_wal_lsn()")
        confirmed = "(SELECT confirmed_flush_lsn FROM pg_replication_slots)"
        connect.wait_until(lambda: log(confirmed) > written, what="the log is confirmed")
    assert rig.published() == {"tea": list(range(1, 12))}
    admin = rig.kafka.admin()
    topics = admin.topics()
    admin.close()
    assert {topic for topic in topics if not topic.startswith(rig.name)} == {"__debezium-heartbeat.orders"}
