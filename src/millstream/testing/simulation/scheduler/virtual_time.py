"""Time and chance for code within a world: `time`, `random` and `os.urandom` answer from the world.

What a service does with time and chance it does through these modules, so nothing in it has to know of the simulation.
`threads` adds what it does with threads and event loops. Only the world's own threads are concerned; all others keep
the real modules.
"""

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol
from uuid import UUID

from millstream.contracts import ids

_inside = threading.local()


class TimeAndChance(Protocol):
    """A world's time, in microseconds, and its random numbers."""

    random: random.Random

    @property
    def now(self) -> int: ...
    @property
    def wall_clock(self) -> int: ...
    def sleep(self, seconds: float) -> None: ...


@contextmanager
def inside() -> Iterator[None]:
    """Let this thread be within the world."""
    before = getattr(_inside, "here", False)
    _inside.here = True
    try:
        yield
    finally:
        _inside.here = before


@contextmanager
def outside() -> Iterator[None]:
    """Let this thread be outside the world for a moment."""
    before = getattr(_inside, "here", False)
    _inside.here = False
    try:
        yield
    finally:
        _inside.here = before


@contextmanager
def virtual(world: TimeAndChance, more: Mapping[tuple[Any, str], Callable[..., Any]]) -> Iterator[None]:
    """Give threads that are `inside` the time and the chance of `world` while this is open. One world at a time.

    - `more`: what else is replaced for them, by owner and name of the attribute.
    """
    uuids = _uuids(world)
    replaced: dict[tuple[Any, str], Callable[..., Any]] = {
        (time, "monotonic"): lambda: world.now / 1_000_000,
        (time, "perf_counter"): lambda: world.now / 1_000_000,
        (time, "monotonic_ns"): lambda: world.now * 1_000,
        (time, "perf_counter_ns"): lambda: world.now * 1_000,
        (queue, "time"): lambda: world.now / 1_000_000,
        (threading, "_time"): lambda: world.now / 1_000_000,
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
        (ids, "_uuid7"): lambda: uuids,
        **more,
    }
    real = {place: getattr(*place) for place in replaced}
    for place, ours in replaced.items():
        setattr(*place, _either(ours, real[place]))
    try:
        yield
    finally:
        for place, theirs in real.items():
            setattr(*place, theirs)


def _uuids(world: TimeAndChance) -> Callable[[], UUID]:
    """Return what makes UUIDs of version 7 from the time and the chance of `world`."""

    def uuid7() -> UUID:
        milliseconds, chance = world.wall_clock // 1_000, world.random.getrandbits(76)
        return UUID(int=milliseconds << 80 | 7 << 76 | chance >> 64 << 64 | 2 << 62 | chance & (1 << 62) - 1)

    return uuid7


def _either(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    def answer(*arguments: Any) -> Any:
        return (ours if getattr(_inside, "here", False) else theirs)(*arguments)

    return answer
