"""The watch over a tool that goes on until it is stopped, such as `millstream dlq serve`: as over a service."""

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from millstream.operate.run import STDERR, Exit, WatchedStop, hung_seconds
from millstream.settings import Settings
from millstream.telemetry import Health, ObservabilityServer, Watchdog, configure_logs, get_logger, watched
from millstream.timeouts import LOOK_SECONDS

log = get_logger(__name__)


@contextmanager
def watched_tool(name: str, settings: Settings, health: Health) -> Iterator[threading.Event]:
    """Answer `/health` and `/metrics` at MILLSTREAM_HTTP, and watch this thread, until the block is left.

    Yields the event that SIGTERM and SIGINT set. The loop in the block has to look at it at every turn: each look is a
    sign of life. Without one for five minutes, or when a call into librdkafka does not return, the process ends with
    `Exit.HUNG`; when the server of `/health` ends, with `Exit.FAILED`.

    Raises `ConfigurationError` where the address is taken.
    """
    configure_logs(name, settings.slot, format=settings.log)
    stop, left = threading.Event(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = ObservabilityServer(settings.listen, health)
    hung = hung_seconds(settings)
    looks = (Watchdog(health, hung=hung), server.thread, left, hung + 10 * LOOK_SECONDS)
    watchdog = threading.Thread(target=_look, args=looks, name="watchdog", daemon=True)
    try:
        with watched(name):
            watchdog.start()
            yield WatchedStop(stop)
    finally:
        left.set()
        watchdog.join()
        faulthandler.cancel_dump_traceback_later()
        server.close()


def _look(watchdog: Watchdog, server: threading.Thread, left: threading.Event, stands_still: float) -> None:
    try:
        while not left.wait(LOOK_SECONDS):
            if (hang := watchdog.look()) is not None:
                log.error(
                    "worker hung", code="worker_hung", worker=hang.what, seconds=round(hang.seconds), where=hang.where
                )
                _end(Exit.HUNG)
            if not server.is_alive():
                log.error("thread ended", code="thread_ended", thread=server.name)
                _end(Exit.FAILED)
            # Native code that keeps the interpreter for itself silences this thread, too: only this ends it then.
            faulthandler.dump_traceback_later(stands_still, exit=True, file=STDERR)
    except BaseException as error:
        log.error("thread failed", code="thread_failed", thread="watchdog", error=str(error), exc_info=error)
        _end(Exit.FAILED)


def _end(how: Exit) -> NoReturn:
    """End the process here: the thread that hangs would keep it, and all that matters is in transactions."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(how)
