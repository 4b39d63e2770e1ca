"""The audit of dead letters: the topic that records who did what to which of them, and so decides their state.

It has one partition and no retention: one action is taken for each dead letter, so it stays as short as what operators
and rules did, and a reader of the whole knows every state.
"""

import getpass
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from millstream.errors import ConfigurationError, TopicReplaced
from millstream.kafka.metadata_wait import wait_for_transactions
from millstream.kafka.port import Admin, Kafka, Message, TopicPartition, TopicSpec
from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterId, State
from millstream.timeouts import OPEN_TRANSACTION_TIMEOUT

AUDIT = "millstream.dlq.audit"
PARTITION: TopicPartition = (AUDIT, 0)
SPEC = TopicSpec(AUDIT, 1, {"cleanup.policy": "delete", "retention.ms": "-1"})


AuditAction: TypeAlias = Literal["redrive", "edit", "discard"]
_STATES: dict[AuditAction, State] = {"redrive": "redriven", "edit": "edited", "discard": "discarded"}


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The audit record of one action.

    - `by`: `user@host`, or what `--as` gives; `comment`: free text; `command`: the command or rule that did it.
    - `origin`: topic, partition and offset that the event was first read from.
    - `redrive_to`: topic and partition of the record that redrives the event, if there is one.
    - `changed`: for an edit, the paths whose values changed.
    - `redrives`: times that the event has been redriven, this action included.
    - `run`: the same for all that one command did.
    - `topic_id`: of the dead letter's topic: a topic that was created again has other dead letters at the same offsets.
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
        """The state of the dead letter after this action."""
        return _STATES[self.action]

    def summary(self) -> str:
        """Return the action in words, for a message."""
        reason = f" ({self.comment})" if self.comment else ""
        return f"{self.state} by {self.by} at {self.at.isoformat(timespec='seconds')}{reason}"


class Audit:
    """The actions on the dead letters of some topics that were committed when it was last refreshed.

    - `topics`: the dead letter topics of interest; records of others are skipped.
    """

    def __init__(self, kafka: Kafka, admin: Admin, topics: frozenset[str]) -> None:
        self._kafka, self._admin, self._topics = kafka, admin, topics
        self.ids: Mapping[str, str] = {}
        """The ids of the dead letter topics, as of the last refresh."""
        self._entries: dict[DeadLetterId, Entry] = {}
        self._next = 0

    def __getitem__(self, dead_letter: DeadLetterId) -> Entry | None:
        return self._entries.get(dead_letter)

    def entries(self) -> list[Entry]:
        """Return all entries, oldest first."""
        return list(self._entries.values())

    def state(self, dead_letter: DeadLetter) -> State:
        """Return the state of a dead letter."""
        entry = self._entries.get(dead_letter.id)
        if entry is not None:
            return entry.state
        return "parked" if dead_letter.parked else "open"

    def refresh(self, *, settled: bool = True) -> None:
        """Read the entries that were appended since the last refresh.

        - `settled`: first wait for transactions that are open now, for they hide the entries behind them. A reader that
          writes nothing need not wait.

        Raises `Unavailable` where they do not end in time, `TopicReplaced` for a topic that was created again since.
        """
        self._check_topic_ids()
        if settled:
            wait_for_transactions(self._kafka, [PARTITION], OPEN_TRANSACTION_TIMEOUT)
        elif AUDIT not in self._admin.topics():
            return
        for batch in self._kafka.read_to_end(AUDIT, [0], start={PARTITION: self._next}):
            for message in batch:
                self._next = message.offset() + 1
                self._note(message)

    def _check_topic_ids(self) -> None:
        ids = self._admin.topic_ids(sorted(self._topics))
        for topic, id in ids.items():
            if (before := self.ids.get(topic)) and id and before != id:
                raise TopicReplaced(
                    f"Topic {topic!r} was deleted and created again meanwhile, so the ids that were read name "
                    "other dead letters now. Run the command again."
                )
        self.ids = {**self.ids, **ids}

    def _note(self, message: Message) -> None:
        try:
            entry = msgspec.json.decode(message.value() or b"", type=Entry)
            id = DeadLetterId.read(entry.dead_letter)
        except (msgspec.MsgspecError, UnicodeDecodeError, ConfigurationError):
            # A record that no command of ours wrote says nothing about a dead letter.
            return
        if id.topic in self._topics and entry.topic_id == self.ids.get(id.topic, ""):
            self._entries.setdefault(id, entry)


def whoami() -> str:
    """Return the user of this process, as `user@host`."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no user database, as in a container
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def now() -> datetime:
    """Return the wall clock's time in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)
