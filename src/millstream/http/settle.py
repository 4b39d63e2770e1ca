"""From a worker's thread back to the event loops where requests wait."""

import asyncio
from collections.abc import Iterable
from copy import copy
from typing import TypeVar

T = TypeVar("T")


def settle(outcomes: Iterable[tuple["asyncio.Future[T]", T | Exception]]) -> None:
    """Gives each future its result or error, with one hop to an event loop for all that wait there.

    From any thread. A future whose request was cancelled, or whose loop has ended, is left alone.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[T], T | Exception]]] = {}
    for future, outcome in outcomes:
        by_loop.setdefault(future.get_loop(), []).append((future, outcome))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_deliver, settled)
        except RuntimeError:  # the loop is closed, and no request waits
            continue


def _deliver(settled: Iterable[tuple["asyncio.Future[T]", T | Exception]]) -> None:
    for future, outcome in settled:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(_own(outcome))
        else:
            future.set_result(outcome)


def _own(error: Exception) -> Exception:
    """An error for one request: a shared one would collect the tracebacks of all."""
    try:
        return copy(error)
    except Exception:  # it is made of other things than its arguments; an answer without a copy is better than none
        return error
