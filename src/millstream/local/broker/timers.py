"""Deadlines, kept apart from any clock: whoever drives the broker says what time it is."""

import heapq
from collections.abc import Callable
from itertools import count

Clock = Callable[[], int]
"""The present in milliseconds since 1970."""


class Timer:
    """One deadline; `cancel()` is safe at any time, also after it has fired."""

    __slots__ = ("_timers", "action", "at")

    def __init__(self, timers: "Timers", at: int, action: Callable[[], None]) -> None:
        self._timers = timers
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        if self.action is not None:
            self.action = None
            self._timers.cancelled()


class Timers:
    """A queue of deadlines. The driver waits until `next_at()` and calls `run_due()`.

    `on_earlier` is called when a new deadline comes before all others, so that a driver that sleeps can wake sooner.

    >>> now = 0
    >>> timers = Timers(lambda: now)
    >>> timer = timers.after(50, lambda: print("fired"))
    >>> now = 50
    >>> timers.run_due()
    fired
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.on_earlier: Callable[[], None] = lambda: None
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._dead = 0

    def after(self, delay_ms: int, action: Callable[[], None]) -> Timer:
        timer = Timer(self, self.clock() + delay_ms, action)
        heapq.heappush(self._queue, (timer.at, next(self._order), timer))
        if self._queue[0][2] is timer:
            self.on_earlier()
        return timer

    def next_at(self) -> int | None:
        """When `run_due` has something to do next, in the clock's milliseconds; None when nothing waits."""
        while self._queue and self._queue[0][2].action is None:
            heapq.heappop(self._queue)
            self._dead -= 1
        return self._queue[0][0] if self._queue else None

    def run_due(self) -> None:
        now = self.clock()
        while (at := self.next_at()) is not None and at <= now:
            timer = heapq.heappop(self._queue)[2]
            action, timer.action = timer.action, None
            assert action is not None
            action()

    def cancelled(self) -> None:
        # Sessions and transactions set far more deadlines than they let pass: without this the queue would hold a
        # minute of them.
        self._dead += 1
        if self._dead > 64 and self._dead * 2 > len(self._queue):
            self._queue = [entry for entry in self._queue if entry[2].action is not None]
            heapq.heapify(self._queue)
            self._dead = 0
