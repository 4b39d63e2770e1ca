"""Virtual time: what is due and when, and whose threads have to be checked for whether they can go on."""

import heapq
from collections.abc import Callable
from itertools import count

STARTS_AT = 1_767_225_600_000_000
"""A world's first moment, in microseconds since 1970: the first of January 2026."""


class Owner:
    """The process or other party that a change concerns.

    Owners share nothing, so that only the threads of one that changed are checked.

    - `wakes_all`: a change of this one may concern the threads of all others.
    """

    def __init__(self, name: str, *, wakes_all: bool = False) -> None:
        self.name = name
        self.wakes_all = wakes_all


class Clock:
    """The time, and the actions that are due. `now`: microseconds since the world began."""

    def __init__(self) -> None:
        self.now = 0
        self.network = Owner("network")
        """Owns messages on their way: no thread waits for one before it has arrived."""
        self._due: list[tuple[int, int, Owner | None, Callable[[], None]]] = []
        self._order = count()
        self._changed: set[Owner] = set()
        self._all_changed = False

    @property
    def wall_clock(self) -> int:
        """Microseconds since 1970."""
        return STARTS_AT + self.now

    def at(self, moment: int, action: Callable[[], None], owner: Owner | None = None) -> None:
        """Call `action` at a moment of `now`. It may change what threads of `owner` wait for; `None`: of anyone."""
        heapq.heappush(self._due, (max(moment, self.now), next(self._order), owner, action))

    def after(self, seconds: float, action: Callable[[], None], owner: Owner | None = None) -> None:
        """Call `action` in that many seconds."""
        self.at(self.now + int(seconds * 1_000_000), action, owner)

    def mark_changed(self, owner: Owner | None) -> None:
        """Have the threads of `owner` checked for whether they can go on; with `None` those of all."""
        if owner is None or owner.wakes_all:
            self._all_changed = True
        else:
            self._changed.add(owner)

    def advance(self) -> None:
        """Let time pass until something has changed for some thread."""
        while not self._all_changed and not self._changed:
            self.now, _, owner, action = heapq.heappop(self._due)
            action()
            if owner is not self.network:
                self.mark_changed(owner)
