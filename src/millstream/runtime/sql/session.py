"""A handler's session. A file by itself: SQLAlchemy's ORM takes 6 MB, and many services do without."""

from typing import NoReturn

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from millstream.errors import DeclarationError
from millstream.runtime.sql.connection import NO_COMMIT, NO_ROLLBACK


class HandlerSession(Session):
    """A session in a transaction that the handler must not end.

    - `connection`: in that transaction already.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, join_transaction_mode="rollback_only")

    def commit(self) -> NoReturn:
        raise DeclarationError(f"{NO_COMMIT} To see what the database says, call db.flush().")

    def rollback(self) -> NoReturn:
        raise DeclarationError(NO_ROLLBACK)
