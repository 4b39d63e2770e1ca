"""Idempotency keys: a repeated request gets the first one's id, across restarts and replicas."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from millstream.declare import days
from millstream.errors import Unavailable
from millstream.http.reservation import Conflict, Fresh, Repeat, Reservation
from millstream.http.settle import settle
from millstream.runtime.sql.database import create_missing
from millstream.runtime.sql.tables import insert_into
from millstream.telemetry import get_logger

metadata = MetaData()
idempotency_keys = Table(
    "millstream_idempotency_keys",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("state", String(8), nullable=False),
    # What its events were published to, where that is done: a topic that was made again does not have them.
    Column("published_to", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),  # seconds since 1970: the same on both databases
)

RETENTION: Final = days(7)
MAX_WAITING: Final = 10_000
MAX_TOGETHER: Final = 200
SWEEP_EVERY: Final = 60.0
MAX_SWEPT: Final = 5_000
"""Rows that one sweep deletes: a transaction that holds the lock for milliseconds, not seconds. Where that was not all,
the next comes after the next write: else the table would grow for ever above 83 keys a second."""

log = get_logger(__name__)

_COLUMNS = idempotency_keys.c
_FIND = select(_COLUMNS.key, _COLUMNS.body_hash, _COLUMNS.resource_id, _COLUMNS.state, _COLUMNS.published_to).where(
    _COLUMNS.key.in_(bindparam("keys", expanding=True))
)
_MARK = update(idempotency_keys).where(_COLUMNS.key.in_(bindparam("keys", expanding=True)))
_SWEEP = delete(idempotency_keys).where(
    _COLUMNS.key.in_(select(_COLUMNS.key).where(_COLUMNS.created_at < bindparam("before")).limit(bindparam("most")))
)


class _Asked(NamedTuple):
    row: dict[str, Any]
    answer: "asyncio.Future[Reservation]"


class IdempotencyKeys:
    """The keys of one service, in a table of its database. A worker: its thread writes many requests' keys at once.

    - `retention`: how long a key is remembered. A request repeated later is a new one.
    - `published_to`: names the topics that requests publish to, as they are: a request that was done when they were
      others is carried out again, with its id.

        match await keys.reserve(key, body_hash(request.url.path, body), new_order_id):
            case Conflict(): raise Problem(409, "this key was used with another body")
            case Fresh(order_id) | Repeat(order_id, done=False): await publisher.publish(..., id=order_id)
        keys.done(key)
    """

    name = "idempotency"

    def __init__(self, engine: Engine, *, retention: timedelta = RETENTION, published_to: str = "") -> None:
        self._engine = engine
        self._published_to = published_to
        self._retention = retention.total_seconds()
        self._waiting: queue.SimpleQueue[_Asked | str] = queue.SimpleQueue()
        self._accepting = True
        self._sweep_at = time.monotonic() + SWEEP_EVERY
        self._add = insert_into(idempotency_keys, engine.dialect.name).on_conflict_do_nothing()
        create_missing(engine, metadata)

    async def reserve(self, key: str, body_hash: str, make_id: Callable[[], str]) -> Reservation:
        """Binds `key` to this body and a fresh id from `make_id`, or says what it is bound to already.

        Returns when that is on disk. Raises `Unavailable` when too many wait already or the database does not answer,
        and `ValueError` for a key that is empty or longer than 255 characters.
        """
        if not 0 < len(key) <= 255:
            raise ValueError("an idempotency key has 1 to 255 characters")
        if not self._accepting or self._waiting.qsize() >= MAX_WAITING:
            raise Unavailable("Idempotency keys cannot be kept right now: too many wait. It is worth trying again.")
        answer: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        row = {
            "key": key,
            "body_hash": body_hash,
            "resource_id": make_id(),
            "state": "reserved",
            "published_to": "",
            "created_at": int(time.time()),
        }
        self._waiting.put(_Asked(row, answer))
        return await answer

    def done(self, key: str) -> None:
        """The request of `key` is carried out. Written soon; if lost, a repeat publishes the same ids once more."""
        if self._accepting and self._waiting.qsize() < MAX_WAITING:
            self._waiting.put(key)

    def run(self, stop: threading.Event) -> None:
        """Writes what is asked for until `stop` is set, and answers what waits by then."""
        try:
            while not stop.is_set():
                self._write(self._gather(timeout=0.2))
                self._sweep()
        finally:
            self._accepting = False
            while waiting := self._gather(timeout=0):
                self._write(waiting)

    def _gather(self, timeout: float) -> list[_Asked | str]:
        gathered: list[_Asked | str] = []
        try:
            gathered.append(self._waiting.get(timeout=timeout) if timeout else self._waiting.get_nowait())
            while len(gathered) < MAX_TOGETHER:
                gathered.append(self._waiting.get_nowait())
        except queue.Empty:  # that is all there is now
            pass
        return gathered

    def _write(self, gathered: Sequence[_Asked | str]) -> None:
        if not gathered:
            return
        asked = [entry for entry in gathered if isinstance(entry, _Asked)]
        finished = [entry for entry in gathered if isinstance(entry, str)]
        try:
            with self._engine.begin() as connection:
                # First, because a request is done before it can be repeated.
                if finished:
                    mark = _MARK.values(state="done", published_to=self._published_to)
                    connection.execute(mark, {"keys": sorted(set(finished))})
                answers = self._reserve(connection, [entry.row for entry in asked]) if asked else []
        except SQLAlchemyError as error:
            log.warning(
                "idempotency keys not written",
                code="idempotency_keys_not_written",
                error=str(error.__cause__ or error),
                requests=len(asked),
            )
            unavailable = Unavailable(
                "The service's database did not take the idempotency key. It is worth trying again."
            )
            settle([(entry.answer, unavailable) for entry in asked])
        else:
            settle([(entry.answer, answer) for entry, answer in zip(asked, answers, strict=True)])

    def _reserve(self, connection: Connection, rows: list[dict[str, Any]]) -> list[Reservation]:
        # In one order everywhere, or two replicas with the same keys would wait for each other.
        connection.execute(self._add, sorted(rows, key=lambda row: row["key"]))
        found = connection.execute(_FIND, {"keys": list({row["key"] for row in rows})})
        known = {
            key: (hashed, resource, state == "done" and to == self._published_to)
            for key, hashed, resource, state, to in found
        }
        return [_compare(row, *known[row["key"]]) for row in rows]

    def _sweep(self) -> None:
        now = time.monotonic()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_EVERY
        before = int(time.time() - self._retention)
        try:
            with self._engine.begin() as connection:
                swept = connection.execute(_SWEEP, {"before": before, "most": MAX_SWEPT}).rowcount
            if swept >= MAX_SWEPT:
                self._sweep_at = now
        except SQLAlchemyError as error:
            log.warning(
                "old idempotency keys not deleted",
                code="idempotency_keys_not_deleted",
                error=str(error.__cause__ or error),
            )


def _compare(row: dict[str, Any], hashed: str, resource: str, done: bool) -> Reservation:
    if resource == row["resource_id"]:
        return Fresh(resource)
    return Repeat(resource, done) if hashed == row["body_hash"] else Conflict()
