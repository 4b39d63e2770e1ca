"""The audit of dead letters: the topic that says who did what to which of them, and decides their state.

It is kept for ever and has one partition: each dead letter is dealt with at most once, so it is no longer than what
people did, and whoever has read it to its end knows everything.
"""

import getpass
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from millstream.errors import ConfigurationError, TopicReplaced
from millstream.kafka.port import Admin, Kafka, Message, TopicPartition, TopicSpec
from millstream.kafka.settling import wait_for_transactions
from millstream.operate.dlq.letter import DeadLetter, LetterId, State

AUDIT = "millstream.dlq.audit"
PARTITION: TopicPartition = (AUDIT, 0)
SPEC = TopicSpec(AUDIT, 1, {"cleanup.policy": "delete", "retention.ms": "-1"})

SETTLED_WITHIN = 60.0
"""Seconds that others' transactions may take to end: longer than brokers let them stay open."""

AuditAction: TypeAlias = Literal["redrive", "edit", "discard"]
_STATES: dict[AuditAction, State] = {"redrive": "redriven", "edit": "edited", "discard": "discarded"}


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action, as it is kept.

    - `by`: `user@host`, or what `--as` says; `comment`: in a person's words; `command`: what it was done with.
    - `origin`: where the event was first read from; `redrive_to`: topic and partition that it was handed to, if it was.
    - `changed`: for an edit, the paths that are not as they were.
    - `redrives`: how often it has been handed in again, this time included.
    - `run`: the same for all that one command did.
    - `topic_id`: of the letter's topic: in one that was deleted and made again, other letters lie at its places.
    """

    dead_letter: str
    action: AuditAction
    by: str
    at: datetime
    command: str
    service: str
    reason: str
    origin: tuple[str, int, int]
    group: str | None = None
    comment: str | None = None
    redrive_to: tuple[str, int] | None = None
    changed: tuple[str, ...] = ()
    redrives: int = 0
    run: str = ""
    topic_id: str = ""

    @property
    def state(self) -> State:
        """The state that the letter is in after it."""
        return _STATES[self.action]

    def told(self) -> str:
        """In words."""
        reason = f" ({self.comment})" if self.comment else ""
        return f"{self.state} by {self.by} at {self.at.isoformat(timespec='seconds')}{reason}"


class Audit:
    """The actions on the letters of some topics, as they were committed when it was last refreshed.

    - `topics`: the dead letter topics to keep in mind; what was done to others is passed over.
    """

    def __init__(self, kafka: Kafka, admin: Admin, topics: frozenset[str]) -> None:
        self._kafka, self._admin, self._topics = kafka, admin, topics
        self.ids: Mapping[str, str] = {}
        """The ids of the dead letter topics, as of the last refresh."""
        self._entries: dict[LetterId, Entry] = {}
        self._next = 0

    def __getitem__(self, letter: LetterId) -> Entry | None:
        return self._entries.get(letter)

    def entries(self) -> list[Entry]:
        """All that is known, oldest first."""
        return list(self._entries.values())

    def state(self, letter: DeadLetter) -> State:
        """Return the state of a letter."""
        entry = self._entries.get(letter.id)
        if entry is not None:
            return entry.state
        return "parked" if letter.parked else "open"

    def refresh(self, *, settled: bool = True) -> None:
        """Reads on to the end.

        - `settled`: first wait for transactions that are open now, for they may hide what came after them. Only
          whoever does not write may do without, and where there is no audit yet.

        Raises `Unavailable` where they do not end in time, `TopicReplaced` for a topic that was made again since.
        """
        self._look_at_topics()
        if settled:
            wait_for_transactions(self._kafka, [PARTITION], SETTLED_WITHIN)
        elif AUDIT not in self._admin.topics():
            return
        for batch in self._kafka.read_to_end(AUDIT, [0], start={PARTITION: self._next}):
            for message in batch:
                self._next = message.offset() + 1
                self._note(message)

    def _look_at_topics(self) -> None:
        ids = self._admin.topic_ids(sorted(self._topics))
        for topic, id in ids.items():
            if (before := self.ids.get(topic)) and id and before != id:
                raise TopicReplaced(
                    f"Topic {topic!r} was deleted and made again meanwhile: other letters lie where those lay that "
                    "were looked at. Run the command again."
                )
        self.ids = {**self.ids, **ids}

    def _note(self, message: Message) -> None:
        try:
            entry = msgspec.json.decode(message.value() or b"", type=Entry)
            id = LetterId.read(entry.dead_letter)
        except (msgspec.MsgspecError, UnicodeDecodeError, ConfigurationError):
            # Whatever somebody else put there, it says nothing about a letter.
            return
        if id.topic in self._topics and entry.topic_id == self.ids.get(id.topic, ""):
            self._entries.setdefault(id, entry)


def whoami() -> str:
    """The person at this machine, as `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no user database, as in a container
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def now() -> datetime:
    """The wall clock, as entries have it."""
    return datetime.fromtimestamp(time.time(), UTC)
