"""One SQL transaction of a worker: what handlers did, their outbox rows and the positions, committed together."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import Connection, Engine

from millstream.declare import Handler, Need
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.sql.connection import HandlerConnection
from millstream.runtime.sql.outbox import Outbox
from millstream.runtime.sql.positions import move_positions
from millstream.runtime.sql.stores import SqlInternalStores
from millstream.runtime.task.invoke import HandlerContext

if TYPE_CHECKING:
    from millstream.runtime.sql.session import HandlerSession


class PositionConflict(Exception):
    """The positions are not those that this worker left: another worker has handled the same events."""


class SqlUnit:
    """A transaction that begins when a handler is first called, and may commit several times.

    - `positions`: of the group in each partition; updated at each commit.
    - `group`, `outbox`: where positions and records go; both `None` for delivery at least once, which has neither.
    - `ids`: those of the topics that the positions are of.
    - `stores`: the internal stores. A transaction that changes them moves a position that stands for the partition,
      which fences its previous holder.

    Left by an exception, it rolls back what was not committed.
    """

    def __init__(
        self,
        engine: Engine,
        positions: dict[TopicPartition, int],
        group: str | None,
        outbox: Outbox | None,
        stores: SqlInternalStores,
        ids: Mapping[str, str],
    ) -> None:
        self._engine = engine
        self._positions = positions
        self._group = group
        self._outbox = outbox
        self._stores = stores
        self._ids = ids
        self._open: HandlerConnection | None = None
        self._session: HandlerSession | None = None
        self._records: list[Record] = []
        self._moved: dict[TopicPartition, int] = {}

    @contextmanager
    def call(self, handler: Handler) -> Iterator[HandlerContext]:
        """Return the context of a call of `handler`.

        Left by an exception, all that the call did is undone, and no more.
        """
        connection = self._connection()
        if any(parameter.need is Need.SESSION for parameter in handler.parameters):
            session = self._session_on(connection)
            with session.begin_nested():
                yield HandlerContext(session=session, connection=connection)
        else:
            with connection.undone_if_it_fails():
                yield HandlerContext(connection=connection)

    def done(self, message: Message, records: Sequence[Record]) -> None:
        """Add the records of an event that is dealt with, and move its position."""
        self._records += records
        self._moved[message.topic(), message.partition()] = message.offset() + 1

    def came(self, records: Sequence[Record]) -> None:
        """Add the records of what was due, which moves no position."""
        self._records += records

    @property
    def records(self) -> list[Record]:
        """The records of events since the last commit."""
        return self._records

    @property
    def changes_stores(self) -> bool:
        """Return whether the internal stores change with it."""
        return bool(self._stores.changed())

    def commit(self) -> list[Record]:
        """Commit, and return the records that are to be published.

        Raises `PositionConflict` where another worker has moved the positions.
        """
        records, moved, changed = self._records, self._moved, self._stores.changed()
        if not moved and not changed:
            self._close()
            return []
        connection = self._connection()
        if self._group is not None:
            marks = [(self._stores.declared.parked.topic, number) for number in changed]
            moved |= {mark: self._positions.get(mark, 0) + 1 for mark in marks}
        if self._group is not None and self._outbox is not None:
            # Positions before the outbox: its lock is the last to be taken.
            if not move_positions(connection, self._group, self._positions, moved, self._ids):
                raise PositionConflict
            self._stores.write(connection)
            self._outbox.append(connection, records)
        elif changed:
            self._stores.write(connection)
        Connection.commit(connection)
        self._close()
        self._positions.update(moved)
        self._stores.commit()
        return records

    def _connection(self) -> HandlerConnection:
        if self._open is None:
            self._open = HandlerConnection(self._engine)
            self._open.begin()
        return self._open

    def _session_on(self, connection: HandlerConnection) -> "HandlerSession":
        if self._session is None:
            from millstream.runtime.sql.session import HandlerSession  # only where a handler asks for one

            self._session = HandlerSession(connection)
        return self._session

    def _close(self) -> None:
        session, self._session = self._session, None
        connection, self._open = self._open, None
        self._records, self._moved = [], {}
        if session is not None:
            session.close()
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


def not_done(messages: Sequence[Message], positions: Mapping[TopicPartition, int]) -> list[Message]:
    """Return the `messages` that the positions have not passed."""
    return [
        message for message in messages if message.offset() >= positions.get((message.topic(), message.partition()), 0)
    ]
