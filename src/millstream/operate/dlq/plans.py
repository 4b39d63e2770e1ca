"""Plans for dead letters: redrive, edit or discard one, or a refusal with its reason and remedy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from millstream.errors import ConfigurationError
from millstream.kafka.port import Headers
from millstream.operate.dlq.audit import Audit, AuditAction
from millstream.operate.dlq.context import Origins
from millstream.operate.dlq.dead_letter import WAITING, DeadLetter
from millstream.operate.dlq.later_events import LaterEvents, Superseding
from millstream.runtime.records.redrive import Action, redrive_headers

MAX_REDRIVES = 3
"""Redrives of an event after which it is refused by default."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One action that is to be done.

    - `redrive_to`: topic and partition of the record that redrives the event; `headers` and `value` are that record's.
    - `later_events`: asked, right before the action, whether later events have superseded it; `None` where reordering
      is allowed.
    """

    dead_letter: DeadLetter
    action: AuditAction
    redrive_to: tuple[str, int] | None = None
    value: bytes | None = None
    headers: Headers | None = None
    changed: tuple[str, ...] = ()
    later_events: LaterEvents | None = None

    @property
    def redrives(self) -> int:
        """Times that the event has been redriven, this action included."""
        return self.dead_letter.redrives + (self.action != "discard")


class Refused(NamedTuple):
    """A dead letter that is left as it is: `code` is short and stable, `detail` says why and what to do."""

    dead_letter: DeadLetter
    code: str
    detail: str


def redrive(
    dead_letter: DeadLetter,
    audit: Audit,
    origins: Origins,
    partitions: Mapping[str, int],
    *,
    max_redrives: int = MAX_REDRIVES,
    superseded_by: Superseding | None = None,
    later_events: LaterEvents | None = None,
) -> Plan | Refused:
    """Plan to redrive a dead letter unchanged, or refuse it."""
    if refused := _refused_as_done(dead_letter, audit):
        return refused
    if dead_letter.redrives >= max_redrives:
        return Refused(
            dead_letter,
            "too_often",
            f"it was redriven {dead_letter.redrives} times and failed again: remove the cause, then --max-redrives "
            f"{dead_letter.redrives + 1}; or edit or discard it",
        )
    if dead_letter.value_left_out:
        topic, partition, offset = dead_letter.at
        return Refused(
            dead_letter,
            "value_left_out",
            f"its value did not fit into the dead letter. While {topic}[{partition}] has offset {offset}, raise "
            f"max.message.bytes of {dead_letter.id.topic}, and publish the event again from there; or discard it",
        )
    if superseded_by is not None:
        return superseded(dead_letter, superseded_by)
    try:
        to = origins.redrive_to(dead_letter, partitions)
    except ConfigurationError as error:
        return Refused(dead_letter, "nowhere", str(error))
    headers = _headers(dead_letter, dead_letter.headers, Action.HANDLE)
    return Plan(dead_letter, "redrive", to, dead_letter.value, headers, later_events=later_events)


def superseded(dead_letter: DeadLetter, by: Superseding) -> Refused:
    """Refuse a dead letter that later events of its key have superseded."""
    topic, partition, _ = dead_letter.at
    offsets = ", ".join(map(str, by.first)) + (" …" if by.total > len(by.first) else "")
    return Refused(
        dead_letter,
        "superseded",
        f"{by.total} later events of its key were handled: {topic}[{partition}] at {offsets}. "
        "If the order does not matter here, --allow-reorder",
    )


def edit(plan: Plan, value: bytes, headers: Headers, changed: tuple[str, ...]) -> Plan:
    """Return the plan of a redrive with another value."""
    headers = _headers(plan.dead_letter, headers, Action.HANDLE)
    return replace(plan, action="edit", value=value, headers=headers, changed=changed)


def discard(dead_letter: DeadLetter, audit: Audit, origins: Origins, partitions: Mapping[str, int]) -> Plan | Refused:
    """Plan to discard a dead letter. Where its key is parked, a record tells the group to release the key."""
    if refused := _refused_as_done(dead_letter, audit):
        return refused
    if not dead_letter.parked:
        return Plan(dead_letter, "discard")
    try:
        to = origins.redrive_to(dead_letter, partitions)
    except ConfigurationError as error:
        return Refused(dead_letter, "nowhere", str(error))
    headers = _headers(dead_letter, dead_letter.headers, Action.DISCARD)
    return Plan(dead_letter, "discard", to, dead_letter.value, headers)


def _refused_as_done(dead_letter: DeadLetter, audit: Audit) -> Refused | None:
    if audit.state(dead_letter) in WAITING:
        return None
    entry = audit[dead_letter.id]
    assert entry is not None
    return Refused(dead_letter, "done", f"it was {entry.summary()}, and one action is taken for each dead letter")


def _headers(dead_letter: DeadLetter, original: Headers, action: Action) -> Headers:
    count = dead_letter.redrives + (action is Action.HANDLE)
    return redrive_headers(
        original, at=dead_letter.at, milliseconds=dead_letter.milliseconds, action=action, count=count
    )
