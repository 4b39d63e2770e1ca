"""A dead letter in words and as JSON: decoded, with what is personal masked."""

from datetime import datetime
from typing import Any

from millstream.contracts import Contracts
from millstream.errors import DecodeError
from millstream.operate.dlq.audit import Entry
from millstream.operate.dlq.letter import DeadLetter, State
from millstream.operate.dlq.work import Refused, Work
from millstream.operate.masking import Masking

SHOWN_BYTES = 64
"""Bytes of an undecodable value that are shown, in hexadecimal."""
_MESSAGE, _STACK = "millstream-dlq-message", "millstream-dlq-stacktrace"


def told(
    letter: DeadLetter, state: State, entry: Entry | None, contracts: Contracts, masking: Masking | None
) -> dict[str, Any]:
    """Return all that is known of a letter, as what JSON can hold. Never raises for what it holds.

    - `masking`: hides what is personal, in the value and in what may quote it; `None` shows everything.
    """
    quoting = {"type": letter.type, _MESSAGE: letter.message, _STACK: letter.stacktrace, **_value(letter, contracts)}
    if masking is not None:
        quoting = masking.masked(letter.at[0], quoting)
    return {
        "id": str(letter.id),
        "state": state,
        "topic": letter.at[0],
        "partition": letter.at[1],
        "offset": letter.at[2],
        "key": _key(letter),
        "type": letter.type,
        "service": letter.service,
        "group": letter.group,
        "handler": letter.handler,
        "reason": letter.reason,
        "error": letter.error,
        "message": quoting.pop(_MESSAGE),
        "attempts": letter.attempts,
        "redrives": letter.redrives,
        "first_failed_at": _time(letter.first_failed),
        "failed_at": _time(letter.last_failed),
        "headers": {name: None if value is None else value.decode(errors="replace") for name, value in letter.headers},
        **({"headers_unreadable": True} if letter.headers_unreadable else {}),
        **({"value_left_out": True} if letter.value_left_out else {}),
        "stacktrace": quoting.pop(_STACK),
        **{name: part for name, part in quoting.items() if name != "type"},
        "audit": None if entry is None else action(entry),
    }


def action(entry: Entry) -> dict[str, Any]:
    """An entry of the audit as what JSON can hold."""
    return {
        "action": entry.action,
        "by": entry.by,
        "at": _time(entry.at),
        "comment": entry.comment,
        "command": entry.command,
        "redrive_to": None if entry.redrive_to is None else f"{entry.redrive_to[0]}[{entry.redrive_to[1]}]",
        "changed": list(entry.changed),
    }


def sentence(plan: Work | Refused) -> str:
    """Return in a line what is to be done, or why not."""
    letter = plan.letter
    what = f"{letter.id}  {letter.service}  {letter.reason}  {_key(letter) or '(no key)'}"
    if isinstance(plan, Refused):
        return f"{what}  left: {plan.detail}"
    return f"{what}  {plan.action}{'' if plan.to is None else f' → {plan.to[0]}[{plan.to[1]}]'}"


def _value(letter: DeadLetter, contracts: Contracts) -> dict[str, Any]:
    if letter.value is None:
        return {"value": None}
    try:
        return {"value": contracts.decode_any(letter.at[0], letter.value)}
    except DecodeError as error:
        return {"undecodable": str(error), "bytes": len(letter.value), "hex": letter.value[:SHOWN_BYTES].hex()}


def _key(letter: DeadLetter) -> str | None:
    return None if letter.key is None else letter.key.decode(errors="replace")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
