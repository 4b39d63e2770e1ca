"""The policy for a handler that raises: how often it is tried again, and what then."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

from millstream.declare.durations import minutes
from millstream.declare.transient import is_transient
from millstream.errors import DeclarationError, MillstreamError, Rejected

_ENOUGH = 10_000
"""Failures after which attempts without a number are taken to go on until `within` is over."""

Backoff = Callable[[int], float]
"""From the number of failures so far (1, 2, …) to seconds of waiting."""


def exponential(first: float, *, factor: float = 2.0, limit: float = 30.0) -> Backoff:
    """Waits of `first`, `first * factor`, … seconds, never above `limit`.

    >>> [exponential(0.2)(failures) for failures in (1, 2, 3)]
    [0.2, 0.4, 0.8]
    """
    if first < 0 or factor < 1 or limit < first:
        raise DeclarationError(
            f"exponential({first}, factor={factor}, limit={limit}) does not grow from first to limit"
        )
    return lambda failures: min(limit, first * factor ** min(failures - 1, 64))


@dataclass(frozen=True, slots=True)
class Retry:
    """The errors that are tried again, how often, and how long in all.

    - `attempts`: calls in all, the first included; `None` for as many as `within` allows.
    - `backoff`: seconds between them.
    - `within`: no new attempt after this long.
    - `on`: error classes that are worth it; by default those that say so themselves (`retriable`), and what sockets,
      HTTP clients, databases, mail servers and Kafka raise in passing: `docs/dead-letters.md` has the table.
    """

    attempts: int | None = 3
    backoff: Backoff = field(default_factory=lambda: exponential(0.2))
    within: timedelta = minutes(1)
    on: tuple[type[Exception], ...] = ()

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise DeclarationError(f"Retry(attempts={self.attempts}) would never call the handler")
        if not callable(self.backoff):
            raise DeclarationError(
                f"Retry(backoff={self.backoff!r}) is no function of the failures so far: write "
                f"backoff=exponential({self.backoff!r})"
            )
        if not isinstance(self.within, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] users without a type checker
            raise DeclarationError(f"Retry(within={self.within!r}) is no timedelta: write within=seconds(…)")
        for error in self.on:
            if not (isinstance(error, type) and issubclass(error, BaseException)):  # pyright: ignore[reportUnnecessaryIsInstance] users without a type checker
                raise DeclarationError(f"Retry(on=…) lists {error!r}, which is no class of errors")

    def longest(self) -> timedelta:
        """The time from the first failure to the last attempt that is allowed.

        >>> Retry(attempts=4, backoff=exponential(1.0)).longest()
        datetime.timedelta(seconds=7)
        """
        within, waited = self.within.total_seconds(), 0.0
        for failures in range(1, self.attempts or 2**63):
            waited += self.backoff(failures)
            if waited > within or (self.attempts is None and failures >= _ENOUGH):
                return self.within
        return timedelta(seconds=waited)

    def allows(self, error: BaseException, failures: int, elapsed: float) -> bool:
        """Return whether to call again after `failures` failures and `elapsed` seconds, the last one with `error`."""
        if isinstance(error, Rejected) or (self.attempts is not None and failures >= self.attempts):
            return False
        if elapsed + self.backoff(failures) > self.within.total_seconds():
            return False
        if self.on:
            return isinstance(error, self.on)
        if isinstance(error, MillstreamError):
            return error.retriable
        said = getattr(error, "retriable", None)
        return said if isinstance(said, bool) else is_transient(error)


class OnFailure(Enum):
    """The action for an event whose retries are used up."""

    DEAD_LETTER = "dead_letter"
    """Set it aside with its bytes and the reason; its key goes on."""
    PARK_KEY = "park_key"
    """Let its key wait for a person, with all that comes for it; other keys go on."""
    STOP = "stop"
    """Stop the service, without moving past the event."""


dead_letter = OnFailure.DEAD_LETTER
park_key = OnFailure.PARK_KEY
stop = OnFailure.STOP
