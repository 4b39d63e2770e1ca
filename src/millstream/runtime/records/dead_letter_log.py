"""Dead letters in the log: each kind at once, what repeats as a count. No payload, no key, no text of an error.

An error's text may quote its event, so a line names the error's class and the line of code that raised it; the rest is
in the dead letter, where `millstream dlq show` masks what is personal.
"""

import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from millstream.kafka.port import Message
from millstream.telemetry import get_logger
from millstream.user_code import place_in_user_code

log = get_logger(__name__)

REPEATS_EVERY = 30.0
"""Seconds between two lines about one kind of dead letter."""
MAX_KINDS = 200
"""Kinds that are told apart. Beyond them all reasons of a handler count as one."""


class DeadLetterKind(NamedTuple):
    """The handler, topic and reason of dead letters that are logged as one."""

    service: str
    handler: str | None
    topic: str
    reason: str


@dataclass(slots=True)
class _Repeats:
    """The dead letters of one kind since its last line."""

    logged_at: float
    count: int = 0
    last: str = ""


class DeadLetterLog:
    """The lines of one process, from all of its workers' threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: dict[DeadLetterKind, _Repeats] = {}

    def note(
        self, kind: DeadLetterKind, message: Message, error: BaseException, attempts: int, *, parked: bool
    ) -> None:
        """Log a dead letter. The first of its kind is logged at once, others when `REPEATS_EVERY` is over."""
        record = f"{message.topic()}[{message.partition()}]@{message.offset()}"
        with self._lock:
            if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
                kind = kind._replace(reason="(others)")
            known = self._kinds.get(kind)
            if known is not None:
                known.count, known.last = known.count + 1, record
            else:
                self._kinds[kind] = _Repeats(time.monotonic())
        if known is not None:
            self.flush()
            return
        at = place_in_user_code(error)
        log.error(
            "dead letter",
            code="dead_letter",
            **_fields(kind),
            record=record,
            error_type=f"{type(error).__module__}.{type(error).__qualname__}",
            raised_at=f"{at.filename}:{at.lineno}" if at else None,
            attempts=attempts,
            parked=parked,
            remedy=f"millstream dlq list --topic {kind.topic}",
        )

    def flush(self, *, now: bool = False) -> None:
        """Log how often each kind has repeated, if its time has come. Workers call it in each turn of their loop."""
        if not self._kinds:
            return
        at = time.monotonic()
        with self._lock:
            due = [
                (kind, repeats.count, repeats.last)
                for kind, repeats in self._kinds.items()
                if repeats.count and (now or at >= repeats.logged_at + REPEATS_EVERY)
            ]
            for kind, _, _ in due:
                self._kinds[kind] = _Repeats(at)
        for kind, count, last in due:
            log.error(
                "dead letters repeated", code="dead_letters_repeated", **_fields(kind), count=count, last_record=last
            )


def _fields(kind: DeadLetterKind) -> dict[str, str | None]:
    return {"service": kind.service, "handler": kind.handler, "topic": f"{kind.topic}.dlq", "reason": kind.reason}


dead_letter_log = DeadLetterLog()
"""The one of this process."""
