"""A dead letter as an operator sees it: its id, its origin, why it failed, and its place in the order of its key.

An event that fails again becomes a new dead letter, which lies behind those of later events of its key. So the order in
which dead letters are redriven is that of their events, not of their own offsets.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Headers, Message, TopicPartition
from millstream.runtime.records.dead_letter import PREFIX

State: TypeAlias = Literal["open", "parked", "redriven", "edited", "discarded"]
WAITING: tuple[State, ...] = ("open", "parked")
"""States of dead letters that no action was taken for."""
STATES: tuple[State, ...] = (*WAITING, "redriven", "edited", "discarded")

OrderedKey: TypeAlias = tuple[str | None, str, int, bytes]
"""Group, topic, partition and key, whose events are handled one after the other."""


class DeadLetterId(NamedTuple):
    """Topic, partition and offset of a dead letter, in a form that no shell needs quoted.

    >>> str(DeadLetterId.read("orders.events.dlq:3:42"))
    'orders.events.dlq:3:42'
    """

    topic: str
    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> "DeadLetterId":
        """Parse an id as `millstream dlq list` prints it. Raises `ConfigurationError` for any other text."""
        found = re.fullmatch(r"([A-Za-z0-9._-]+):(\d{1,9}):(\d{1,18})", text.strip())
        if found is None:
            raise ConfigurationError(
                f"{text!r} is no id of a dead letter: it is TOPIC:PARTITION:OFFSET, such as orders.events.dlq:3:42, "
                "as `millstream dlq list` shows it"
            )
        return cls(found[1], int(found[2]), int(found[3]))

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of a dead letter topic.

    - `at`: topic, partition and offset that the event was first read from; `milliseconds`: its timestamp there.
    - `group`: the consumer group that failed; `None` in dead letters written before redrives existed.
    - `redrives`: times that the event had been redriven before it failed this time.
    - `headers`: those of the event, without those that the dead letter adds; empty where they were not readable.
    - `value_left_out`: the value did not fit into the dead letter; the record at `at` has it.
    """

    id: DeadLetterId
    at: tuple[str, int, int]
    milliseconds: int
    service: str
    group: str | None
    handler: str | None
    reason: str
    error: str
    message: str
    stacktrace: str
    attempts: int
    first_failed: datetime | None
    last_failed: datetime | None
    parked: bool
    redrives: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    headers_unreadable: bool = False
    value_left_out: bool = False

    @property
    def type(self) -> str | None:
        """The full name of the event's class, if a header has it."""
        named = next((value for name, value in self.headers if name == "ce_type"), None)
        return None if named is None else named.decode(errors="replace")

    @property
    def origin(self) -> TopicPartition:
        """The partition that the event came from."""
        return self.at[:2]

    @property
    def ordered_key(self) -> OrderedKey | None:
        """The key whose order the event belongs to; `None` without a key, which has no order."""
        return None if self.key is None else (self.group, *self.origin, self.key)


@dataclass(frozen=True, slots=True)
class DeadLetterRef:
    """A reference to a dead letter, with what puts it in order: small enough to hold a million of them.

    - `ordered_key`: `None` without a key, which has no order.
    - `event`: the offset of the event in the partition that it came from.
    - `parked`: its key waits with it, so that no later event of the key is handled before it.
    """

    id: DeadLetterId
    ordered_key: OrderedKey | None
    event: int
    parked: bool = False


R = TypeVar("R", bound=DeadLetterRef)


def ref_of(dead_letter: DeadLetter) -> DeadLetterRef:
    """Return a reference to a dead letter."""
    return DeadLetterRef(dead_letter.id, dead_letter.ordered_key, dead_letter.at[2], dead_letter.parked)


def in_order(refs: Sequence[R]) -> list[R]:
    """Return the same references, those of each key in the order of its events. Between keys nothing moves.

    >>> first, second = (
    ...     DeadLetterRef(DeadLetterId("t.dlq", 0, 9 - n), ("g", "t", 0, b"k"), event=n) for n in range(2)
    ... )
    >>> [ref.event for ref in in_order([second, first])]
    [0, 1]
    """
    by_key = defaultdict[OrderedKey, list[R]](list)
    for ref in refs:
        if ref.ordered_key is not None:
            by_key[ref.ordered_key].append(ref)
    for same_key in by_key.values():
        same_key.sort(key=lambda ref: (ref.event, ref.id), reverse=True)
    return [ref if ref.ordered_key is None else by_key[ref.ordered_key].pop() for ref in refs]


def read_dead_letter(message: Message) -> DeadLetter:
    """Read a record of a dead letter topic. Raises `DecodeError` (`not_a_dead_letter`) for a record of other kind."""
    headers = message.headers() or []
    try:
        fields = {
            name.removeprefix(PREFIX): (value or b"").decode() for name, value in headers if name.startswith(PREFIX)
        }
        return DeadLetter(
            id=DeadLetterId(message.topic(), message.partition(), message.offset()),
            at=(fields["topic"], _below(2**31, fields["partition"]), _below(2**63, fields["offset"])),
            milliseconds=int(fields["timestamp"]),
            service=fields["service"],
            group=fields.get("group"),
            handler=fields.get("handler"),
            reason=fields["reason"],
            error=fields["error"],
            message=fields.get("message", ""),
            stacktrace=fields.get("stacktrace", ""),
            attempts=int(fields["attempts"]),
            first_failed=_moment(fields.get("first-failed-at")),
            last_failed=_moment(fields.get("failed-at")),
            parked=fields.get("state") == "parked",
            redrives=int(fields.get("redrives", "0")),
            key=message.key(),
            value=message.value(),
            headers=[header for header in headers if not header[0].startswith(PREFIX)],
            headers_unreadable=fields.get("headers") == "unreadable",
            value_left_out="value" in fields,
        )
    except (KeyError, ValueError) as error:
        raise DecodeError("not_a_dead_letter", f"its headers do not say where it comes from: {error!r}") from None


def _below(limit: int, text: str) -> int:
    number = int(text)
    if not 0 <= number < limit:
        # No topic has such a partition or offset: a client asked for it would fail, and every command with it.
        raise ValueError(f"{number} is no partition or offset")
    return number


def _moment(text: str | None) -> datetime | None:
    moment = None if text is None else datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
