"""`threading.Event` in virtual time."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millstream.testing.simulation.scheduler import Scheduler

FOREVER = 1e9
"""Seconds; some thirty years."""


class Event(threading.Event):
    """An event that a process of a world waits for, and anybody sets."""

    def __init__(self, scheduler: "Scheduler") -> None:
        super().__init__()
        self._scheduler = scheduler

    def wait(self, timeout: float | None = None) -> bool:
        """As `threading.Event.wait`, while the others go on."""
        return self._scheduler.wait(self.is_set, FOREVER if timeout is None else timeout)
