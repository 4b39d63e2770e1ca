"""Plans for a letter: what is to be done with it, or why it is left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from millstream.errors import ConfigurationError
from millstream.kafka.port import Headers
from millstream.operate.dlq.audit import Audit, AuditAction
from millstream.operate.dlq.letter import WAITING, DeadLetter
from millstream.operate.dlq.overtaken import Followers, Overtakers
from millstream.operate.dlq.system import Origins
from millstream.runtime.redrive import Action, redrive_headers

MOST_REDRIVES = 3
"""Default limit of times that an event is handed in again."""


@dataclass(frozen=True, slots=True)
class Work:
    """One action.

    - `to`: topic and partition of the record that hands it in, and `headers` and `value` of that record.
    - `followers`: who knows whether later events have overtaken it when it is done; `None` where that does not matter.
    """

    letter: DeadLetter
    action: AuditAction
    to: tuple[str, int] | None = None
    value: bytes | None = None
    headers: Headers | None = None
    changed: tuple[str, ...] = ()
    followers: Followers | None = None

    @property
    def redrives(self) -> int:
        """Times that the event has been handed in again after it."""
        return self.letter.redrives + (self.action != "discard")


class Refused(NamedTuple):
    """A letter that is left as it is: `code` is short and stable, `detail` says what to do."""

    letter: DeadLetter
    code: str
    detail: str


def redrive(
    letter: DeadLetter,
    audit: Audit,
    origins: Origins,
    partitions: Mapping[str, int],
    *,
    max_redrives: int = MOST_REDRIVES,
    overtaken_by: Overtakers | None = None,
    followers: Followers | None = None,
) -> Work | Refused:
    """Hands a letter in again as it is, unless something speaks against it."""
    if refused := _spoken_for(letter, audit):
        return refused
    if letter.redrives >= max_redrives:
        return Refused(
            letter,
            "too_often",
            f"it was handed in {letter.redrives} times and failed again: mend the cause, then --max-redrives "
            f"{letter.redrives + 1}; or edit or discard it",
        )
    if letter.value_left_out:
        topic, partition, offset = letter.at
        return Refused(
            letter,
            "value_left_out",
            f"its value did not fit into the dead letter. While {topic}[{partition}] has offset {offset}, raise "
            f"max.message.bytes of {letter.id.topic}, and publish the event again from there; or discard it",
        )
    if overtaken_by is not None:
        return overtaken(letter, overtaken_by)
    try:
        to = origins.redrive_topic(letter, partitions)
    except ConfigurationError as error:
        return Refused(letter, "nowhere", str(error))
    headers = _headers(letter, letter.headers, Action.HANDLE)
    return Work(letter, "redrive", to, letter.value, headers, followers=followers)


def overtaken(letter: DeadLetter, by: Overtakers) -> Refused:
    """Leaves a letter that later events have overtaken."""
    topic, partition, _ = letter.at
    named = ", ".join(map(str, by.first)) + (" …" if by.number > len(by.first) else "")
    return Refused(
        letter,
        "superseded",
        f"{by.number} later events of its key overtook it: {topic}[{partition}] at {named}. "
        "If the order does not matter here, --allow-reorder",
    )


def edit(work: Work, value: bytes, headers: Headers, changed: tuple[str, ...]) -> Work:
    """The same redrive with another value."""
    headers = _headers(work.letter, headers, Action.HANDLE)
    return replace(work, action="edit", value=value, headers=headers, changed=changed)


def discard(letter: DeadLetter, audit: Audit, origins: Origins, partitions: Mapping[str, int]) -> Work | Refused:
    """Gives a letter up. Where its key waits with it, the group is told to let the key go on."""
    if refused := _spoken_for(letter, audit):
        return refused
    if not letter.parked:
        return Work(letter, "discard")
    try:
        to = origins.redrive_topic(letter, partitions)
    except ConfigurationError as error:
        return Refused(letter, "nowhere", str(error))
    return Work(letter, "discard", to, letter.value, _headers(letter, letter.headers, Action.DISCARD))


def _spoken_for(letter: DeadLetter, audit: Audit) -> Refused | None:
    if audit.state(letter) in WAITING:
        return None
    entry = audit[letter.id]
    assert entry is not None
    return Refused(letter, "done", f"it was {entry.told()}, and each letter is dealt with once")


def _headers(letter: DeadLetter, original: Headers, action: Action) -> Headers:
    count = letter.redrives + (action is Action.HANDLE)
    return redrive_headers(original, at=letter.at, milliseconds=letter.milliseconds, action=action, count=count)
