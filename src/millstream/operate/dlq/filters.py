"""Filters that select dead letters."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from millstream.contracts.framing import schema_id_of
from millstream.errors import ConfigurationError, DecodeError
from millstream.operate.dlq.dead_letter import DeadLetter, State

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter of dead letters, all of whose parts must match; `None` matches any. Patterns take `*` and `?`.

    - `error`: the class of the error, with its module or without; `reason`: the short code.
    - `since`, `until`: of its last failure.
    - `type`: the full name of the event's class, or its last part; `schema`: the id in front of its bytes.
    """

    error: str | None = None
    reason: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    type: str | None = None
    schema: int | None = None
    service: str | None = None
    states: tuple[State, ...] | None = None

    @property
    def empty(self) -> bool:
        """True where it selects by nothing but the state."""
        return self == Filter(states=self.states)

    def takes(self, dead_letter: DeadLetter, state: State) -> bool:
        """Return whether a dead letter in this state is selected."""
        failed = dead_letter.last_failed
        return (
            (self.states is None or state in self.states)
            and (self.service is None or dead_letter.service == self.service)
            and (self.reason is None or fnmatchcase(dead_letter.reason, self.reason))
            and (self.error is None or named(dead_letter.error, self.error))
            and (self.type is None or (dead_letter.type is not None and named(dead_letter.type, self.type)))
            and (self.key is None or dead_letter.key == self.key.encode())
            and (self.since is None or (failed is not None and failed >= self.since))
            and (self.until is None or (failed is not None and failed < self.until))
            and (self.schema is None or _schema(dead_letter) == self.schema)
        )


def named(full: str, pattern: str) -> bool:
    """Return whether a dotted name, or its last part, matches the pattern.

    >>> named("builtins.TimeoutError", "TimeoutError"), named("builtins.TimeoutError", "builtins.*")
    (True, True)
    """
    return fnmatchcase(full, pattern) or fnmatchcase(full.rpartition(".")[2], pattern)


def duration(text: str) -> timedelta:
    """Parse `"90s"`, `"5m"`, `"2h"` or `"7d"`. Raises `ConfigurationError`.

    >>> duration("5m")
    datetime.timedelta(seconds=300)
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhd])", text.strip())
    if found is None:
        raise ConfigurationError(f"{text!r} is no duration: write 90s, 5m, 2h or 7d")
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def moment(text: str, now: datetime) -> datetime:
    """Parse a time: ISO 8601 (UTC unless it says otherwise), or how long ago: `"2h"`. Raises `ConfigurationError`."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - duration(text)
        except ConfigurationError:
            raise ConfigurationError(
                f"{text!r} is no time: write 2026-03-01T12:00, or how long ago, such as 2h or 7d"
            ) from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def rate(text: str) -> float:
    """Parse `"10/s"`, `"30/m"` or `"100/h"` to a number a second. Raises `ConfigurationError`.

    >>> rate("30/m")
    0.5
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*/\s*([smh])", text.strip())
    each = 0.0 if found is None else float(found[1]) / timedelta(**{_UNITS[found[2]]: 1}).total_seconds()
    if each <= 0:
        raise ConfigurationError(f"{text!r} is no rate: write 10/s, 30/m or 100/h")
    return each


def _schema(dead_letter: DeadLetter) -> int | None:
    try:
        return schema_id_of(dead_letter.value or b"")
    except DecodeError:  # bytes without a schema id
        return None
