"""Renders dead letters, plans and audit records as text and JSON: decoded, with personal data masked."""

from datetime import datetime
from typing import Any

from millstream.contracts import Contracts
from millstream.errors import DecodeError
from millstream.operate.dlq.audit import Entry
from millstream.operate.dlq.dead_letter import DeadLetter, State
from millstream.operate.dlq.plans import Plan, Refused
from millstream.operate.masking import Masking

SHOWN_BYTES = 64
"""Bytes of an undecodable value that are shown, in hexadecimal."""
_MESSAGE, _STACK = "millstream-dlq-message", "millstream-dlq-stacktrace"


def dead_letter_row(
    dead_letter: DeadLetter, state: State, entry: Entry | None, contracts: Contracts, masking: Masking | None
) -> dict[str, Any]:
    """Return all that is known of a dead letter as a JSON object. A value that cannot be decoded is shown as bytes.

    - `masking`: hides personal data, in the value and in texts that may quote it; `None` shows everything.
    """
    quoting = {
        "type": dead_letter.type,
        _MESSAGE: dead_letter.message,
        _STACK: dead_letter.stacktrace,
        **_value(dead_letter, contracts),
    }
    if masking is not None:
        quoting = masking.masked(dead_letter.at[0], quoting)
    return {
        "id": str(dead_letter.id),
        "state": state,
        "topic": dead_letter.at[0],
        "partition": dead_letter.at[1],
        "offset": dead_letter.at[2],
        "key": _key(dead_letter),
        "type": dead_letter.type,
        "service": dead_letter.service,
        "group": dead_letter.group,
        "handler": dead_letter.handler,
        "reason": dead_letter.reason,
        "error": dead_letter.error,
        "message": quoting.pop(_MESSAGE),
        "attempts": dead_letter.attempts,
        "redrives": dead_letter.redrives,
        "first_failed_at": _time(dead_letter.first_failed),
        "failed_at": _time(dead_letter.last_failed),
        "headers": {
            name: None if value is None else value.decode(errors="replace") for name, value in dead_letter.headers
        },
        **({"headers_unreadable": True} if dead_letter.headers_unreadable else {}),
        **({"value_left_out": True} if dead_letter.value_left_out else {}),
        "stacktrace": quoting.pop(_STACK),
        **{name: part for name, part in quoting.items() if name != "type"},
        "audit": None if entry is None else entry_row(entry),
    }


def entry_row(entry: Entry) -> dict[str, Any]:
    """Return an audit record as a JSON object."""
    return {
        "action": entry.action,
        "by": entry.by,
        "at": _time(entry.at),
        "comment": entry.comment,
        "command": entry.command,
        "redrive_to": None if entry.redrive_to is None else f"{entry.redrive_to[0]}[{entry.redrive_to[1]}]",
        "changed": list(entry.changed),
    }


def plan_line(plan: Plan | Refused) -> str:
    """Return a line that says what is to be done with a dead letter, or why nothing is."""
    dead_letter = plan.dead_letter
    key = _key(dead_letter) or "(no key)"
    what = f"{dead_letter.id}  {dead_letter.service}  {dead_letter.reason}  {key}"
    if isinstance(plan, Refused):
        return f"{what}  left: {plan.detail}"
    to = "" if plan.redrive_to is None else f" → {plan.redrive_to[0]}[{plan.redrive_to[1]}]"
    return f"{what}  {plan.action}{to}"


def _value(dead_letter: DeadLetter, contracts: Contracts) -> dict[str, Any]:
    if dead_letter.value is None:
        return {"value": None}
    try:
        return {"value": contracts.decode_any(dead_letter.at[0], dead_letter.value)}
    except DecodeError as error:
        return {
            "undecodable": str(error),
            "bytes": len(dead_letter.value),
            "hex": dead_letter.value[:SHOWN_BYTES].hex(),
        }


def _key(dead_letter: DeadLetter) -> str | None:
    return None if dead_letter.key is None else dead_letter.key.decode(errors="replace")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
