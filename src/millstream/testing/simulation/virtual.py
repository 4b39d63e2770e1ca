"""Time and chance as code within a world meets them: `time`, `random` and `os.urandom` answer from the world.

What a service does with time and chance it does through these modules, so nothing in it has to know of the simulation.
Only the world's own threads are meant; all others keep the real ones.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

_inside = threading.local()


class TimeAndChance(Protocol):
    """What a world has of both. Times are microseconds."""

    random: random.Random

    @property
    def now(self) -> int: ...
    @property
    def wall_clock(self) -> int: ...
    def sleep(self, seconds: float) -> None: ...


@contextmanager
def inside() -> Iterator[None]:
    """This thread is within the world."""
    before = getattr(_inside, "here", False)
    _inside.here = True
    try:
        yield
    finally:
        _inside.here = before


@contextmanager
def virtual(world: TimeAndChance) -> Iterator[None]:
    """While this is open, threads that are `inside` have the time and the chance of `world`. One world at a time."""
    replaced: dict[tuple[Any, str], Callable[..., Any]] = {
        (time, "monotonic"): lambda: world.now / 1_000_000,
        (time, "perf_counter"): lambda: world.now / 1_000_000,
        (time, "monotonic_ns"): lambda: world.now * 1_000,
        (time, "perf_counter_ns"): lambda: world.now * 1_000,
        (time, "time"): lambda: world.wall_clock / 1_000_000,
        (time, "time_ns"): lambda: world.wall_clock * 1_000,
        (time, "sleep"): world.sleep,
        # uuid4 and secrets draw from here.
        (os, "urandom"): world.random.randbytes,
        (random, "random"): world.random.random,
        (random, "uniform"): world.random.uniform,
        (random, "randrange"): world.random.randrange,
        (random, "randint"): world.random.randint,
        (random, "choice"): world.random.choice,
    }
    real = {place: getattr(*place) for place in replaced}
    for place, ours in replaced.items():
        setattr(*place, _either(ours, real[place]))
    try:
        yield
    finally:
        for place, theirs in real.items():
            setattr(*place, theirs)


def _either(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*arguments: Any) -> Any:
        return (ours if getattr(_inside, "here", False) else theirs)(*arguments)

    return answer
