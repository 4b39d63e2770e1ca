"""One process of a service, from its start to its end."""

import ctypes
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

from millstream.declare import Service, System
from millstream.errors import ConfigurationError, DeclarationError, IncompatibleSchema, MillstreamError, SlotTaken
from millstream.runtime.worker import ProcessEnds
from millstream.settings import Settings, load_settings, unknown_variables, without_credentials
from millstream.telemetry import (
    Health,
    ObservabilityServer,
    Watchdog,
    configure_logs,
    get_logger,
    start_tracing,
    still_alive,
    watched,
)
from millstream.telemetry.metrics import describe_build
from millstream.timeouts import HUNG_SECONDS, LATE_STOP_TIMEOUT, LOOK_SECONDS, WORKERS_STOP_TIMEOUT

if TYPE_CHECKING:
    from millstream.runtime.worker import Worker

STDERR = 2
WAITS_SECONDS = 3.0
"""Seconds after which a process that waits for brokers and registry says so."""
M_ARENA_MAX = -8
"""From malloc.h."""
MISCONFIGURATIONS = (ConfigurationError, DeclarationError, IncompatibleSchema)
"""Errors that a person has to mend, at the start and in a worker."""

T = TypeVar("T")

log = get_logger(__name__)


class Exit(IntEnum):
    """Exit codes of a process, for its supervisor."""

    STOPPED = 0
    """It was told to."""
    FAILED = 1
    """A worker could not go on. Start it again."""
    MISCONFIGURED = 2
    """Starting it again would not help."""
    SLOT_TAKEN = 3
    """Another process is this instance."""
    HUNG = 4
    """A worker showed no sign of life, or a native call did not return. Start it again."""


def run(system: System, name: str, settings: Settings | None = None) -> Exit:
    """Runs the service or sandbox process `name` until SIGTERM, SIGINT or a failure; its log says why it ended."""
    try:
        configure_logs(name)  # for what is wrong with the settings themselves
        settings = settings or load_settings()
        configure_logs(name, settings.slot, format=settings.log)
        for sentence in unknown_variables(os.environ):
            log.warning("unknown setting", code="unknown_setting", detail=sentence)
        if name in system.sandbox:
            system.main(name)(settings)
            return Exit.STOPPED
        return _run_service(system, name, settings)
    except MISCONFIGURATIONS as error:
        log.error("cannot start", code="cannot_start", error=str(error), error_code=error.code)
        return Exit.MISCONFIGURED
    except SlotTaken as error:
        log.error("cannot start", code="cannot_start", error=str(error), error_code=error.code)
        return Exit.SLOT_TAKEN
    except MillstreamError as error:
        log.error("cannot start", code="cannot_start", error=str(error), error_code=error.code)
        return Exit.FAILED
    except KeyboardInterrupt:
        return Exit.STOPPED
    except Exception as error:
        log.error("process failed", code="process_failed", error=str(error), exc_info=error)
        return Exit.FAILED


def _run_service(system: System, name: str, settings: Settings) -> Exit:
    from millstream.kafka import connect
    from millstream.kafka.librdkafka import Librdkafka
    from millstream.operate.assembly import assemble, prepare
    from millstream.operate.starting import begin
    from millstream.runtime.records.dead_letter_log import dead_letter_log
    from millstream.runtime.slots import Slot

    stop = threading.Event()
    give_back = _frugal_memory()
    # While it still waits for others, a signal simply interrupts it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    service = system.service(name)
    health = Health()
    health.report("start", "starting")
    describe_build(name, settings.slot)
    with Slot(name, settings), ExitStack() as until_the_end:
        alone = None
        if service.web is None:
            alone = until_the_end.enter_context(closing(ObservabilityServer(settings.listen, health)))
        tracer = start_tracing(name, settings.slot)
        kafka = connect(settings, f"{name}-{settings.slot}")
        contracts = _interruptible(lambda: prepare(service, settings, kafka), lambda: _waits(settings))
        members = Librdkafka(settings, f"{name}-{settings.slot}")
        _interruptible(lambda: members.wait_for_memberships(memberships_of(service, settings.slot)), lambda: None)
        others = [*system.names, *system.sandbox]
        _interruptible(lambda: begin(service, others, settings, kafka), lambda: _waits(settings))
        assembly = assemble(service, settings, contracts, kafka, health=health, tracer=tracer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        hung = hung_seconds(settings)
        crew = Crew(assembly.workers, assembly.late, stop, Watchdog(health, hung=hung))
        if alone is not None:
            crew.must_live(alone.thread)
        threading.excepthook = _thread_failed
        crew.start()
        # What is there now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        health.forget("start")
        log.info("running", code="service_running", url=assembly.url or (alone and alone.url), workers=crew.names)
        give_back()
        while not stop.wait(LOOK_SECONDS):
            # Memory that a burst of events needed; it takes a tenth of a millisecond.
            give_back()
            crew.look()
            # Native code that keeps the interpreter for itself silences this thread, too: only this ends it then.
            faulthandler.dump_traceback_later(hung + 10 * LOOK_SECONDS, exit=True, file=STDERR)
        ended = crew.finish()
        dead_letter_log.flush(now=True)
        tracer.close(timeout=1.0)
    faulthandler.cancel_dump_traceback_later()
    if not ended or _left_behind():
        # A thread that hangs in a library must not keep the process: all that matters is in transactions.
        log.warning(
            "some workers did not stop in time", code="workers_not_stopped", workers=crew.running or _left_behind()
        )
        sys.stderr.flush()
        os._exit(crew.exit)
    return crew.exit


def memberships_of(service: Service, slot: int) -> list[tuple[str, str]]:
    """The groups that this instance of a service is a member of, with the names that it has there."""
    groups = [service.group(kind) for kind in service.kinds()] + [one.group for one in service.background]
    return [(group, f"{group}-{slot}") for group in groups]


def hung_seconds(settings: Settings) -> float:
    """Seconds after which a worker whose loop does not turn is given up: not before its group does."""
    return max(HUNG_SECONDS, int(settings.kafka.get("max.poll.interval.ms", 0)) / 1000)


class WatchedStop(threading.Event):
    """The stop event that a worker is given: each look at it is a sign of life of the worker's thread."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._shared = stop

    def is_set(self) -> bool:
        still_alive()
        return self._shared.is_set()

    def set(self) -> None:
        self._shared.set()

    def wait(self, timeout: float | None = None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            still_alive()
            left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
            if self._shared.wait(max(0.0, left)):
                return True
            if deadline is not None and time.monotonic() >= deadline:
                still_alive()
                return False


class Crew:
    """Workers on their threads. When one fails, all stop.

    - `late`: those that stop after the others.
    - `stop`: set from outside, or by a failure.
    - `watchdog`: who notices that one hangs; `look` has to be called every `LOOK_SECONDS` then.
    """

    def __init__(
        self,
        workers: Sequence["Worker"],
        late: Sequence["Worker"],
        stop: threading.Event,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._failures: list[Exit] = []
        self._watchdog = watchdog
        self._helpers: list[threading.Thread] = []
        self._stop, self._stop_late = stop, threading.Event()
        self._early = [self._thread(worker, self._stop) for worker in workers]
        self._late = [self._thread(worker, self._stop_late) for worker in late]

    @property
    def exit(self) -> Exit:
        """The exit code, as the first failure says, for others may follow from it."""
        return self._failures[0] if self._failures else Exit.STOPPED

    @property
    def names(self) -> list[str]:
        """All workers."""
        return [thread.name for thread in (*self._early, *self._late)]

    @property
    def running(self) -> list[str]:
        """Those that have not ended."""
        return [thread.name for thread in (*self._early, *self._late) if thread.is_alive()]

    def start(self) -> None:
        """Lets them all run."""
        for thread in (*self._late, *self._early):
            thread.start()

    def must_live(self, helper: threading.Thread) -> None:
        """Lets the whole end when this thread does, too."""
        self._helpers.append(helper)

    def look(self) -> None:
        """Ends the whole where a worker hangs, or a helper has ended unasked."""
        if self._stop.is_set():
            return
        hang = None if self._watchdog is None else self._watchdog.look()
        if hang is not None:
            log.error(
                "worker hung", code="worker_hung", worker=hang.what, seconds=round(hang.seconds), where=hang.where
            )
            self._fail(Exit.HUNG)
        for helper in self._helpers:
            if not helper.is_alive():
                log.error("thread ended", code="thread_ended", thread=helper.name)
                self._fail(Exit.FAILED)

    def finish(self) -> bool:
        """Waits for the end of the workers, then of the late ones. False where some go on past the bound."""
        ended = _joined(self._early, WORKERS_STOP_TIMEOUT)
        self._stop_late.set()
        return _joined(self._late, LATE_STOP_TIMEOUT) and ended

    def _thread(self, worker: "Worker", stop: threading.Event) -> threading.Thread:
        return threading.Thread(target=self._work, args=(worker, stop), name=worker.name, daemon=True)

    def _work(self, worker: "Worker", stop: threading.Event) -> None:
        failure = Exit.FAILED
        try:
            with watched(worker.name):
                worker.run(WatchedStop(stop))
        except ProcessEnds:
            raise
        except BaseException as error:
            # Also what is no `Exception`, such as SystemExit: Python would let the thread end without a word.
            if isinstance(error, MISCONFIGURATIONS):
                failure = Exit.MISCONFIGURED
            elif isinstance(error, SlotTaken):
                failure = Exit.SLOT_TAKEN
            detail = {"error_code": error.code} if isinstance(error, MillstreamError) else {"exc_info": error}
            log.error(
                "worker failed",
                code="worker_failed",
                worker=worker.name,
                error=str(error) or type(error).__name__,
                **detail,
            )
        else:
            if stop.is_set():
                return
            log.error("worker ended without being told to", code="worker_ended", worker=worker.name)
        self._fail(failure)

    def _fail(self, how: Exit) -> None:
        self._failures.append(how)
        self._stop.set()


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    """Log an error that ends a thread which is no worker."""
    name = "" if failed.thread is None else failed.thread.name
    log.error(
        "thread failed", code="thread_failed", thread=name, error=str(failed.exc_value), exc_info=failed.exc_value
    )


def _left_behind() -> list[str]:
    """Threads that Python would wait for, such as one of a pool that hangs in a native call."""
    main = threading.main_thread()
    return [thread.name for thread in threading.enumerate() if thread is not main and not thread.daemon]


def _interruptible(step: Callable[[], T], waits: Callable[[], object]) -> T:
    """Run `step`. A signal interrupts the wait at once, though librdkafka may go on waiting in its thread.

    - `waits`: called once, where it takes longer than `WAITS_SECONDS`.
    """
    future: Future[T] = Future()

    def take() -> None:
        try:
            future.set_result(step())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=take, name="start", daemon=True).start()
    try:
        return future.result(WAITS_SECONDS)
    except TimeoutError:
        if future.done():
            raise  # its own
    waits()
    return future.result()


def _waits(settings: Settings) -> None:
    log.warning(
        "waiting for the cluster",
        code="waiting_for_the_cluster",
        brokers=settings.bootstrap_servers,
        registry=without_credentials(settings.registry_url),
        remedy="start them, or set MILLSTREAM_BOOTSTRAP_SERVERS and MILLSTREAM_REGISTRY_URL",
    )


def _frugal_memory() -> Callable[[], object]:
    """Lets threads share two heaps, and answers what gives back to the system that of them which is free.

    By default glibc gives each thread a heap of its own, and librdkafka has many threads that need next to none. It
    also keeps what it once had: a burst of large events would cost 10 MB from then on.
    """
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        return lambda: None  # another C library than glibc
    libc.mallopt(M_ARENA_MAX, 2)
    return lambda: libc.malloc_trim(0)


def _joined(threads: Sequence[threading.Thread], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
