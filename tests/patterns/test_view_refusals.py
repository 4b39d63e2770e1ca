"""Rows that the table of a view cannot take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, CheckConstraint, Column, MetaData, String, Table, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from millstream.declare import Service, Value
from millstream.patterns.view.sink import Row, RowsRefused
from millstream.patterns.view.sql import SqlSink
from millstream.runtime.sql.database import open_engine
from millstream.settings import Settings
from millstream.testing.postgresql import PostgreSQL


class Place(Value, namespace="test"):
    seat: str | None


def named(row: Place) -> dict[str, Any]:
    return {"seat": row.seat.strip()}  # type: ignore[union-attr] # that it raises for None is what a test wants


class Theatre:
    """A sink of a table with a seat for each key."""

    def __init__(self, settings: Settings) -> None:
        self.metadata = MetaData()
        self.table = Table(
            "places",
            self.metadata,
            Column("guest", String(10), CheckConstraint("guest <> 'banned'"), primary_key=True),
            Column("seat", String(10), nullable=False, unique=True),
            Column("version", BigInteger, nullable=False),
        )
        self.at = ("places", 0)
        self.sink = SqlSink(self.table, named)
        service = Service("theatre", tables=self.metadata)
        self.sink.open(service, settings, "theatre.places", Place, "topic-1")
        self.sink.positions([self.at])
        self.engine = open_engine(settings.database(service.name))
        self.next = 0

    def apply(self, **seats: str | None) -> None:
        rows = [Row(guest, Place(seat=seat), self.next + index) for index, (guest, seat) in enumerate(seats.items())]
        self.sink.apply(rows, {self.at: self.next + len(rows)})
        self.next += len(rows)

    def refused(self, **seats: str | None) -> dict[str, Exception]:
        with pytest.raises(RowsRefused) as raised:
            self.apply(**seats)
        return dict(raised.value.refused)

    def seats(self) -> dict[str, str]:
        with self.engine.connect() as connection:
            return dict(connection.execute(select(self.table.c.guest, self.table.c.seat)).all())

    def close(self) -> None:
        self.sink.close()
        self.engine.dispose()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def theatre(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Theatre]:
    database = request.getfixturevalue("server").url if request.param == "postgresql" else None
    made = Theatre(Settings(data_dir=tmp_path, database_url=database))
    yield made
    with made.engine.begin() as connection:
        made.metadata.drop_all(connection)
    made.close()


def test_refused_rows_are_told_apart_and_nothing_is_written_with_them(theatre: Theatre):
    theatre.apply(anna="1")
    refused = theatre.refused(ben="2", banned="3", carl=None, dora="1")
    assert {key: type(error).__name__ for key, error in refused.items()} == {
        "banned": "IntegrityError",
        "carl": "AttributeError",
        "dora": "IntegrityError",
    }
    assert theatre.seats() == {"anna": "1"}
    assert theatre.sink.positions([theatre.at]) == {theatre.at: 1}
    theatre.apply(ben="2")
    assert theatre.seats() == {"anna": "1", "ben": "2"}


def test_rows_that_only_fit_in_another_order_are_refused_by_nobody(theatre: Theatre):
    theatre.apply(anna="1", ben="2")
    theatre.apply(carl="1", anna="3", dora="2", ben="4")
    assert theatre.seats() == {"carl": "1", "anna": "3", "dora": "2", "ben": "4"}


on_postgresql = pytest.mark.parametrize("theatre", [pytest.param("postgresql", marks=pytest.mark.real)], indirect=True)


@on_postgresql
def test_a_violated_constraint_is_the_rows_even_where_it_is_deferred(theatre: Theatre):
    with theatre.engine.begin() as connection:
        connection.execute(text("ALTER TABLE places DROP CONSTRAINT places_seat_key"))
        connection.execute(text("ALTER TABLE places ADD UNIQUE (seat) DEFERRABLE INITIALLY DEFERRED"))
    theatre.apply(anna="1", ben="2")
    theatre.apply(anna="2", ben="1")
    assert set(theatre.refused(anna="3", carl="1")) == {"carl"}
    theatre.apply(anna="3")
    assert theatre.seats() == {"anna": "3", "ben": "1"}


@on_postgresql
def test_what_postgresql_cannot_hold_is_refused(theatre: Theatre):
    assert set(theatre.refused(anna="1", **{"a\0": "2", "longer than ten": "3"}, ben="longer than ten")) == {
        "a\0",
        "longer than ten",
        "ben",
    }


def test_a_table_that_is_another_refuses_no_row(theatre: Theatre):
    with theatre.engine.begin() as connection:
        connection.execute(text("ALTER TABLE places RENAME COLUMN seat TO chair"))
    with pytest.raises((OperationalError, ProgrammingError)):
        theatre.apply(anna="1")


def test_a_sink_that_refuses_all_goes_on(theatre: Theatre):
    theatre.refused(banned="1")
    theatre.sink.apply([], {theatre.at: 1})
    assert theatre.sink.positions([theatre.at]) == {theatre.at: 1}
