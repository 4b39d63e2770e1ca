"""Whether errors that were dealt with are gone without the help of the garbage collector."""

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from millstream.testing.child import wait_until


class Passing(TimeoutError):
    """An error that can be watched."""


class Errors:
    """Makes errors, and knows how many of them are still there."""

    def __init__(self) -> None:
        self._made: list[weakref.ref[Passing]] = []

    @property
    def count(self) -> int:
        return len(self._made)

    def make(self) -> Passing:
        error = Passing("in passing")
        self._made.append(weakref.ref(error))
        return error

    def wait_until_gone(self) -> None:
        wait_until(lambda: all(made() is None for made in self._made), seconds=120, what="the errors to go", every=0.05)


@contextmanager
def no_collection() -> Iterator[None]:
    """What nothing refers to goes; cycles stay."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
