"""Who runs next, and what time it is: one thread at a time, and time passes only when all of them wait.

Threads pass a baton: whoever has to wait looks for the next that can go on, lets time pass until there is one, and
hands it the baton. So there is no thread that schedules, and one that is its own successor goes on at once.
"""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from millstream.testing.simulation.lives import Actor, Crashed, Life
from millstream.testing.simulation.virtual import inside

BEGINS_AT = 1_767_225_600_000_000
"""A world's first moment, in microseconds since 1970: the first of January 2026."""
REAL_PATIENCE = 60.0
"""Real seconds that an actor may keep the baton: it waits for something that is not of this world."""


class Scheduler:
    """The clock, what is due, who waits, and what has happened. `now`: microseconds since the world began."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 chance that can be had again
        self.now = 0
        self.actors: list[Actor] = []
        self.closing = False
        self.lost = False
        """One of its threads is out of reach: this world cannot go on."""
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._told: list[tuple[int, str, str]] = []
        self._failure: BaseException | None = None
        self._test = self._current = Actor(self, Life(self, "test"), "test", None)

    @property
    def wall_clock(self) -> int:
        """Microseconds since 1970."""
        return BEGINS_AT + self.now

    @property
    def life(self) -> Life:
        """The process whose thread runs now."""
        return self._current.life

    def at(self, moment: int, action: Callable[[], None]) -> None:
        """Call `action` at a moment of `now`."""
        heapq.heappush(self._due, (max(moment, self.now), next(self._order), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in so many seconds."""
        self.at(self.now + int(seconds * 1_000_000), action)

    def wait(self, ready: Callable[[], Any], seconds: float) -> bool:
        """Let the others go on until `ready()` or `seconds` have passed; says whether it is ready.

        `ready` changes nothing: anybody may call it, any number of times. Raises `Crashed` if this process has died.
        """
        me = self._current
        if me.life.dead or self.lost:
            raise Crashed
        me.ready, me.deadline = ready, self.now + max(1, int(seconds * 1_000_000))
        with inside():
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
        self.wait(lambda: False, seconds)

    def hand_over(self) -> None:
        """The thread that runs now ends: the next one goes on."""
        if not self.lost:
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
                able = [actor for actor in self.actors if actor.can_run(self.now)]
                if able:
                    return able[0] if len(able) == 1 else self.random.choice(able)
                self._let_time_pass()
        except BaseException as error:
            # Whoever's thread this is, it is the test that has to know.
            self._failure = error
            return self._test

    def _let_time_pass(self) -> None:
        moment = min((max(actor.deadline, actor.life.frozen_until) for actor in self.actors), default=self.now)
        if not self._due or moment < self._due[0][0]:
            self.now = max(self.now, moment)
            return
        self.now, _, action = heapq.heappop(self._due)
        action()

    def _get_back(self, me: Actor) -> None:
        if me is not self._test:
            me.baton.acquire()
            return
        if not me.baton.acquire(timeout=REAL_PATIENCE):
            self.lost = True
            raise RuntimeError(f"{self._current.name} waits for something outside its world")
