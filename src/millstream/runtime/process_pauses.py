"""Pauses of the whole process: SIGSTOP, a suspended machine, a container without its share of the processor."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from millstream.telemetry import get_logger

log = get_logger(__name__)

PAUSE_SECONDS = 2.0
"""Longer than both threads of a worker are ever silent at the same time, unless the process does not run."""

BEAT_SECONDS = 0.5
"""Seconds between two beats of a thread that does nothing else."""

PAUSES_FORGIVEN = 10
"""Attempts of one event in a row that count for nothing, because the process was stopped in the midst of them."""


class ProcessPauses:
    """Tells the time in which the process did not run from the time that a call takes.

    Both threads of a worker call `beat` at least twice a second; a worker whose handlers run on its only thread has
    another for that, `beating`. One of them alone may be busy for as long as it likes; where neither was heard for
    `PAUSE_SECONDS`, the process was stopped. A suspended machine may stop the monotonic clock as well, so the wall
    clock is looked at, too.
    """

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        """Of all pauses, by the wall clock."""
        self._stopped = 0.0
        self._monotonic, self._wall = time.monotonic(), time.time()
        self._lock = threading.Lock()

    def beat(self) -> None:
        """Note that the calling thread runs. For any thread."""
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
            "process paused",
            code="process_paused",
            seconds=round(max(stopped, away), 1),
            detail="time-outs and attempts go on from here",
        )

    def awake(self) -> float:
        """Seconds on the monotonic clock without those of the pauses."""
        self.beat()
        return self._monotonic - self._stopped

    @contextmanager
    def beating(self, worker: str) -> Iterator[None]:
        """Beat on a thread of its own until the block is left, however long the calling thread is busy."""
        left = threading.Event()

        def beat() -> None:
            while not left.wait(BEAT_SECONDS):
                self.beat()

        thread = threading.Thread(target=beat, name=f"{worker}.beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()
