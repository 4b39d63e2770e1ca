"""A sink in the service's own database."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Engine, Table, bindparam, select, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from millstream.declare import Service, Value
from millstream.errors import ConfigurationError, DeclarationError
from millstream.kafka import TopicPartition
from millstream.patterns.view.sink import PositionsMoved, Row, RowsRefused
from millstream.runtime.sql.database import is_sqlite, open_database, passing
from millstream.runtime.sql.positions import forget_positions, move_position, move_positions, read_positions
from millstream.runtime.sql.tables import insert_into, positions_table
from millstream.runtime.worker import ProcessEnds
from millstream.settings import Settings
from millstream.telemetry import get_logger

log = get_logger(__name__)

_STATES_OF_A_ROW = ("54", "P0001")
"""SQLSTATEs of what is too large for PostgreSQL, such as for an index, and of what a trigger raises."""


class SqlSink:
    """Keeps a view in a table of the service's database: one row per key, with its version.

    - `table`: its single primary key column takes the view's key. A column named `version` (BigInteger) is needed. The
      table must be among the service's `tables`, which makes it.
    - `columns`: from a row of the view to the values of the other columns. By default each column takes the field of
      its name, and what is not plain becomes what JSON can hold: use `JSON` columns for those.
    - `name`: unique among the sinks of its view; by default the table's.

    Rows and the position behind them are committed together. To change how the table is made, empty it: it is rebuilt
    from the beginning of the topic, when the service starts or, if it runs, with the next row. On PostgreSQL do that
    with `TRUNCATE` while it runs, for a `DELETE` leaves the rows that are written meanwhile.

    A row that the table or `columns` refuses becomes a dead letter. Once it can be taken, empty the table.

        order_table = Table("orders", metadata, Column("order_id", String, primary_key=True),
                            Column("status", String), Column("version", BigInteger, nullable=False))
        View("orders", OrderRow, topic="orders.read-model", sinks=[SqlSink(order_table)])
    """

    def __init__(
        self, table: Table, columns: Callable[[Any], Mapping[str, Any]] | None = None, *, name: str | None = None
    ) -> None:
        keys = list(table.primary_key)
        if len(keys) != 1 or "version" not in table.c:
            raise DeclarationError(f"SqlSink: table {table.name!r} needs one primary key column and a column `version`")
        self.name = name or table.name
        self._table = table
        self._key: Column[Any] = keys[0]
        self._columns = columns
        self._engine: Engine | None = None
        self._group = self._left_empty = self._topic_id = ""
        self._positions: dict[TopicPartition, int] = {}

    def open(self, service: Service, settings: Settings, group: str, value: type[Value], topic_id: str) -> None:
        if service.tables is None or self._table.key not in service.tables.tables:
            raise DeclarationError(f"SqlSink: table {self._table.name!r} is not in the tables of {service.name}")
        if self._columns is None:
            self._columns = self._by_name(value)
        self._group = group
        self._left_empty = f"{group}.left-empty"
        self._engine = open_database(service, settings)
        self._upsert = self._upsert_for(self._engine.dialect.name)
        self._delete = self._deletion()
        self._topic_id = topic_id
        with self._engine.begin() as connection:
            if self._is_empty(connection):
                self._begin_anew(connection)
            elif self._is_of_another_topic(connection):
                raise ConfigurationError(
                    f"The table {self._table.key!r} has rows of a topic that was deleted and made again: their "
                    f"versions are offsets there, and rows of the new topic would count as older. Empty it (TRUNCATE "
                    f"{self._table.key}): {group} then fills it from the start of the topic"
                )

    def positions(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        with self._opened.begin() as connection:
            if self._was_emptied(connection):
                log.warning(
                    "the table was emptied: it is rebuilt from the beginning",
                    code="sink_table_rebuilt",
                    table=self._table.key,
                )
                self._begin_anew(connection)
            ids = {topic: self._topic_id for topic, _ in partitions}
            found = read_positions(connection, self._group, partitions, ids)
        for partition in partitions:
            self._positions.pop(partition, None)
        self._positions |= found
        return found

    def apply(self, rows: Sequence[Row], moved: Mapping[TopicPartition, int]) -> None:
        try:
            self._commit(rows, moved, self._write)
        except BaseException as error:
            if not refuses_a_row(error):
                raise
            self._commit(rows, moved, self._write_each)
        self._positions.update(moved)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    @property
    def _opened(self) -> Engine:
        assert self._engine is not None, "open() comes first"
        return self._engine

    def _commit(
        self,
        rows: Sequence[Row],
        moved: Mapping[TopicPartition, int],
        write: Callable[[Connection, Sequence[Row]], None],
    ) -> None:
        with self._opened.begin() as connection:
            # Looked at in the transaction that writes, so that no other process can truncate it in between.
            ids = {topic: self._topic_id for topic, _ in moved}
            if self._was_emptied(connection) or not move_positions(
                connection, self._group, self._positions, moved, ids
            ):
                raise PositionsMoved(self.name)
            write(connection, rows)
            self._note_whether_empty(connection, rows)

    def _write(self, connection: Connection, rows: Sequence[Row]) -> None:
        assert self._columns is not None
        written = [
            {**self._columns(row.value), self._key.name: row.key, "version": row.version}
            for row in rows
            if row.value is not None
        ]
        gone = [{"gone_key": row.key, "gone_version": row.version} for row in rows if row.value is None]
        if written:
            connection.execute(self._upsert, written)
        if gone:
            connection.execute(self._delete, gone)

    def _write_each(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Each row by itself; once more after the others, for it may be unique only when another has changed."""
        if not is_sqlite(connection):
            # A deferred one would be violated by no statement before the commit.
            connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        waiting = list(rows)
        while waiting:
            refused: dict[str, BaseException] = {}
            for row in waiting:
                try:
                    with connection.begin_nested():
                        self._write(connection, [row])
                except BaseException as error:
                    if not refuses_a_row(error):
                        raise
                    refused[row.key] = error
            if len(refused) == len(waiting):
                raise RowsRefused(refused)
            waiting = [row for row in waiting if row.key in refused]

    def _is_empty(self, connection: Connection) -> bool:
        return connection.execute(select(self._key).limit(1)).first() is None

    def _was_emptied(self, connection: Connection) -> bool:
        """Return whether the rows behind the positions are gone, and not because the topic deleted them all."""
        if not self._is_empty(connection):
            return False
        group = positions_table.c.group_id
        found = connection.scalars(select(group).where(group.in_((self._group, self._left_empty))))
        return set(found) == {self._group}

    def _is_of_another_topic(self, connection: Connection) -> bool:
        ids = set(
            connection.scalars(select(positions_table.c.topic_id).where(positions_table.c.group_id == self._group))
        )
        return bool(ids) and self._topic_id not in ids

    def _note_whether_empty(self, connection: Connection, written: Sequence[Row]) -> None:
        if any(row.value is not None for row in written):
            forget_positions(connection, self._left_empty)
        elif self._is_empty(connection):
            move_position(connection, self._left_empty, ("", 0), expected=None, to=0)

    def _begin_anew(self, connection: Connection) -> None:
        # All positions at once: a rebuild that is cut short goes on where it was, in every partition.
        forget_positions(connection, self._group)
        forget_positions(connection, self._left_empty)

    def _upsert_for(self, dialect: str) -> Any:
        insert = insert_into(self._table, dialect)
        new = insert.excluded
        others = {column.name: new[column.name] for column in self._table.c if column is not self._key}
        return insert.on_conflict_do_update(
            index_elements=[self._key], set_=others, where=self._table.c.version < new.version
        )

    def _deletion(self) -> Any:
        return self._table.delete().where(
            self._key == bindparam("gone_key"), self._table.c.version < bindparam("gone_version")
        )

    def _by_name(self, value: type[Value]) -> Callable[[Any], Mapping[str, Any]]:
        fields = {field.name for field in msgspec.structs.fields(value)}
        names = [column.name for column in self._table.c if column is not self._key and column.name != "version"]
        if missing := [name for name in names if name not in fields]:
            raise DeclarationError(
                f"SqlSink: {value.__name__} has no field for the columns {', '.join(missing)} of {self._table.name!r}; "
                "rename them, or say how they are made with columns="
            )
        return lambda row: {name: _plain(getattr(row, name)) for name in names}


def refuses_a_row(error: BaseException) -> bool:
    """Return whether it is about a row: what its column cannot hold, a constraint, or whatever `columns=` raises.

    A missing column or a full disk would refuse every row, and is no reason to set one aside.
    """
    if passing(error) or isinstance(error, (PositionsMoved, ProcessEnds)):
        return False
    if not isinstance(error, DBAPIError):
        return True
    if isinstance(error, (DataError, IntegrityError)):
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state.startswith(_STATES_OF_A_ROW)
    # What the driver itself refuses has no code: values of a kind that it does not know.
    return getattr(error.orig, "sqlite_errorcode", None) is None


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value) if isinstance(value, (Value, tuple, list, dict)) else value
