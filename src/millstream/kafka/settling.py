"""A cluster takes a moment to agree on which topics there are, and on who leads a partition that is new or has lost
its leader."""

import time
from collections.abc import Callable
from typing import TypeVar

from millstream.errors import TopicMissing, Unavailable

T = TypeVar("T")

PAUSE = 0.05
TOLD_WITHIN = 2.0
"""Seconds after which a topic that one broker has made and another does not know is missing indeed."""
SHORTEST = 0.1
"""Seconds below which a question is not worth asking."""


def once_settled(ask: Callable[[float], T], timeout: float) -> T:
    """What `ask` answers, given the seconds that are left; asked again while it raises `Unavailable`, and for two
    seconds while it raises `TopicMissing`.

    Raises the last of these when `timeout` seconds have passed.
    """
    began = time.monotonic()
    left = timeout
    while True:
        try:
            return ask(left)
        except (TopicMissing, Unavailable) as error:
            patience = min(timeout, TOLD_WITHIN) if isinstance(error, TopicMissing) else timeout
            left = began + timeout - time.monotonic() - PAUSE
            if left < SHORTEST or time.monotonic() - began > patience:
                raise
            time.sleep(PAUSE)
