"""One SQL transaction of a worker, whichever way its handlers speak to the database."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, event, insert, select
from sqlalchemy.orm import Session

from millstream.declare import Event, Handler, Service, Topic
from millstream.errors import DeclarationError
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.stores import SqlInternalStores
from millstream.runtime.sql.unit import SqlUnit
from millstream.settings import Settings

metadata = MetaData()
numbers = Table("numbers", metadata, Column("n", Integer, primary_key=True))
service, other = Service("units", tables=metadata), Service("other-units")


class Counted(Event, key="what"):
    what: str


Topic("units.counted", Counted, partitions=1)


@service.on(Counted)
def by_connection(event: Counted, db: Connection) -> None: ...


@other.on(Counted)
def by_session(event: Counted, db: Session) -> None: ...


BY_CONNECTION, BY_SESSION = *service.handlers, *other.handlers
EITHER_WAY = pytest.mark.parametrize("handler", [BY_CONNECTION, BY_SESSION], ids=["connection", "session"])


class Passed:
    """As much of a message as a unit looks at."""

    def topic(self) -> str:
        return "units.counted"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 6


@pytest.fixture
def engine(tmp_path: Path):
    engine = open_database(service, Settings(data_dir=tmp_path))
    yield engine
    engine.dispose()


def begun(engine: Engine) -> SqlUnit:
    return SqlUnit(engine, {}, None, None, SqlInternalStores(Service("units")), {})


def add(unit: SqlUnit, handler: Handler, number: int) -> None:
    with unit.call(handler) as given:
        db: Any = given.session or given.connection
        db.execute(insert(numbers), {"n": number})
        if number < 0:
            raise ValueError(number)


def kept(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(select(numbers.c.n).order_by(numbers.c.n)))


@EITHER_WAY
def test_a_call_that_fails_is_undone_and_no_more(engine: Engine, handler: Handler):
    with begun(engine) as unit:
        add(unit, handler, 1)
        with pytest.raises(ValueError, match="-2"):
            add(unit, handler, -2)
        add(unit, handler, 3)
        unit.done(Passed(), ())  # type: ignore[arg-type]
        unit.commit()
        add(unit, handler, 4)
    assert kept(engine) == [1, 3]


def test_handlers_of_both_ways_share_one_transaction(engine: Engine):
    with begun(engine) as unit:
        add(unit, BY_CONNECTION, 1)
        add(unit, BY_SESSION, 2)
        with pytest.raises(ValueError, match="-3"):
            add(unit, BY_SESSION, -3)
        add(unit, BY_CONNECTION, 4)
        unit.done(Passed(), ())  # type: ignore[arg-type]
        unit.commit()
    with begun(engine) as unit:
        add(unit, BY_CONNECTION, 5)
        add(unit, BY_SESSION, 6)
    assert kept(engine) == [1, 2, 4]


@EITHER_WAY
def test_a_handler_does_not_end_the_transaction(engine: Engine, handler: Handler):
    with begun(engine) as unit:
        add(unit, handler, 1)
        with unit.call(handler) as given:
            for db in filter(None, (given.session, given.connection)):
                with pytest.raises(DeclarationError, match="does not commit"):
                    db.commit()
                with pytest.raises(DeclarationError, match="does not roll back"):
                    db.rollback()
    assert kept(engine) == []


def test_a_service_without_sessions_does_without_the_orm():
    said = subprocess.run(
        [sys.executable, "-c", "import sys, millstream.runtime.sql.worker; print('sqlalchemy.orm' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "False"


@EITHER_WAY
def test_a_part_that_a_failing_call_left_open_is_undone_too(engine: Engine, handler: Handler):
    def leave_open(unit: SqlUnit) -> None:
        with unit.call(handler) as given:
            db: Any = given.session or given.connection
            db.begin_nested()
            db.execute(insert(numbers), {"n": 2})
            raise ValueError("refused")

    with begun(engine) as unit:
        add(unit, handler, 1)
        with pytest.raises(ValueError, match="refused"):
            leave_open(unit)
        add(unit, handler, 3)
        unit.done(Passed(), ())  # type: ignore[arg-type]
        unit.commit()
    assert kept(engine) == [1, 3]


@EITHER_WAY
def test_a_part_that_a_call_left_open_is_kept_when_the_call_succeeds(engine: Engine, handler: Handler):
    with begun(engine) as unit:
        with unit.call(handler) as given:
            db: Any = given.session or given.connection
            db.begin_nested()
            db.execute(insert(numbers), {"n": 2})
        add(unit, handler, 3)
        unit.done(Passed(), ())  # type: ignore[arg-type]
        unit.commit()
    assert kept(engine) == [2, 3]


@pytest.mark.parametrize(
    "write",
    [
        lambda db: db.execute(insert(numbers), {"n": 2}),
        lambda db: db.scalar(insert(numbers).returning(numbers.c.n), {"n": 2}),
        lambda db: db.scalars(insert(numbers).returning(numbers.c.n), {"n": 2}).one(),
        lambda db: db.exec_driver_sql("INSERT INTO numbers VALUES (2)"),
        lambda db: db.connection.cursor().execute("INSERT INTO numbers VALUES (2)"),
        lambda db: db.begin_nested().connection.execute(insert(numbers), {"n": 2}),
        lambda db: Session(db).execute(insert(numbers), {"n": 2}),
        lambda db: Session(db).scalar(insert(numbers).returning(numbers.c.n), {"n": 2}),
    ],
    ids=["execute", "scalar", "scalars", "driver", "cursor", "nested", "a session", "a session's scalar"],
)
def test_whichever_way_a_call_asks_first_it_is_undone(engine: Engine, write: Callable[[Any], object]):
    def refuse(unit: SqlUnit) -> None:
        with unit.call(BY_CONNECTION) as given:
            write(given.connection)
            raise ValueError("refused")

    with begun(engine) as unit:
        with pytest.raises(ValueError, match="refused"):
            refuse(unit)
        add(unit, BY_CONNECTION, 3)
        unit.done(Passed(), ())  # type: ignore[arg-type]
        unit.commit()
    assert kept(engine) == [3]


def test_a_call_that_asks_the_database_nothing_costs_no_savepoint(engine: Engine):
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *asked: said.append(asked[2]))
    with begun(engine) as unit:
        with pytest.raises(ValueError, match="refused"), unit.call(BY_CONNECTION):
            raise ValueError("refused")
        assert said == ["BEGIN IMMEDIATE"]
        add(unit, BY_CONNECTION, 1)
    assert said[1] == "SAVEPOINT millstream"
    assert said[-1] == "RELEASE SAVEPOINT millstream"
