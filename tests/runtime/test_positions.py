"""Positions move by compare-and-set: who worked from an old one changes nothing."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from millstream.declare import Service
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.positions import move_positions, read_positions, replaced_topics
from millstream.settings import Settings

A, B = ("orders", 0), ("orders", 1)


@pytest.fixture
def engine(tmp_path: Path):
    engine = open_database(Service("counting"), Settings(data_dir=tmp_path))
    yield engine
    engine.dispose()


def read(engine: Engine, group: str = "g") -> dict[tuple[str, int], int]:
    with engine.connect() as connection:
        return read_positions(connection, group, [A, B], {})


def test_moves_from_nothing_and_on(engine: Engine) -> None:
    with engine.begin() as connection:
        assert move_positions(connection, "g", {}, {A: 5, B: 1}, {})
        assert move_positions(connection, "g", {A: 5, B: 1}, {A: 9}, {})
    assert read(engine) == {A: 9, B: 1}
    assert read(engine, "another group") == {}


@pytest.mark.parametrize("expected", [{}, {A: 4}, {A: 6}])
def test_a_zombie_moves_nothing(engine: Engine, expected: dict[tuple[str, int], int]) -> None:
    with engine.begin() as connection:
        assert move_positions(connection, "g", {}, {A: 5}, {})
    with engine.begin() as connection:
        assert not move_positions(connection, "g", expected, {A: 7}, {})
    assert read(engine) == {A: 5}


def test_a_topic_made_again_has_no_position(engine: Engine) -> None:
    first, second = {"orders": "id-1"}, {"orders": "id-2"}
    with engine.begin() as connection:
        assert move_positions(connection, "g", {}, {A: 5, B: 1}, first)
        assert replaced_topics(connection, "g", first) == []
        assert replaced_topics(connection, "g", {**second, "others": "id-3"}) == ["orders"]
        assert read_positions(connection, "g", [A, B], second) == {}
        assert move_positions(connection, "g", {}, {A: 2}, second), "it is another position"
        assert replaced_topics(connection, "g", second) == []
    with engine.begin() as connection:
        assert read_positions(connection, "g", [A, B], second) == {A: 2}
        assert read_positions(connection, "g", [A, B], first) == {A: 5, B: 1}
        assert not move_positions(connection, "g", {A: 5}, {A: 6}, second), "a zombie of the old topic's moves nothing"
