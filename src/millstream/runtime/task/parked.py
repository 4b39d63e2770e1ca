"""A parked event: the record as it came, and the attempts so far."""

import msgspec

from millstream.kafka.port import Headers, Message
from millstream.kafka.unreadable import has_unreadable_headers, headers_of, unreadable
from millstream.state.internal_store import InternalStore


class ParkedEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record that waits with its key, and reads like any other message.

    - `at`: topic, partition and offset that it came from.
    - `attempts`: how often its handler failed; 0 for one that only waits behind another.
    - `first_failed_at`, `due_at`: seconds since 1970. A failed event without `due_at` waits for an operator.
    - `redrives`: how often an operator has redriven it.
    - `slept`: seconds since the first failure in which it could not be tried: its process did not run, or was busy.
    - `headers_unreadable`: it had headers that could not be decoded; they are left out.
    """

    at: tuple[str, int, int]
    stamp: tuple[int, int]
    raw_key: bytes
    raw_value: bytes | None = None
    raw_headers: Headers | None = None
    attempts: int = 0
    first_failed_at: float = 0.0
    due_at: float | None = None
    redrives: int = 0
    slept: float = 0.0
    headers_unreadable: bool = False

    @property
    def held(self) -> bool:
        """Return whether it waits for an operator."""
        return self.attempts > 0 and self.due_at is None

    def topic(self) -> str:
        return self.at[0]

    def partition(self) -> int:
        return self.at[1]

    def offset(self) -> int:
        return self.at[2]

    def key(self) -> bytes:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value

    def headers(self) -> Headers | None:
        if self.headers_unreadable:
            raise unreadable("when it was parked")
        return self.raw_headers

    def timestamp(self) -> tuple[int, int]:
        return self.stamp


def park(
    message: Message,
    *,
    attempts: int = 0,
    first_failed_at: float = 0.0,
    due_at: float | None = None,
    redrives: int = 0,
    slept: float = 0.0,
) -> ParkedEvent:
    """Return the parked event of `message`, which has a key.

    Of one that was parked before, only the record is taken.
    """
    key = message.key()
    if key is None:
        raise ValueError("a record without a key has no order to keep; it is never parked")
    return ParkedEvent(
        at=(message.topic(), message.partition(), message.offset()),
        stamp=message.timestamp(),
        raw_key=key,
        raw_value=message.value(),
        raw_headers=headers_of(message) or None,
        headers_unreadable=has_unreadable_headers(message),
        attempts=attempts,
        first_failed_at=first_failed_at,
        due_at=due_at,
        redrives=redrives,
        slept=slept,
    )


def store_key(message: Message) -> str:
    """Return the key of a record's parked event, in its store and in its topic.

    With its timestamp: where the topic was deleted and created again, another event has the same offset.

    >>> store_key(ParkedEvent(at=("orders.events", 3, 42), stamp=(1, 1_700_000_000_123), raw_key=b"o-1"))
    'orders.events/3/42/1700000000123'
    """
    return "/".join(map(str, (message.topic(), message.partition(), message.offset(), message.timestamp()[1])))


def parked_store(topic: str) -> InternalStore[ParkedEvent]:
    """Return the store of parked events whose changelog is `topic`."""
    return InternalStore("parked", topic, ParkedEvent)
