"""The scheduler: one thread runs at a time, and time passes only when all of them wait.

Threads pass a run token: one that has to wait looks for the next that can go on, lets time pass until there is one, and
passes it the token. So there is no thread that schedules, and one that is its own successor goes on at once.
"""

import threading
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from millstream.testing.simulation.scheduler.clock import Clock
from millstream.testing.simulation.scheduler.incarnation import Crashed, Incarnation, SimulatedThread
from millstream.testing.simulation.scheduler.virtual_time import inside, outside

REAL_TIMEOUT = 60.0
"""Real seconds that a thread may keep the run token: it waits for something that is not of this world."""
FOREVER = 1e9
"""Seconds; some thirty years."""


class Scheduler(Clock):
    """The clock, the threads that wait, and the timeline of what has happened."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)  # noqa: S311 chance that can be had again
        self.closing = False
        self.lost = False
        """One of its threads is out of reach: this world cannot go on."""
        self._recorded: list[tuple[int, str, str]] = []
        self._failure: BaseException | None = None
        self._test = self._running = SimulatedThread(Incarnation(self, "test", wakes_all=True), "test")
        self._threads = [self._test]
        self.mark_changed(self._test.incarnation)

    @property
    def incarnation(self) -> Incarnation:
        """The one whose thread runs now."""
        return self._running.incarnation

    def start_thread(self, incarnation: Incarnation, thread: threading.Thread) -> SimulatedThread:
        """Start a thread as one of a process. Raises `Crashed` where that has died."""
        if incarnation.dead:
            raise Crashed
        started = SimulatedThread(incarnation, thread.name)
        self._threads.append(started)
        self.mark_changed(incarnation)
        incarnation.threads += 1
        work = thread.run
        thread.run = lambda: self._run(started, work)
        with outside():
            thread.start()
        return started

    def wait(self, ready: Callable[[], Any], seconds: float) -> bool:
        """Let the others go on until `ready()` or `seconds` have passed; says whether it is ready.

        `ready` changes nothing: any thread may call it, any number of times. What it looks at belongs to the process
        that waits. Raises `Crashed` if this process has died.
        """
        me = self._running
        if me.incarnation.dead or self.lost:
            raise Crashed
        me.wait_for(ready)
        self.after(max(0.000_001, seconds), partial(me.expire, me.waits), me.incarnation)
        with inside():
            self.mark_changed(me.incarnation)
            chosen = self._choose_next()
            if chosen is not me:
                self._running = chosen
                chosen.run_token.release()
                self._take_token(me)
            if me is self._test and self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
        if me.incarnation.dead:
            raise Crashed
        return bool(ready())

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""
        self.wait(_never, seconds)

    def end_processes(self) -> None:
        """End all processes but the test's, and wait for their threads; none starts again."""
        self.closing = True
        if self.lost:
            return
        for thread in list(self._threads):
            if thread.incarnation is not self._test.incarnation:
                thread.incarnation.die()
        self.wait(lambda: self._threads == [self._test], 1.0)

    def record(self, who: str, what: str) -> None:
        """Add a line to the timeline."""
        self._recorded.append((self.now, who, what))

    @property
    def timeline(self) -> str:
        """All that has happened, a line each: seconds, who, what."""
        return "".join(f"{at / 1_000_000:12.6f}  {who:<20} {what}\n" for at, who, what in self._recorded)

    def _run(self, me: SimulatedThread, work: Callable[[], None]) -> None:
        """Do the work of a whole thread."""
        me.run_token.acquire()
        with inside():
            try:
                if not me.incarnation.dead:
                    work()
            except Crashed:  # killed, as its incarnation says
                pass
            except BaseException as error:
                # As in a real process: what one thread cannot deal with ends them all.
                me.incarnation.error = error
                me.incarnation.die()
            me.ended = True
            me.incarnation.threads -= 1
            self._threads.remove(me)
            if not me.incarnation.threads:
                me.incarnation.on_end()
            self._pass_token()

    def _pass_token(self) -> None:
        """End the thread that runs now: the next one goes on."""
        if not self.lost:
            self.mark_changed(None)
            self._running = self._choose_next()
            self._running.run_token.release()

    def _choose_next(self) -> SimulatedThread:
        try:
            while True:
                self._check_threads()
                able = [thread for thread in self._threads if thread.able]
                if able:
                    chosen = able[0] if len(able) == 1 else self.random.choice(able)
                    chosen.able = False
                    return chosen
                self.advance()
        except BaseException as error:
            # Whichever thread this is, it is the test that has to know.
            self._failure = error
            return self._test

    def _check_threads(self) -> None:
        """See which threads of those that changed can go on, or cannot any more."""
        for thread in self._threads:
            if self._all_changed or thread.incarnation in self._changed:
                thread.check(self.now)
        self._changed.clear()
        self._all_changed = False

    def _take_token(self, me: SimulatedThread) -> None:
        if me is not self._test:
            me.run_token.acquire()
            return
        if not me.run_token.acquire(timeout=REAL_TIMEOUT):
            self.lost = True
            raise RuntimeError(f"{self._running.name} waits for something outside its world")


def _never() -> bool:
    return False
