"""The same guarantees on PostgreSQL, where commit order is not sequence order."""

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from tests.end_to_end.leftovers import half_closed_by
from tests.runtime.sql_rig import SqlRig, running

from millstream.declare import Service
from millstream.runtime.sql.database import open_database, open_engine, passing
from millstream.runtime.sql.outbox import Outbox
from millstream.runtime.sql.positions import move_positions, read_positions
from millstream.runtime.sql.relay import relay_lock
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster
from millstream.testing.postgresql import PostgreSQL

pytestmark = pytest.mark.real

A, B = ("orders", 0), ("orders", 1)


@pytest.fixture(scope="module")
def server():
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def url(server: PostgreSQL, request: pytest.FixtureRequest) -> str:
    """A fresh database."""
    admin = create_engine(server.url, isolation_level="AUTOCOMMIT")
    name = f"test_{abs(hash(request.node.nodeid)) % 10**9}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.url.rpartition("/")[0] + f"/{name}"


@pytest.fixture
def engine(url: str):
    engine = open_database(Service("counting"), Settings(database_url=url))
    yield engine
    engine.dispose()


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path, url: str):
    made = SqlRig(cluster.bootstrap, tmp_path, database=url)
    made.make_topics()
    yield made
    made.engine.dispose()


def test_the_outbox_knows_the_highest_number_it_ever_gave(engine: Engine):
    outbox = Outbox("counting")
    with engine.begin() as connection:
        assert outbox.newest(connection) == 0
        outbox.append(connection, [("t", b"k", b"1", []), ("t", b"k", b"2", [])])
    with engine.begin() as connection:
        outbox.delete_before(connection, 3)
        assert outbox.newest(connection) == 2


def ids(engine: Engine) -> list[tuple[int, bytes | None]]:
    with engine.connect() as connection:
        return [(row.seq, row.value) for row in Outbox("counting").rows_from(connection, 0, 100)]


def test_many_may_open_it_for_the_first_time_at_once(url: str):
    errors: list[Exception] = []

    def open_it() -> None:
        try:
            open_database(Service("counting"), Settings(database_url=url)).dispose()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


@pytest.mark.scenario(14)
def test_a_row_with_a_lower_id_never_appears_after_one_with_a_higher(engine: Engine):
    """Two writers: the second draws its id only when the first has committed."""
    outbox = Outbox("counting")
    second_is_in = threading.Event()

    def write_second() -> None:
        with engine.begin() as connection:
            outbox.append(connection, [("t", b"k", b"second", [])])
        second_is_in.set()

    with engine.begin() as connection:
        outbox.append(connection, [("t", b"k", b"first", [])])
        other = threading.Thread(target=write_second)
        other.start()
        assert not second_is_in.wait(0.3)
        assert ids(engine) == []
    assert second_is_in.wait(10)
    other.join()
    assert [value for _, value in ids(engine)] == [b"first", b"second"]


def test_positions_move_by_compare_and_set(engine: Engine):
    def read() -> dict[tuple[str, int], int]:
        with engine.connect() as connection:
            return read_positions(connection, "g", [A, B], {})

    with engine.begin() as connection:
        assert move_positions(connection, "g", {}, {A: 5, B: 1}, {})
    for expected in ({}, {A: 4}, {A: 6}):
        with engine.connect() as connection:
            assert not move_positions(connection, "g", expected, {A: 9}, {})
    assert read() == {A: 5, B: 1}


def test_of_two_that_move_a_position_at_once_one_loses(engine: Engine):
    results: list[bool] = []

    def move() -> None:
        with engine.begin() as connection:
            results.append(move_positions(connection, "g", {}, {A: 7}, {}))

    with engine.begin() as connection:
        assert move_positions(connection, "g", {}, {A: 5}, {})
        other = threading.Thread(target=move)
        other.start()
        other.join(0.3)
        assert results == []
    other.join(10)
    assert results == [False]


def test_a_lost_connection_is_passing(server: PostgreSQL, engine: Engine):
    with engine.connect() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(Exception) as lost:  # noqa: PT011 (which of SQLAlchemy's it is does not matter)
            connection.execute(text("SELECT 1"))
    assert passing(lost.value)


def test_idle_connections_to_a_server_that_is_gone_are_closed(caplog: pytest.LogCaptureFixture):
    with PostgreSQL() as server:
        engine = open_engine(server.url)
        with engine.connect() as first, engine.connect() as second, engine.connect() as busy:
            idle = [one.connection.dbapi_connection for one in (first, second)]
            used: Any = busy.connection.dbapi_connection
            first.close()
            second.close()
            server.kill()
            wait_until(lambda: all(one.closed for one in idle if one), seconds=120, what="idle ones are closed")
            assert not used.closed, "one in use is left to those who use it"
            with pytest.raises(OperationalError):
                busy.execute(text("SELECT 1"))
        wait_until(lambda: server.port not in half_closed_by(os.getpid()), seconds=120, what="all are closed")
        server.start()
        with engine.connect() as first, engine.connect() as second:
            assert [one.scalar(text("SELECT 1")) for one in (first, second)] == [1, 1]
        engine.dispose()
    assert any("database_hung_up" in record.getMessage() for record in caplog.records)


def test_nobody_looks_after_the_connections_of_an_engine_that_is_gone(server: PostgreSQL):
    def lookers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "database.hang-ups"}

    before = lookers()
    engine = open_engine(server.url)
    (own,) = lookers() - before
    engine.connect().close()
    engine.dispose()
    del engine
    gc.collect()
    wait_until(lambda: not own.is_alive(), seconds=120, what="it has ended")


def test_one_relays_at_a_time(engine: Engine):
    with (
        relay_lock(engine, "counting") as mine,
        relay_lock(engine, "counting") as second,
        relay_lock(engine, "other") as others,
    ):
        assert (mine, second, others) == (True, False, True)
    with relay_lock(engine, "counting") as again:
        assert again


def test_rows_and_events_agree_whichever_instance_wrote_them(rig: SqlRig):
    products = [f"product-{number}" for number in range(6)]
    rig.order(*[(product, 1) for _ in range(50) for product in products])
    with running(rig.worker(0), rig.worker(1), rig.relay(), rig.relay()):
        rig.wait_until_published(300)
        rig.wait_until_caught_up()
    assert rig.table() == dict.fromkeys(products, 50)
    assert rig.published() == {product: list(range(1, 51)) for product in products}


def test_a_server_that_crashes_is_waited_for(cluster: Cluster, tmp_path: Path):
    with PostgreSQL() as server:
        rig = SqlRig(cluster.bootstrap, tmp_path, database=server.url)
        rig.make_topics()
        with running(rig.worker(), rig.relay()):
            for life in range(3):
                rig.order(*[("tea", 1)] * 40)
                wait_until(lambda seen=life * 40: rig.table().get("tea", 0) > seen, seconds=60, what="some orders")
                server.kill()
                server.start()
            rig.wait_until_published(120)
            rig.wait_until_caught_up()
        assert rig.table() == {"tea": 120}
        assert rig.published() == {"tea": list(range(1, 121))}
        rig.engine.dispose()
