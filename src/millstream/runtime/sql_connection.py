"""A handler's connection to its service's database."""

from typing import NoReturn

from sqlalchemy import Connection

from millstream.errors import DeclarationError

NO_COMMIT = "A handler does not commit: what it did commits with its events and the position when it returns."
NO_ROLLBACK = (
    "A handler does not roll back: raise, and all that this call did is undone. "
    "To undo a part of it, use `with db.begin_nested():`."
)


class HandlerConnection(Connection):
    """Part of a transaction that is not the handler's to end.

    Whose it is ends it with `Connection.commit(connection)`.
    """

    def commit(self) -> NoReturn:
        raise DeclarationError(NO_COMMIT)

    def rollback(self) -> NoReturn:
        raise DeclarationError(NO_ROLLBACK)
