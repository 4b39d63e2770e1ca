"""Windows: how event time is cut. All times are in milliseconds since 1970; hours and days begin where UTC's do."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypeVar

from millstream.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Hopping:
    """Windows of `size` that begin every `advance`, from 1970 on: [start, start + size). None begins before 1970.

    - `grace`: how much later than the end of a window its last record may come.
    """

    size: int
    advance: int
    grace: int

    def starts(self, time: int) -> range:
        """Return the starts of the windows that hold `time`, in order.

        >>> list(Hopping(size=10_000, advance=5_000, grace=0).starts(12_000))
        [5000, 10000]
        """
        first = max(0, time - self.size + self.advance) // self.advance * self.advance
        return range(first, time + 1, self.advance)

    @property
    def wait(self) -> int:
        """Milliseconds of stream time from the end of a window until it takes no record."""
        return self.grace

    @property
    def memory(self) -> int:
        """Milliseconds more for which a closed window says what a record that is not late belongs to."""
        return 0


@dataclass(frozen=True, slots=True)
class Sliding:
    """Windows of records that are at most `difference` apart, both bounds included."""

    difference: int
    grace: int

    @property
    def wait(self) -> int:
        return self.grace + 1

    @property
    def memory(self) -> int:
        return 2 * self.difference + 1


@dataclass(frozen=True, slots=True)
class Session:
    """Windows that end when no record of a key came for longer than `gap`."""

    gap: int
    grace: int

    @property
    def wait(self) -> int:
        return self.gap + self.grace + 1

    @property
    def memory(self) -> int:
        return self.gap


Window: TypeAlias = Hopping | Sliding | Session
W = TypeVar("W", Hopping, Sliding, Session)


def tumbling(size: timedelta, *, grace: timedelta = timedelta(0)) -> Hopping:
    """Return windows of `size`, one after the other.

    >>> tumbling(timedelta(hours=1), grace=timedelta(minutes=5)).size
    3600000
    """
    return hopping(size, size, grace=grace)


def hopping(size: timedelta, advance: timedelta, *, grace: timedelta = timedelta(0)) -> Hopping:
    """Return windows of `size` that begin every `advance`, so that they overlap.

    Raises `DeclarationError` unless 0 < advance <= size and grace >= 0.
    """
    made = Hopping(milliseconds(size), milliseconds(advance), milliseconds(grace))
    if not 0 < made.advance <= made.size:
        raise DeclarationError(f"windows of {size} cannot begin every {advance}: choose 0 < advance <= size")
    return _checked(made)


def sliding(difference: timedelta, *, grace: timedelta = timedelta(0)) -> Sliding:
    """Return a window for each distinct set of records that are at most `difference` apart."""
    made = Sliding(milliseconds(difference), milliseconds(grace))
    if made.difference <= 0:
        raise DeclarationError(f"sliding windows need a positive difference, not {difference}")
    return _checked(made)


def session(gap: timedelta, *, grace: timedelta = timedelta(0)) -> Session:
    """Return a window for each run of records of a key without a pause longer than `gap`."""
    made = Session(milliseconds(gap), milliseconds(grace))
    if made.gap <= 0:
        raise DeclarationError(f"sessions need a positive gap, not {gap}")
    return _checked(made)


def _checked(window: W) -> W:
    if window.grace < 0:
        raise DeclarationError("a grace below zero would drop records that are in time; choose zero or more")
    return window


def milliseconds(duration: timedelta) -> int:
    """Return a duration in whole milliseconds."""
    return round(duration / timedelta(milliseconds=1))
