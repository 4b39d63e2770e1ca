"""A cluster takes a moment to agree on who leads a partition that is new, or has lost its leader."""

import time
from collections.abc import Callable
from typing import TypeVar

from millstream.errors import Unavailable

T = TypeVar("T")

PAUSE = 0.05
SHORTEST = 0.1
"""Seconds below which a question is not worth asking."""


def once_settled(ask: Callable[[float], T], timeout: float) -> T:
    """What `ask` answers, given the seconds that are left; asked again while it raises `Unavailable`.

    Raises the last `Unavailable` when `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout
    left = timeout
    while True:
        try:
            return ask(left)
        except Unavailable:
            left = deadline - time.monotonic() - PAUSE
            if left < SHORTEST:
                raise
            time.sleep(PAUSE)
