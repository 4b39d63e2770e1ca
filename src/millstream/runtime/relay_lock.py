"""One relay per service and database, however many instances there are: whoever holds this lock."""

import fcntl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

from millstream.runtime.database import beside, is_sqlite

RELAY_LOCK = 0x6D696C6C
"""First half of the PostgreSQL advisory lock that a service's active relay holds; the second is its name's checksum."""


@contextmanager
def relay_lock(engine: Engine, service: str) -> Iterator[bool]:
    """Whether this process has become the one that relays; it stays so inside the `with`.

    The lock goes when its holder dies. A holder that lost its connection without noticing is fenced by its successor,
    which uses the same transactional id.
    """
    holding = _file_lock(engine, service) if is_sqlite(engine) else _advisory_lock(engine, service)
    with holding as mine:
        yield mine


@contextmanager
def _file_lock(engine: Engine, service: str) -> Iterator[bool]:
    with beside(engine, f".{service}.relay-lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _advisory_lock(engine: Engine, service: str) -> Iterator[bool]:
    key = {"lock": RELAY_LOCK, "service": zlib.crc32(service.encode()) - 2**31}
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        yield bool(connection.execute(text("SELECT pg_try_advisory_lock(:lock, :service)"), key).scalar_one())
    finally:
        # Closes the server's session, and with it the lock; a pool would keep both.
        connection.invalidate()
        connection.close()
