"""A clock that can be put forward."""

from millstream.local.broker.timers import Clock


class ShiftedClock:
    """`clock` and what it has been put forward by.

    >>> clock = ShiftedClock(lambda: 1000)
    >>> clock.advance(500)
    >>> clock()
    1500
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ahead_ms = 0

    def __call__(self) -> int:
        return self._clock() + self.ahead_ms

    def advance(self, milliseconds: int) -> None:
        self.ahead_ms += milliseconds
