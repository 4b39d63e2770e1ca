"""The database as a service gets it, on SQLite; test_sql_postgresql.py does the same on PostgreSQL."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, MetaData, Table, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from millstream.declare import Service
from millstream.errors import ConfigurationError
from millstream.runtime.sql.database import READ_ONLY, open_database, open_engine, passing
from millstream.settings import Settings

metadata = MetaData()
numbers = Table("numbers", metadata, Column("n", Integer, primary_key=True))
service = Service("counting", tables=metadata)


@pytest.fixture
def engine(tmp_path: Path):
    engine = open_database(service, Settings(data_dir=tmp_path))
    yield engine
    engine.dispose()


def kept(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(select(numbers.c.n).order_by(numbers.c.n)).scalars())


def test_makes_the_services_tables_and_its_own(engine: Engine) -> None:
    assert {"numbers", "millstream_positions", "millstream_outbox"} <= set(inspect(engine).get_table_names())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE millstream_outbox DROP COLUMN headers", r"has no headers\..*DROP TABLE millstream_outbox"),
        ("ALTER TABLE millstream_positions DROP COLUMN next_offset", r"has no next_offset\..*a new database"),
    ],
)
def test_a_table_of_another_release_is_told_with_its_remedy(
    engine: Engine, tmp_path: Path, change: str, said: str
) -> None:
    with engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(ConfigurationError, match=said):
        open_database(service, Settings(data_dir=tmp_path))


def test_every_commit_is_on_disk_and_keys_are_checked(engine: Engine) -> None:
    with engine.connect() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]


def test_a_savepoint_undoes_its_own_and_nothing_else(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(numbers.insert().values(n=1))
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(numbers.insert(), [{"n": 2}, {"n": 1}])
        connection.execute(numbers.insert().values(n=3))
    assert kept(engine) == [1, 3]


def test_a_reader_waits_for_no_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        writer.execute(numbers.insert().values(n=1))
        assert kept(engine.execution_options(**READ_ONLY)) == []


def test_a_writer_waits_for_the_writer_before_it(engine: Engine) -> None:
    second_done = threading.Event()

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(numbers.insert().values(n=2))
        second_done.set()

    with engine.begin() as connection:
        connection.execute(numbers.insert().values(n=1))
        other = threading.Thread(target=write)
        other.start()
        assert not second_done.wait(0.1)
    assert second_done.wait(5)
    other.join()
    assert kept(engine) == [1, 2]


def test_many_processes_may_open_it_for_the_first_time_at_once(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from millstream.declare import Service
from millstream.runtime.sql.database import open_database
from millstream.settings import Settings
open_database(Service("counting"), Settings(data_dir=Path({str(tmp_path)!r})))
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait(30) for process in processes] == [0] * 4


def test_may_be_opened_for_the_first_time_while_somebody_reads_it(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    early = open_engine(settings.database(service.name))
    with ThreadPoolExecutor(1) as pool:
        with early.execution_options(**READ_ONLY).connect() as reading:
            assert not inspect(reading).has_table("numbers")
            # One that reads more than one statement's worth.
            reading.exec_driver_sql("BEGIN")
            reading.execute(text("SELECT * FROM sqlite_schema"))
            opening = pool.submit(open_database, service, settings)
            with pytest.raises(TimeoutError):
                opening.result(0.3)
        engine = opening.result(20)
    assert kept(engine) == []
    engine.dispose()
    early.dispose()


def test_tells_passing_troubles_from_a_statements_own(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError) as violated, engine.begin() as connection:
        connection.execute(numbers.insert(), [{"n": 1}, {"n": 1}])
    assert not passing(violated.value)

    impatient = open_engine(f"sqlite:///{engine.url.database}?timeout=0")
    with engine.begin(), pytest.raises(OperationalError) as busy, impatient.begin():
        pass
    impatient.dispose()
    assert passing(busy.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [("sqlite://", "must be a file"), ("mysql://h/d", "SQLite or PostgreSQL"), ("what", "no SQLAlchemy URL")],
)
def test_refuses_a_url_that_cannot_work(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        open_engine(url)


def test_an_errors_text_quotes_no_value_of_a_row(engine: Engine) -> None:
    """It stands in logs and in headers of dead letters, and a row may be about a person."""
    with pytest.raises(IntegrityError, match="INSERT INTO numbers") as raised, engine.begin() as connection:
        connection.execute(numbers.insert(), [{"n": 7734129}, {"n": 7734129}])
    assert "7734129" not in str(raised.value)
