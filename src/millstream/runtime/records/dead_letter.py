"""Dead letters: an event that could not be handled, byte for byte as it came, and why."""

import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TypeAlias

from millstream.errors import DecodeError, Rejected
from millstream.kafka.limits import record_bytes
from millstream.kafka.port import Headers, Message
from millstream.kafka.unreadable import has_unreadable_headers, headers_of
from millstream.runtime.records.dead_letter_log import DeadLetterKind, dead_letter_log

Record: TypeAlias = tuple[str, bytes | None, bytes | None, Headers]
"""Topic, key, value, headers."""

PREFIX = "millstream-dlq-"
"""What the names of the headers begin with that say where a dead letter comes from and why."""

_MESSAGE_BYTES = 1_000
_STACK_BYTES = 8_000


def dead_letter(
    message: Message,
    *,
    service: str,
    handler: str | None,
    error: BaseException,
    attempts: int,
    group: str | None = None,
    first_failed_at: float | None = None,
    parked: bool = False,
    redrives: int = 0,
    limit: int = sys.maxsize,
) -> Record:
    """Return the record for `<topic>.dlq`: the original key, value and headers, and beside them what happened.

    Headers that cannot be read are left out, and `millstream-dlq-headers: unreadable` says so.

    - `handler`: its name, or `None` where the event was never understood far enough to find one.
    - `attempts`: how often the handler was called for it.
    - `group`: the consumer group that failed, which a redrive goes to.
    - `first_failed_at`: seconds since 1970; by default now, as for one that failed once.
    - `parked`: its key waits with it until an operator redrives or discards it.
    - `redrives`: how often it had been redriven before it failed this time.
    - `limit`: bytes that the record may have. Above it the stack trace is left out, then the value, then the headers of
      the event: a partition must not stop because a dead letter is too large. Where it was read from stays.

    It is logged, each kind at once and repeats as a count.

    Example, where `message` is a record as it came from Kafka:

        topic, key, value, headers = dead_letter(message, service="payment", handler="charge", error=error, attempts=3)
        assert dict(headers)["millstream-dlq-reason"] == b"card_unreadable"
    """
    kind = DeadLetterKind(service, handler, message.topic(), reason_of(error))
    dead_letter_log.note(kind, message, error, attempts, parked=parked)
    now = time.time()
    facts = {
        "topic": message.topic(),
        "partition": str(message.partition()),
        "offset": str(message.offset()),
        "timestamp": str(message.timestamp()[1]),
        "service": service,
        "group": group,
        "handler": handler,
        "reason": reason_of(error),
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": _text_of(error),
        "attempts": str(attempts),
        "first-failed-at": _moment(now if first_failed_at is None else first_failed_at),
        "failed-at": _moment(now),
        "state": "parked" if parked else None,
        "redrives": str(redrives) if redrives else None,
        "headers": "unreadable" if has_unreadable_headers(message) else None,
        "stacktrace": _stack_of(error),
    }
    # A dead letter that was redriven and failed again describes its last failure only.
    original = [header for header in headers_of(message) if not header[0].startswith(PREFIX)]
    added: Headers = [(PREFIX + name, text.encode(errors="replace")) for name, text in facts.items() if text]
    key, value = message.key(), message.value()
    if record_bytes(key, value, [*original, *added]) > limit:
        added = [header for header in added if header[0] != f"{PREFIX}stacktrace"]
    if value is not None and record_bytes(key, value, [*original, *added]) > limit:
        added.append((f"{PREFIX}value", f"left out: {len(value)} bytes".encode()))
        value = None
    if record_bytes(key, value, [*original, *added]) > limit:
        original = []
    return f"{message.topic()}.dlq", key, value, [*original, *added]


def reason_of(error: BaseException) -> str:
    """Return the short, stable code to group dead letters by.

    >>> reason_of(Rejected("too_heavy", "90 kg")), reason_of(ZeroDivisionError())
    ('too_heavy', 'ZeroDivisionError')
    """
    return error.reason if isinstance(error, (DecodeError, Rejected)) else type(error).__name__


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _text_of(error: BaseException) -> str:
    return str(error).encode(errors="replace")[:_MESSAGE_BYTES].decode(errors="ignore")


def _stack_of(error: BaseException) -> str:
    if isinstance(error, (DecodeError, Rejected)):
        return ""
    # The end of a traceback is the part that names the line of code.
    text = "".join(traceback.format_exception(error, limit=-12))
    return text.encode(errors="replace")[-_STACK_BYTES:].decode(errors="ignore")
