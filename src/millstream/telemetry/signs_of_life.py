"""Signs of life: which loops of this process have to turn, and which calls into librdkafka have to return.

Apart from the watchdog that looks at them, so that a reader of Kafka gives signs without importing logs and metrics.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Watched:
    """A thread whose loop has to turn, or a native call that has to return.

    - `limit`: seconds of silence that belong to it, such as a call's own time-out.
    """

    __slots__ = ("call", "ident", "limit", "name", "reported", "seen", "silent", "turns")

    def __init__(self, name: str, call: str = "", limit: float = 0.0) -> None:
        self.name = name
        self.call = call
        self.limit = limit
        self.ident = threading.get_ident()
        self.turns = self.seen = 0
        self.silent = 0.0
        """Seconds without a turn, as far as the watchdog has seen them pass."""
        self.reported = False

    def __str__(self) -> str:
        return f"{self.call} of {self.name}" if self.call else self.name


threads: dict[int, Watched] = {}
calls: dict[int, Watched] = {}
"""Threads by their ident, calls by their own identity: a thread that waits for another may have one, too."""


@contextmanager
def watched(name: str) -> Iterator[None]:
    """Lets this thread be watched, as `name`, until the block is left."""
    ident = threading.get_ident()
    threads[ident] = Watched(name)
    try:
        yield
    finally:
        threads.pop(ident, None)


def still_alive() -> None:
    """Says that the loop of this thread has turned once more. Does nothing on a thread that is not watched."""
    if (mine := threads.get(threading.get_ident())) is not None:
        mine.turns += 1


@contextmanager
def native_call(call: str, of: str, timeout: float) -> Iterator[None]:
    """Names what this thread does in native code, until the block is left.

    - `of`: whose call it is, such as a transactional id.
    - `timeout`: the seconds that the call was given, all tries together.
    """
    native = Watched(of, call, timeout)
    calls[id(native)] = native
    try:
        yield
    finally:
        del calls[id(native)]
