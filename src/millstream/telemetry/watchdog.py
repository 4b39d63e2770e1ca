"""The watchdog: which loops have stopped turning, and which calls into librdkafka do not return.

Every worker's thread is watched while it runs: it beats once for each turn of its loop (`still_alive`), and names the
native calls of its transactions (`native_call`). librdkafka can hang in `send_offsets_to_transaction` past the time-out
that it was given (its issues 5456 and 5511); a handler can, too. Nothing else in the process would notice.
"""

import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

from millstream.telemetry import metrics
from millstream.telemetry.health import Health
from millstream.telemetry.logs import get_logger
from millstream.telemetry.signs_of_life import Watched, calls, threads
from millstream.timeouts import (
    HUNG_SECONDS,
    LOOK_SECONDS,
    NATIVE_GRACE_SECONDS,
    NATIVE_HUNG_SECONDS,
    SILENT_SECONDS,
)

log = get_logger(__name__)

_STANDARD = (f"{sysconfig.get_path('stdlib')}/", "<frozen")
_INSTALLED = f"{sysconfig.get_path('purelib')}/"
_FRAMES = 12
"""Innermost frames of a silent thread that are logged."""


class Hang(NamedTuple):
    """Something that has been silent past all bounds: `what` it is, and where it stands."""

    what: str
    seconds: float
    where: str


class Watchdog:
    """Looks at all watched threads and calls of this process; `look` is called every `LOOK_SECONDS`.

    Silence is counted in looks, so that a process that was stopped and goes on is not taken for one that hangs.

    - `silent`, `hung`: seconds without a sign of life until health, log and metric tell, and until `look` says that the
      process has to end. For native calls `native_silent` and `native_hung`, after their own time-outs.
    """

    def __init__(
        self,
        health: Health,
        *,
        silent: float = SILENT_SECONDS,
        hung: float = HUNG_SECONDS,
        native_silent: float = NATIVE_GRACE_SECONDS,
        native_hung: float = NATIVE_HUNG_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._bounds = (silent, hung)
        self._native_bounds = (native_silent, native_hung)
        self._clock = clock
        self._looked = clock()
        self._reported: set[str] = set()

    def look(self) -> Hang | None:
        """Takes note of what is silent; returns what has been so for too long, if anything has."""
        now = self._clock()
        passed, self._looked = min(now - self._looked, 2 * LOOK_SECONDS), now
        hang: Hang | None = None
        reported: set[str] = set()
        for all_of, (silent, hung) in ((threads, self._bounds), (calls, self._native_bounds)):
            for watched in list(all_of.values()):
                self._count(watched, passed)
                if not watched.call:
                    metrics.SILENT_SECONDS.labels(watched.name).set(watched.silent)
                if watched.silent > watched.limit + silent:
                    self._tell(watched)
                    reported.add(str(watched))
                elif not watched.call:
                    self._health.report(str(watched), None)
                if hang is None and watched.silent > watched.limit + hung:
                    hang = Hang(str(watched), watched.silent, where_is(watched.ident))
        for gone in self._reported - reported:
            log.info("worker turns again", code="worker_turns_again", worker=gone)
            self._health.report(gone, None)
        self._reported = reported
        return hang

    @staticmethod
    def _count(watched: Watched, passed: float) -> None:
        turns = watched.turns
        if turns != watched.seen:
            watched.seen, watched.silent, watched.reported = turns, 0.0, False
        else:
            watched.silent += passed

    def _tell(self, watched: Watched) -> None:
        detail = f"no sign of life for {watched.silent:.0f} s"
        self._health.report(str(watched), detail)
        metrics.SILENT_SECONDS.labels(watched.name).set(watched.silent)
        if not watched.reported:
            watched.reported = True
            log.error(
                "worker silent",
                code="worker_silent",
                worker=watched.name,
                call=watched.call or None,
                seconds=round(watched.silent),
                where=where_is(watched.ident),
                stack=stack_of(watched.ident),
            )


def where_is(ident: int) -> str:
    """The innermost line of a thread outside the standard library, such as `transactions.py:107 in send_offsets`."""
    frame = innermost = sys._current_frames().get(ident)
    while frame is not None and _is_standard(frame.f_code.co_filename):
        frame = frame.f_back
    if (frame := frame or innermost) is None:
        return "its thread has ended"
    file = frame.f_code.co_filename.rpartition("/")[2]
    return f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_standard(file: str) -> bool:
    return file.startswith(_STANDARD) and not file.startswith(_INSTALLED)


def stack_of(ident: int) -> str:
    """The innermost frames of a thread, as a traceback shows them."""
    frame = sys._current_frames().get(ident)
    return "" if frame is None else "".join(traceback.format_stack(frame, limit=_FRAMES))
