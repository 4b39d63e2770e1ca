"""A service's own database: SQLite or PostgreSQL, opened so that what commits stays committed."""

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, PendingRollbackError

from millstream.declare import Service
from millstream.declare.transient import SQLITE_CODES, is_transient
from millstream.errors import ConfigurationError
from millstream.extras import require
from millstream.runtime.sql.hang_ups import close_hung_up
from millstream.runtime.sql.tables import outbox_table, own_tables
from millstream.settings import Settings, without_credentials
from millstream.timeouts import SQLITE_BUSY_TIMEOUT

STATEMENTS = 32
"""Prepared statements that a SQLite connection caches. Python's 128 take megabytes: lists of every length differ."""
PAGES_KB = 256
"""Kilobytes that a SQLite connection caches of its file, which the operating system caches too.

SQLite's own default is 2 MB.
"""

READ_ONLY = {"millstream_read_only": True}
"""Execution options for those that never write: `engine.execution_options(**READ_ONLY)` waits for no writer. Each
statement sees what was committed when it began, as on PostgreSQL."""

SETUP_LOCK = 0x6D696C6C_00000001
"""PostgreSQL advisory lock under which tables are created."""


def open_database(service: Service, settings: Settings) -> Engine:
    """Return the engine of a service's database, with its own tables and Millstream's created where they are missing.

    Several processes may do so at once. Raises `ConfigurationError` for a URL that cannot work, and for a database in
    which another release of Millstream made other tables.

    Example: `engine = open_database(inventory, load_settings())`
    """
    engine = open_engine(settings.database(service.name))
    create_missing(engine, *([service.tables] if service.tables is not None else []), own_tables)
    _check_layout(engine)
    return engine


def open_engine(url: str) -> Engine:
    """Return an engine whose transactions and savepoints are real ones, on both databases.

    On SQLite: WAL, every commit on disk (`synchronous=FULL`), foreign keys, and transactions that take the write lock
    when they begin, so that none fails half-way because another wrote first; see `READ_ONLY` for those that only read.
    Nothing is connected yet. Raises `ConfigurationError` for a URL that cannot work.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(f"MILLSTREAM_DATABASE_URL is no SQLAlchemy URL: {without_credentials(url)}") from error
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        require("postgresql", "MILLSTREAM_DATABASE_URL names PostgreSQL, which")
        url_of_psycopg = parsed.set(drivername="postgresql+psycopg")
        engine = create_engine(url_of_psycopg, pool_pre_ping=True, hide_parameters=True)
        close_hung_up(engine)
        return engine
    raise ConfigurationError(
        f"MILLSTREAM_DATABASE_URL names {parsed.get_backend_name()}: a service's database is SQLite or PostgreSQL"
    )


def create_missing(engine: Engine, *tables: MetaData) -> None:
    """Create the tables that are missing; several processes may do so at once."""
    with _setup_alone(engine) as connection:
        for metadata in tables:
            metadata.create_all(connection)


def _check_layout(engine: Engine) -> None:
    found = inspect(engine)
    for name, table in own_tables.tables.items():
        missing = set(table.columns.keys()) - {column["name"] for column in found.get_columns(name)}
        if missing:
            raise ConfigurationError(
                f"{engine.url.render_as_string()}: the table {name} was made by another release of Millstream and has "
                f"no {', '.join(sorted(missing))}. {_remedy(name)}"
            )


def _remedy(table: str) -> str:
    if table == outbox_table.name:
        return f"Let that release run until all is published, then DROP TABLE {table}: this release creates it again"
    return "Go on with that release, or give the service a new database: this table says what has been done"


def passing(error: BaseException) -> bool:
    """Return whether an error is transient, so that the same transaction can succeed when done again.

    Busy databases, deadlocks, serialization failures and lost connections are; a violated constraint is not.
    """
    return isinstance(error, (DBAPIError, PendingRollbackError)) and is_transient(error)


def is_sqlite(engine: Engine | Connection) -> bool:
    """Return whether it speaks to SQLite rather than PostgreSQL."""
    return engine.dialect.name == "sqlite"


def beside(engine: Engine, suffix: str) -> Path:
    """Return the path of a file beside a SQLite database, such as a lock."""
    return Path(f"{engine.url.database}{suffix}")


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("MILLSTREAM_DATABASE_URL keeps SQLite in memory: a service's database must be a file")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    defaults = {"timeout": SQLITE_BUSY_TIMEOUT, "cached_statements": STATEMENTS}
    wanted = {name: value for name, value in defaults.items() if name not in url.query}
    # Errors quote the statement without its parameters: their texts stand in logs and in headers of dead letters.
    engine = create_engine(url, connect_args=wanted, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own idea of when to begin breaks savepoints: it begins nothing, and `_begin_sqlite` does.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA cache_size=-{PAGES_KB}")


def _begin_sqlite(connection: Connection) -> None:
    # A read alone needs no transaction around it, and an idle relay reads twenty times a second.
    if not connection.get_execution_options().get("millstream_read_only", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def _setup_alone(engine: Engine) -> Iterator[Connection]:
    if not is_sqlite(engine):
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SETUP_LOCK})
            yield connection
        return
    # Two that go over to WAL at once would be in each other's way.
    with beside(engine, ".setup-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        raw = engine.raw_connection()
        try:
            _go_over_to_wal(raw.cursor())
        finally:
            raw.close()
        with engine.begin() as connection:
            yield connection


def _go_over_to_wal(cursor: Any) -> None:
    """Switch to WAL.

    SQLite refuses at once, whatever the timeout, while another connection reads; so try until that one is done.
    """
    deadline = time.monotonic() + SQLITE_BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in SQLITE_CODES or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
