"""Pauses of the whole process: SIGSTOP, a suspended machine, a container without its share of the processor."""

import threading
import time

from millstream.telemetry import get_logger

log = get_logger(__name__)

PAUSE_SECONDS = 2.0
"""Longer than both threads of a worker are ever silent at the same time, unless the process does not run."""


class Pauses:
    """Tells the time in which the process did not run from the time that a call takes.

    Both threads of a worker call `beat` at least twice a second. One of them alone may be busy for as long as it likes;
    where neither was heard for `PAUSE_SECONDS`, the process was stopped. A suspended machine may stop the monotonic
    clock as well, so the wall clock is looked at, too.
    """

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        """Of all pauses, by the wall clock."""
        self._stopped = 0.0
        self._monotonic, self._wall = time.monotonic(), time.time()
        self._lock = threading.Lock()

    def beat(self) -> None:
        """The calling thread runs. Any thread may say so."""
        with self._lock:
            monotonic, wall = time.monotonic(), time.time()
            stopped, away = monotonic - self._monotonic, wall - self._wall
            self._monotonic, self._wall = monotonic, wall
            if max(stopped, away) <= PAUSE_SECONDS:
                return
            self.count += 1
            self._stopped += stopped
            self.seconds += max(0.0, away)
        log.warning(
            "process_paused",
            seconds=round(max(stopped, away), 1),
            detail="time-outs and attempts of effects go on from here",
        )

    def awake(self) -> float:
        """Seconds on the monotonic clock without those of the pauses."""
        self.beat()
        return self._monotonic - self._stopped
