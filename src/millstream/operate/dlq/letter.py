"""A dead letter as a person looks at it: what it is, where it comes from, why it failed, and what became of it."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Headers, Message, TopicPartition
from millstream.runtime.dead_letters import PREFIX

State: TypeAlias = Literal["open", "parked", "redriven", "edited", "discarded"]
WAITING: tuple[State, ...] = ("open", "parked")
"""States of letters that nobody has dealt with."""
STATES: tuple[State, ...] = (*WAITING, "redriven", "edited", "discarded")


class LetterId(NamedTuple):
    """Topic, partition and offset of a dead letter, in a form that no shell needs quoted.

    >>> str(LetterId.read("orders.events.dlq:3:42"))
    'orders.events.dlq:3:42'
    """

    topic: str
    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> "LetterId":
        """From what a person pasted. Raises `ConfigurationError` for anything else."""
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
    - `group`: the consumer group that failed; letters of before redrives name none.
    - `redrives`: how often it had been handed in again before it failed this time.
    - `headers`: those of the event, without what was added when it was set aside; none where they were not readable.
    - `value_left_out`: it did not fit into the dead letter; the record that it comes from has it.
    """

    id: LetterId
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
        """The full name of the event's class, where its headers say it."""
        named = next((value for name, value in self.headers if name == "ce_type"), None)
        return None if named is None else named.decode(errors="replace")

    @property
    def origin(self) -> TopicPartition:
        """The partition that the event came from."""
        return self.at[:2]


def read_letter(message: Message) -> DeadLetter:
    """A record of a dead letter topic. Raises `DecodeError` (`not_a_dead_letter`) for what somebody else put there."""
    headers = message.headers() or []
    try:
        said = {
            name.removeprefix(PREFIX): (value or b"").decode() for name, value in headers if name.startswith(PREFIX)
        }
        return DeadLetter(
            id=LetterId(message.topic(), message.partition(), message.offset()),
            at=(said["topic"], _below(2**31, said["partition"]), _below(2**63, said["offset"])),
            milliseconds=int(said["timestamp"]),
            service=said["service"],
            group=said.get("group"),
            handler=said.get("handler"),
            reason=said["reason"],
            error=said["error"],
            message=said.get("message", ""),
            stacktrace=said.get("stacktrace", ""),
            attempts=int(said["attempts"]),
            first_failed=_moment(said.get("first-failed-at")),
            last_failed=_moment(said.get("failed-at")),
            parked=said.get("state") == "parked",
            redrives=int(said.get("redrives", "0")),
            key=message.key(),
            value=message.value(),
            headers=[header for header in headers if not header[0].startswith(PREFIX)],
            headers_unreadable=said.get("headers") == "unreadable",
            value_left_out="value" in said,
        )
    except (KeyError, ValueError) as error:
        raise DecodeError("not_a_dead_letter", f"its headers do not say where it comes from: {error!r}") from None


def _below(limit: int, text: str) -> int:
    number = int(text)
    if not 0 <= number < limit:
        # No place on any topic; asked for it, a client would fail, and with it whoever reads letters.
        raise ValueError(f"{number} is no partition or offset")
    return number


def _moment(text: str | None) -> datetime | None:
    moment = None if text is None else datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
