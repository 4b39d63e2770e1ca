"""Threads and event loops as code within a world meets them: they run one at a time, and wait in virtual time.

Python builds nearly all waiting on two things: `threading.Condition`, under events, queues, semaphores and futures, and
an event loop's selector. With those replaced, a service runs in a world as it is.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import thread as pool
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from millstream.testing.simulation.scheduler.incarnation import Crashed, SimulatedThread
from millstream.testing.simulation.scheduler.scheduler import FOREVER, Scheduler

_real_alive = threading.Thread.is_alive
_real_join = threading.Thread.join


class Threads:
    """The replacements of parts of `threading`, `queue` and `asyncio` in a world."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._threads: WeakKeyDictionary[threading.Thread, SimulatedThread] = WeakKeyDictionary()
        self.replaced: dict[tuple[Any, str], Callable[..., Any]] = {
            (threading.Condition, "wait"): self._wait,
            (threading.Thread, "start"): self._start,
            (threading.Thread, "join"): self._join,
            (threading.Thread, "is_alive"): self._is_alive,
            # The one in C waits by itself. This one, which Python has too, waits for a condition.
            (queue, "SimpleQueue"): queue._PySimpleQueue,  # type: ignore[attr-defined] # private, and in every version
            (asyncio.events, "new_event_loop"): lambda: Loop(scheduler),
        }

    @contextmanager
    def pools(self) -> Iterator[None]:
        """While this is open, threads of pools may die with their process."""
        log = logging.getLogger("concurrent.futures")
        # It is critical to a pool when one of its threads ends; that is what a crash is.
        log.addFilter(_is_no_crash)
        try:
            yield
        finally:
            log.removeFilter(_is_no_crash)
            for thread in list(self._threads):
                # Kept until the interpreter ends, and with its unfinished work the whole world.
                pool._threads_queues.pop(thread, None)  # type: ignore[attr-defined] # nothing public forgets

    def _wait(self, condition: Any, timeout: float | None = None) -> bool:
        """Wait as `threading.Condition.wait` does."""
        waiter = _Waiter(self._scheduler)
        condition._waiters.append(waiter)
        saved = condition._release_save()
        try:
            return self._scheduler.wait(waiter.is_woken, FOREVER if timeout is None else timeout)
        finally:
            condition._acquire_restore(saved)
            if not waiter.woken:
                condition._waiters.remove(waiter)

    def _start(self, thread: threading.Thread) -> None:
        self._threads[thread] = self._scheduler.start_thread(self._scheduler.incarnation, thread)

    def _join(self, thread: threading.Thread, timeout: float | None = None) -> None:
        simulated = self._threads.get(thread)
        if simulated is None:
            _real_join(thread, timeout)
        else:
            self._scheduler.wait(lambda: simulated.ended, FOREVER if timeout is None else timeout)

    def _is_alive(self, thread: threading.Thread) -> bool:
        simulated = self._threads.get(thread)
        return _real_alive(thread) if simulated is None else not simulated.ended


class _Waiter:
    """A waiter of a condition, where `threading` has a lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.woken = False
        self._scheduler, self._incarnation = scheduler, scheduler.incarnation

    def is_woken(self) -> bool:
        return self.woken

    def release(self) -> None:
        self.woken = True
        self._scheduler.mark_changed(self._incarnation)


class Loop(asyncio.BaseEventLoop):
    """An event loop without input and output. It waits for what is due or scheduled from other threads."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler, self._incarnation = scheduler, scheduler.incarnation
        self._selector = self

    def select(self, timeout: float | None) -> tuple[()]:
        """Wait until something is to be done."""
        if timeout is None or timeout > 0:
            ready = self._ready  # type: ignore[attr-defined] # of asyncio's own
            self._scheduler.wait(lambda: ready, FOREVER if timeout is None else timeout)
        return ()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error as asyncio does; a process that was killed logs nothing about what it left undone."""
        if not self._incarnation.dead:
            super().call_exception_handler(context)

    def _process_events(self, event_list: tuple[()]) -> None:
        """None come from outside."""

    def _write_to_self(self) -> None:
        self._scheduler.mark_changed(self._incarnation)


def _is_no_crash(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.exc_info[0] is not None and issubclass(record.exc_info[0], Crashed))
