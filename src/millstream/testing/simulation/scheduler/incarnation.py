"""One run of a process from its start to its end, and the threads in it."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from millstream.runtime.worker import ProcessEnds
from millstream.testing.simulation.scheduler.clock import Clock, Owner
from millstream.testing.simulation.scheduler.tasks import Steps, Task

T = TypeVar("T")


class Crashed(ProcessEnds):
    """The process ends here and now, as by kill -9: nothing that its code still does has any effect."""


class Incarnation(Owner):
    """One run of a process. What it leaves behind when it ends stays as it is.

    - `on_end`: called when its last thread has ended.
    """

    def __init__(
        self, clock: Clock, name: str, on_end: Callable[[], None] = lambda: None, *, wakes_all: bool = False
    ) -> None:
        super().__init__(name, wakes_all=wakes_all)
        self.on_end = on_end
        self.dead = False
        self.frozen_until = 0
        self.threads = 0
        self.error: BaseException | None = None
        self.on_death: list[Callable[[], None]] = []
        self._clock = clock

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in that many seconds: later while the process is frozen, never when it is dead."""

        def act() -> None:
            if self.dead:
                return
            if self._clock.now < self.frozen_until:
                self._clock.at(self.frozen_until, act, self)
            else:
                action()

        self._clock.after(seconds, act, self)

    def task(self, steps: Steps[T]) -> Task[T]:
        """Let `steps` go on beside everything else in this process."""
        return Task(self.after, steps)

    def die(self) -> None:
        """End at once; its threads see it when they wait next, which is where they are."""
        if not self.dead:
            self.dead = True
            self._clock.mark_changed(self)
            for action in self.on_death:
                action()


class SimulatedThread:
    """A thread of a process. It runs while it holds the run token, and passes it on wherever it waits.

    - `run_token`: released by whoever passes the token to this thread.
    - `able`: whether it had something to do when that was last checked.
    - `waits`: how often it has waited.
    """

    def __init__(self, incarnation: Incarnation, name: str) -> None:
        self.name = name
        self.incarnation = incarnation
        self.run_token = threading.Lock()
        self.run_token.acquire()
        self.able = False
        self.ended = False
        self.waits = 0
        self._ready: Callable[[], Any] = lambda: True
        self._expired = False

    def wait_for(self, ready: Callable[[], Any]) -> None:
        """Begin to wait."""
        self._ready, self._expired = ready, False
        self.waits += 1

    def expire(self, wait: int) -> None:
        """Let the wait of that number end, if it has not ended yet."""
        if wait == self.waits:
            self._expired = True

    def check(self, now: int) -> None:
        """See whether it can go on: what it waits for is there, or will not come any more."""
        incarnation = self.incarnation
        self.able = incarnation.dead or (now >= incarnation.frozen_until and (self._expired or bool(self._ready())))
