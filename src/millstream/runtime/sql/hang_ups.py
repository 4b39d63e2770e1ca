"""Idle connections of a pool whose server has hung up.

SQLAlchemy finds out when it is asked for such a connection (`pool_pre_ping`), and not before: a process that has
nothing to ask keeps the socket half closed (CLOSE-WAIT), a file descriptor each, until it does.
"""

import select
import threading
import time
from collections.abc import MutableMapping
from typing import Any, cast
from weakref import WeakKeyDictionary, ref

from sqlalchemy import Engine, event
from sqlalchemy.pool import ConnectionPoolEntry

from millstream.telemetry import get_logger
from millstream.timeouts import LOOK_SECONDS

log = get_logger(__name__)

_HUNG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
"""The flag that Linux sets for a socket once its other side has closed, whatever there still is to read."""

Entries = MutableMapping[Any, ConnectionPoolEntry]
"""Driver connections, and what a pool has them as."""


def close_hung_up(engine: Engine) -> None:
    """From now on close idle psycopg connections of the engine soon after their server has hung up.

    Looks every `LOOK_SECONDS`, on a thread of its own that ends with the engine. It asks the operating system:
    nothing is sent, and connections in use are left alone. The pool makes new ones when it is asked for them.
    """
    entries: Entries = WeakKeyDictionary()

    def connected(connection: Any, entry: ConnectionPoolEntry) -> None:
        entries[connection] = entry

    event.listen(engine, "connect", connected)
    alive = ref(engine)
    database = engine.url.render_as_string(hide_password=True)
    threading.Thread(target=_look, args=(alive, entries, database), name="database.hang-ups", daemon=True).start()


def _look(alive: "ref[Engine]", entries: Entries, database: str) -> None:
    while alive() is not None:
        closed = sum(_closed(connection, entry) for connection, entry in list(entries.items()))
        if closed:
            log.warning(
                "database hung up",
                code="database_hung_up",
                database=database,
                connections=closed,
                detail="idle connections are closed; new ones are made when they are needed",
            )
        time.sleep(LOOK_SECONDS)


def _closed(connection: Any, entry: ConnectionPoolEntry) -> bool:
    """Close it if it is idle and its server has hung up; return True when that was so."""
    if entry.in_use or connection.closed or not _hung_up(connection):
        return False
    # A thread that takes it now finds out by its first statement, which needs the same lock.
    lock = cast("threading.Lock", connection.lock)
    if not lock.acquire(blocking=False):
        return False
    try:
        connection.close()
    finally:
        lock.release()
    return True


def _hung_up(connection: Any) -> bool:
    try:
        socket = connection.fileno()
    except Exception:  # closed meanwhile, which is all that it can mean
        return False
    poll = select.poll()
    poll.register(socket, _HUNG_UP)
    return bool(poll.poll(0))
