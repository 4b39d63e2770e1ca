"""How the broker refuses: with one of Kafka's own error codes."""

from collections.abc import Sequence

from kio.schema.errors import ErrorCode


class Refused(Exception):
    """A request, or its part for one partition, is answered with `code`; `message` reaches the client where there is
    room. `records` are those of a batch that are at fault, by their positions, each with what is wrong."""

    def __init__(self, code: ErrorCode, message: str | None = None, records: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message or code.name)
        self.code = code
        self.message = message
        self.records = records


class DataError(Exception):
    """The data directory cannot be used: another broker has it, or a file in it is damaged. The message says which."""


class InUse(DataError):
    """Another broker has the data directory; the message names its process."""
