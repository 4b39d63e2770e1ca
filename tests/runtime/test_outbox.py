"""The outbox: what commits is there in the order of commits, and no id is ever given twice."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from millstream.contracts import Headers, edge_id, header_writer
from millstream.declare import Event, Service
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.outbox import Outbox, identity
from millstream.runtime.sql.tables import outbox_table
from millstream.settings import Settings


class Weighed(Event, key="parcel", namespace="test"):
    parcel: str


outbox = Outbox("counting")


@pytest.fixture
def engine(tmp_path: Path):
    engine = open_database(Service("counting"), Settings(data_dir=tmp_path))
    yield engine
    engine.dispose()


def append(engine: Engine, *values: bytes) -> None:
    with engine.begin() as connection:
        outbox.append(connection, [("t", b"k", value, [("h", b"\xff")]) for value in values])


def values(engine: Engine, first: int = 0, limit: int = 100) -> list[bytes | None]:
    with engine.connect() as connection:
        return [row.value for row in outbox.rows_from(connection, first, limit)]


def test_keeps_records_as_they_are_in_order(engine: Engine) -> None:
    append(engine, b"1", b"2")
    with engine.begin() as connection:
        outbox.append(connection, [("t.dlq", None, None, [])])
        rows = outbox.rows_from(connection, 0, 10)
    assert [tuple(row) for row in rows] == [
        (1, "t", b"k", b"1", [("h", b"\xff")]),
        (2, "t", b"k", b"2", [("h", b"\xff")]),
        (3, "t.dlq", None, None, []),
    ]
    assert values(engine, first=2, limit=1) == [b"2"]


STANDARD = ["ce_id", "correlationid", "ce_type", "ce_source", "ce_specversion", "content-type", "ce_time"]
texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8).map(str.encode)
event_headers = st.tuples(st.lists(texts, min_size=9, max_size=9), st.booleans(), st.booleans()).map(
    lambda drawn: [
        *zip(STANDARD, drawn[0], strict=False),
        *([("causationid", drawn[0][7])] if drawn[1] else []),
        *([("traceparent", drawn[0][8])] if drawn[2] else []),
    ]
)
event_headers |= event_headers.map(lambda headers: [*headers[:-1], (headers[-1][0], None)])  # as Debezium writes them
other_headers = st.lists(st.tuples(st.sampled_from([*STANDARD, "odd"]), st.none() | st.binary(max_size=8)), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(event_headers | other_headers, min_size=1, max_size=5))
def test_headers_come_back_as_they_were(engine: Engine, drawn: list[Headers]) -> None:
    with engine.connect() as connection:
        outbox.append(connection, [("t", b"k", b"v", headers) for headers in drawn])
        assert [row.headers for row in outbox.rows_from(connection, 0, 100)] == drawn
        connection.rollback()


def test_an_event_is_in_the_columns_that_debezium_routes_by(engine: Engine) -> None:
    id = edge_id()
    headers = header_writer(Weighed, "scale")(id, id, None, None)
    with engine.connect() as connection:
        outbox.append(connection, [("scales.events", b"p-1", b"payload", headers)])
        row = connection.execute(select(outbox_table)).mappings().one()
    assert (row["id"], row["aggregatetype"], row["aggregateid"]) == (id, "scales.events", b"p-1")
    assert (row["type"], row["payload"], row["source"], row["headers"]) == ("test.Weighed", b"payload", "scale", None)


def test_what_rolls_back_was_never_there(engine: Engine) -> None:
    with engine.connect() as connection:
        outbox.append(connection, [("t", b"k", b"1", [])])
        connection.rollback()
    assert values(engine) == []


def test_ids_of_deleted_rows_are_not_used_again(engine: Engine) -> None:
    append(engine, b"1", b"2")
    with engine.begin() as connection:
        assert outbox.delete_before(connection, 3) == 2
    append(engine, b"3")
    with engine.connect() as connection:
        assert [row.seq for row in outbox.rows_from(connection, 0, 10)] == [3]


def test_knows_the_highest_number_it_ever_gave(engine: Engine) -> None:
    with engine.begin() as connection:
        assert outbox.newest(connection) == 0
    append(engine, b"1", b"2")
    with engine.begin() as connection:
        outbox.delete_before(connection, 3)
        assert outbox.newest(connection) == 2


def test_counts_what_waits(engine: Engine) -> None:
    append(engine, b"1", b"2", b"3")
    with engine.connect() as connection:
        count, seconds = outbox.waiting(connection, 2)
        assert outbox.waiting(connection, 4) == (0, 0.0)
    assert count == 2 and 0 <= seconds < 10


def test_services_that_share_a_database_do_not_share_an_outbox(engine: Engine) -> None:
    append(engine, b"1")
    with engine.begin() as connection:
        assert Outbox("other").rows_from(connection, 0, 10) == []
        assert Outbox("other").delete_before(connection, 99) == 0
    assert values(engine) == [b"1"]


def test_a_database_made_anew_is_another_one(engine: Engine, tmp_path: Path) -> None:
    assert identity(engine) == identity(engine)
    again = open_database(Service("counting"), Settings(data_dir=tmp_path / "again"))
    assert identity(again) != identity(engine)
    again.dispose()
