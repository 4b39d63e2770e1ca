"""Records whose headers the client library cannot decode.

A broker does not look at the names of headers, so a record of another client may have one that is no UTF-8. librdkafka
passes it on, and `headers()` of confluent-kafka raises; asked again for the same record, it can end the process in
native code. Every record is therefore asked once, when it is read, before anyone else has it: one that raises is
replaced by a stand-in, which never asks again.
"""

from typing import NoReturn

from millstream.errors import DecodeError
from millstream.kafka.port import Headers, Message

REASON = "headers_unreadable"
"""The reason code of a dead letter of such a record."""


class UnreadableHeaders:
    """A record whose headers cannot be read; all else is as it came. `headers()` raises the same error each time."""

    __slots__ = ("_message", "_why")

    def __init__(self, message: Message, error: BaseException) -> None:
        self._message = message
        # The class alone: the text of the error quotes bytes that may be personal.
        self._why = type(error).__name__

    def topic(self) -> str:
        return self._message.topic()

    def partition(self) -> int:
        return self._message.partition()

    def offset(self) -> int:
        return self._message.offset()

    def key(self) -> bytes | None:
        return self._message.key()

    def value(self) -> bytes | None:
        return self._message.value()

    def timestamp(self) -> tuple[int, int]:
        return self._message.timestamp()

    def headers(self) -> NoReturn:
        raise unreadable(self._why)


def unreadable(why: str) -> DecodeError:
    """The error of `headers()` where they cannot be read; `why`: the class of the first error."""
    return DecodeError(
        REASON,
        f"the client library cannot decode the headers of the record ({why}); the name of a header must be UTF-8. Mend "
        "the client that wrote it. `millstream dlq redrive` has the event handled without its headers",
    )


def with_safe_headers(records: list[Message]) -> list[Message]:
    """The same list; those whose headers cannot be read are replaced in it. Each record is asked here, and once."""
    for index, message in enumerate(records):
        try:
            message.headers()
        except Exception as error:
            records[index] = UnreadableHeaders(message, error)
    return records


def headers_of(message: Message) -> Headers:
    """The headers of a record, without any where it has none, or none that can be read."""
    try:
        return message.headers() or []
    except DecodeError:  # who wants to know asks for them, or has_unreadable_headers
        return []


def has_unreadable_headers(message: Message) -> bool:
    """Return whether the record has headers that cannot be read."""
    try:
        message.headers()
    except DecodeError:  # who wants to know asks for them, or has_unreadable_headers
        return True
    return False
