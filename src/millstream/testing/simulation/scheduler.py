"""Who runs next, and what time it is: one thread at a time, and time passes only when all of them wait.

Threads pass a baton: whoever has to wait looks for the next that can go on, lets time pass until there is one, and
hands it the baton. So there is no thread that schedules, and one that is its own successor goes on at once.
"""

import heapq
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random
from typing import Any

from millstream.testing.simulation.lives import Actor, Crashed, Life
from millstream.testing.simulation.virtual import inside

BEGINS_AT = 1_767_225_600_000_000
"""A world's first moment, in microseconds since 1970: the first of January 2026."""
REAL_PATIENCE = 60.0
"""Real seconds that an actor may keep the baton: it waits for something that is not of this world."""
FOREVER = 1e9
"""Seconds; some thirty years."""


class Scheduler:
    """The clock, what is due, who waits, and what has happened. `now`: microseconds since the world began."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 chance that can be had again
        self.now = 0
        self.actors: list[Actor] = []
        self.closing = False
        self.lost = False
        """One of its threads is out of reach: this world cannot go on."""
        self._due: list[tuple[int, int, Life | None, Callable[[], None]]] = []
        self._order = count()
        self._told: list[tuple[int, str, str]] = []
        self._failure: BaseException | None = None
        # Processes share nothing: only in those that something has happened to can a thread have become able to run.
        self._touched: set[Life] = set()
        self._all_touched = False
        self.network = Life(self, "network")
        """What is on its way: nobody's thread waits for it before it has arrived."""
        self._tests = Life(self, "test")
        self._test = self._current = Actor(self, self._tests, "test")

    @property
    def wall_clock(self) -> int:
        """Microseconds since 1970."""
        return BEGINS_AT + self.now

    @property
    def life(self) -> Life:
        """The process whose thread runs now."""
        return self._current.life

    def at(self, moment: int, action: Callable[[], None], whose: Life | None = None) -> None:
        """Call `action` at a moment of `now`. It may change what threads of `whose` wait for; `None`: of anybody."""
        heapq.heappush(self._due, (max(moment, self.now), next(self._order), whose, action))

    def after(self, seconds: float, action: Callable[[], None], whose: Life | None = None) -> None:
        """Call `action` in so many seconds."""
        self.at(self.now + int(seconds * 1_000_000), action, whose)

    def touch(self, life: Life | None) -> None:
        """Something has happened to a process, or with `None` to any: look whether its threads can go on."""
        if life is None or life is self._tests:
            self._all_touched = True
        else:
            self._touched.add(life)

    def wait(self, ready: Callable[[], Any], seconds: float) -> bool:
        """Let the others go on until `ready()` or `seconds` have passed; says whether it is ready.

        `ready` changes nothing: anybody may call it, any number of times. What it looks at belongs to the process that
        waits. Raises `Crashed` if this process has died.
        """
        me = self._current
        if me.life.dead or self.lost:
            raise Crashed
        me.wait_for(ready)
        self.after(max(0.000_001, seconds), partial(me.expire, me.turn), me.life)
        with inside():
            self.touch(me.life)
            chosen = self._next()
            if chosen is not me:
                self._current = chosen
                chosen.baton.release()
                self._get_back(me)
            if me is self._test and self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
        if me.life.dead:
            raise Crashed
        return bool(ready())

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.wait(_never, seconds)

    def hand_over(self) -> None:
        """The thread that runs now ends: the next one goes on."""
        if not self.lost:
            self.touch(None)
            self._current = self._next()
            self._current.baton.release()

    def tell(self, who: str, what: str) -> None:
        """One line of the story."""
        self._told.append((self.now, who, what))

    @property
    def story(self) -> str:
        """All that has happened: seconds, who, what."""
        return "".join(f"{at / 1_000_000:12.6f}  {who:<20} {what}\n" for at, who, what in self._told)

    def _next(self) -> Actor:
        try:
            while True:
                self._look()
                able = [actor for actor in self.actors if actor.able]
                if able:
                    chosen = able[0] if len(able) == 1 else self.random.choice(able)
                    chosen.able = False
                    return chosen
                self._let_time_pass()
        except BaseException as error:
            # Whoever's thread this is, it is the test that has to know.
            self._failure = error
            return self._test

    def _look(self) -> None:
        """See who has become able to run, or is not any more."""
        for actor in self.actors:
            if self._all_touched or actor.life in self._touched:
                actor.look(self.now)
        self._touched.clear()
        self._all_touched = False

    def _let_time_pass(self) -> None:
        while not self._all_touched and not self._touched:
            self.now, _, whose, action = heapq.heappop(self._due)
            action()
            if whose is not self.network:
                self.touch(whose)

    def _get_back(self, me: Actor) -> None:
        if me is not self._test:
            me.baton.acquire()
            return
        if not me.baton.acquire(timeout=REAL_PATIENCE):
            self.lost = True
            raise RuntimeError(f"{self._current.name} waits for something outside its world")


def _never() -> bool:
    return False
