"""A handler's connection to its service's database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from sqlalchemy import Connection
from sqlalchemy.engine import NestedTransaction
from sqlalchemy.pool import PoolProxiedConnection

from millstream.errors import DeclarationError

NO_COMMIT = "A handler does not commit: what it did commits with its events and the position when it returns."
NO_ROLLBACK = (
    "A handler does not roll back: raise, and all that this call did is undone. "
    "To undo a part of it, use `with db.begin_nested():`."
)


class HandlerConnection(Connection):
    """A connection in a transaction that the handler must not end.

    The worker ends it with `Connection.commit(connection)`.
    """

    _waits = False
    """Whether the next statement is the first of its call."""

    @contextmanager
    def undone_if_it_fails(self) -> Iterator[None]:
        """Undo what was done within, and only that, when the block is left by an exception.

        `begin_nested` does the same at a price: SQLAlchemy compiles each savepoint, and makes one for a handler
        that refuses its event before it asks the database anything.
        """
        self._waits = True
        try:
            yield
        except BaseException:
            self._leave("ROLLBACK TO SAVEPOINT millstream", NestedTransaction.close)
            raise
        self._leave("RELEASE SAVEPOINT millstream", NestedTransaction.commit)

    def execute(self, *arguments: Any, **options: Any) -> Any:
        self._touch()
        return super().execute(*arguments, **options)

    def scalar(self, *arguments: Any, **options: Any) -> Any:
        self._touch()
        return super().scalar(*arguments, **options)

    def exec_driver_sql(self, *arguments: Any, **options: Any) -> Any:
        self._touch()
        return super().exec_driver_sql(*arguments, **options)

    def begin_nested(self) -> NestedTransaction:
        self._touch()
        return super().begin_nested()

    @property
    def connection(self) -> PoolProxiedConnection:
        self._touch()
        return super().connection

    def _touch(self) -> None:
        if self._waits:
            self._waits = False
            try:
                super().exec_driver_sql("SAVEPOINT millstream")
            except BaseException:
                self._waits = True
                raise

    def _leave(self, statement: str, end: Callable[[NestedTransaction], None]) -> None:
        untouched, self._waits = self._waits, False
        if untouched or self.invalidated:
            return
        while (left_open := self.get_nested_transaction()) is not None:
            end(left_open)
        super().exec_driver_sql(statement)

    def commit(self) -> NoReturn:
        raise DeclarationError(NO_COMMIT)

    def rollback(self) -> NoReturn:
        raise DeclarationError(NO_ROLLBACK)
