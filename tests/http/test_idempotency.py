"""Idempotency keys over a real SQLite file, through the worker's own thread."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert, select

from millstream.declare import seconds
from millstream.errors import Unavailable
from millstream.http import idempotency
from millstream.http.idempotency import IdempotencyKeys, idempotency_keys
from millstream.http.reservation import Conflict, Fresh, Repeat, body_hash
from millstream.runtime.sql.database import open_engine
from millstream.testing.child import wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/order.db")
    yield engine
    engine.dispose()


@contextmanager
def running(keys: IdempotencyKeys) -> Iterator[IdempotencyKeys]:
    stop = threading.Event()
    thread = threading.Thread(target=keys.run, args=(stop,))
    thread.start()
    try:
        yield keys
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


ids = (f"o-{number}" for number in itertools.count())


def make_id() -> str:
    return next(ids)


async def test_a_repeat_gets_the_first_id_and_another_body_is_a_conflict(engine: Engine):
    with running(IdempotencyKeys(engine)) as keys:
        first = await keys.reserve("k", body_hash(b"a"), make_id)
        assert isinstance(first, Fresh)
        assert await keys.reserve("k", body_hash(b"a"), make_id) == Repeat(first.id, done=False)
        assert await keys.reserve("k", body_hash(b"b"), make_id) == Conflict()
        keys.done("k")
        assert await keys.reserve("k", body_hash(b"a"), make_id) == Repeat(first.id, done=True)


async def test_keys_hold_across_a_restart(engine: Engine):
    with running(IdempotencyKeys(engine)) as keys:
        first = await keys.reserve("k", "h", make_id)
        keys.done("k")
    with running(IdempotencyKeys(engine)) as keys:
        assert await keys.reserve("k", "h", make_id) == Repeat(first.id, done=True)


async def test_of_many_at_once_on_two_replicas_one_is_fresh(engine: Engine):
    other = open_engine(str(engine.url))
    with running(IdempotencyKeys(engine)) as here, running(IdempotencyKeys(other)) as there:
        asked = [replica.reserve(f"k-{n % 20}", "h", make_id) for n in range(200) for replica in (here, there)]
        answers = await asyncio.wait_for(asyncio.gather(*asked), 10)
    other.dispose()
    fresh = [answer for answer in answers if isinstance(answer, Fresh)]
    assert len(fresh) == 20
    assert {answer.id for answer in answers} == {answer.id for answer in fresh}


async def test_a_request_is_told_when_keys_cannot_be_kept(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idempotency, "MAX_WAITING", 1)
    keys = IdempotencyKeys(engine)
    waiting = asyncio.ensure_future(keys.reserve("k", "h", make_id))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await keys.reserve("l", "h", make_id)
    with running(keys):
        assert isinstance(await waiting, Fresh)
    with pytest.raises(Unavailable):
        await keys.reserve("m", "h", make_id)


async def test_a_database_that_fails_fails_the_request_and_not_the_worker(engine: Engine):
    with running(IdempotencyKeys(engine)) as keys:
        idempotency.metadata.drop_all(engine)
        with pytest.raises(Unavailable):
            await keys.reserve("k", "h", make_id)
        idempotency.metadata.create_all(engine)
        assert isinstance(await keys.reserve("k", "h", make_id), Fresh)


async def test_old_keys_are_forgotten(engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(idempotency, "SWEEP_EVERY", 0.0)
    keys = IdempotencyKeys(engine, retention=seconds(-10))
    with running(keys):
        await keys.reserve("k", "h", make_id)
        wait_until(lambda: not stored(engine), seconds=60, what="the old key is deleted")


async def test_old_keys_beyond_one_sweep_are_forgotten_at_once_and_in_short_transactions(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(idempotency, "MAX_SWEPT", 10)
    monkeypatch.setattr(idempotency, "SWEEP_EVERY", 0.0)
    keys = IdempotencyKeys(engine)
    monkeypatch.setattr(idempotency, "SWEEP_EVERY", 3_600.0)
    old = {"body_hash": "h", "resource_id": "o", "state": "done", "published_to": "", "created_at": 0}
    with engine.begin() as connection:
        connection.execute(insert(idempotency_keys), [old | {"key": f"old-{n}"} for n in range(25)])
    swept: list[int] = []

    @event.listens_for(engine, "after_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            swept.append(cursor.rowcount)

    with running(keys):
        wait_until(lambda: not stored(engine), seconds=60, what="the old keys are deleted while nobody asks")
        assert isinstance(await keys.reserve("k", "h", make_id), Fresh)
    assert swept == [10, 10, 5]
    assert stored(engine) == ["k"]


def stored(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        return list(connection.scalars(select(idempotency_keys.c.key)))


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_of_no_use_is_refused(engine: Engine, key: str):
    with pytest.raises(ValueError, match="1 to 255"):
        await IdempotencyKeys(engine).reserve(key, "h", make_id)


async def test_what_was_published_to_topics_that_are_no_more_is_published_again_under_its_id(engine: Engine):
    with running(IdempotencyKeys(engine, published_to="topics-1")) as keys:
        first = await keys.reserve("k", body_hash(b"a"), make_id)
        assert isinstance(first, Fresh)
        keys.done("k")
        assert await keys.reserve("k", body_hash(b"a"), make_id) == Repeat(first.id, done=True)
    with running(IdempotencyKeys(engine, published_to="topics-2")) as keys:
        assert await keys.reserve("k", body_hash(b"a"), make_id) == Repeat(first.id, done=False)
        assert await keys.reserve("k", body_hash(b"b"), make_id) == Conflict()
        keys.done("k")
        assert await keys.reserve("k", body_hash(b"a"), make_id) == Repeat(first.id, done=True)
