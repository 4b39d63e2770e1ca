"""Redrive: a dead letter, or the head of a parked key, sent once more to the service that failed, and to it alone.

A redrive is a record on the group's own topic, `<group>.redrive`, in the partition with the number that the event was
first read from. It carries the original bytes (or an operator's edit of them), the original headers, and in further
headers where the event came from.
"""

from dataclasses import dataclass
from enum import Enum

from millstream.errors import DecodeError
from millstream.kafka.port import Headers, Message

PREFIX = "millstream-redrive-"
"""What the names of the headers begin with that only redrives have."""


class Action(Enum):
    """The action that the operator has chosen."""

    HANDLE = "handle"
    """Handle it now; where its key is parked behind it, the key goes on from there."""
    DISCARD = "discard"
    """Let a parked key go on without it."""


@dataclass(frozen=True, slots=True)
class Redrive:
    """A redriven event. It reads like the message that it was: topic, partition and offset are the first ones.

    `count`: how often it has been redriven, this time included.
    """

    message: Message
    at: tuple[str, int, int]
    milliseconds: int
    action: Action
    count: int
    own_headers: Headers

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.at[2]

    def key(self) -> bytes | None:
        return self.message.key()

    def value(self) -> bytes | None:
        return self.message.value()

    def headers(self) -> Headers:
        return self.own_headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self.milliseconds


def redrive_headers(
    original: Headers, *, at: tuple[str, int, int], milliseconds: int, action: Action, count: int
) -> Headers:
    """Return the headers of a redrive record.

    - `at`: topic, partition and offset that the event was first read from; `milliseconds`: its timestamp there.
    - `count`: how often it has been redriven, this time included.

    >>> headers = redrive_headers([], at=("orders.events", 3, 42), milliseconds=0, action=Action.HANDLE, count=1)
    >>> dict(headers)["millstream-redrive-offset"]
    b'42'
    """
    topic, partition, offset = at
    facts = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timestamp": milliseconds,
        "action": action.value,
        "count": count,
    }
    return [*original, *((PREFIX + name, str(value).encode()) for name, value in facts.items())]


def read_redrive(message: Message) -> Redrive:
    """Return the event within a record of a redrive topic.

    Raises `DecodeError` (`not_a_redrive`) where there is none.
    """
    headers = message.headers() or []
    facts = {name.removeprefix(PREFIX): value or b"" for name, value in headers if name.startswith(PREFIX)}
    try:
        return Redrive(
            message=message,
            at=(facts["topic"].decode(), int(facts["partition"]), int(facts["offset"])),
            milliseconds=int(facts["timestamp"]),
            action=Action(facts["action"].decode()),
            count=int(facts["count"]),
            own_headers=[header for header in headers if not header[0].startswith(PREFIX)],
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise DecodeError(
            "not_a_redrive", f"a redrive topic takes only what `millstream dlq redrive` writes: {error!r}"
        ) from None
