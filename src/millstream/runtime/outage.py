"""Outages of the schema registry or of brokers, which all workers wait out in the same way.

A worker tries again within `OUTAGE_SECONDS`; meanwhile its health says what is silent, and its lag and its signs of
life go on. When the bound is reached it raises, and its process ends with exit code 1: its supervisor starts it again,
and a start waits for the same answer.

It does not poll while it waits: what it waits with is in the midst of being handled. So that its group does not put it
out meanwhile, the bound is reached earlier where `max.poll.interval.ms` is short.
"""

import time
from collections.abc import Callable
from threading import Event
from typing import Any, TypeVar

from millstream.errors import KafkaFault, MillstreamError, RegistryUnavailable, Unavailable
from millstream.kafka.port import Consumer
from millstream.runtime.worker import Stopping
from millstream.settings import Settings
from millstream.telemetry import Health, get_logger, metrics
from millstream.timeouts import (
    LEAST_POLL_SHARE,
    OUTAGE_PAUSES,
    OUTAGE_SECONDS,
    POLL_SHARE,
    PROBE_SECONDS,
    PROBE_TIMEOUT,
)

T = TypeVar("T")

log = get_logger(__name__)

REGISTRY, BROKERS = "registry", "brokers"


class OutageReporter:
    """Reports to health, metric and log that the registry or brokers do not answer.

    Used by its worker's thread alone.
    """

    def __init__(self, worker: str, health: Health | None) -> None:
        self._worker = worker
        self._health = health
        self._shown: set[str] = set()

    def show(self, of: str, error: Exception, seconds: float) -> None:
        """Report that there has been no answer for `seconds`."""
        if of == REGISTRY:
            log.warning("the registry does not answer", code="registry_unavailable", **self._fields(error, seconds))
        else:
            log.warning("no broker answers", code="brokers_unavailable", **self._fields(error, seconds))
        metrics.OUTAGE.labels(self._worker, of).set(1)
        self._shown.add(of)
        if self._health is not None:
            code = error.code if isinstance(error, MillstreamError) else None
            self._health.report(f"{self._worker}.{of}", f"no answer for {seconds:.0f} s: {error}", code=code)

    def _fields(self, error: Exception, seconds: float) -> dict[str, Any]:
        return {"worker": self._worker, "seconds": round(seconds), "error": str(error)}

    def over(self) -> None:
        """Report that all answer again."""
        for of in self._shown:
            log.info("answers again", code="answers_again", worker=self._worker, of=of)
            metrics.OUTAGE.labels(self._worker, of).set(0)
            if self._health is not None:
                self._health.report(f"{self._worker}.{of}", None)
        self._shown.clear()


class Outage:
    """The outages of one worker. Used by its thread alone.

    - `health`: where they show, if anywhere.
    - `meanwhile`: called between two tries, such as to show the lag.
    """

    def __init__(
        self, worker: str, settings: Settings, health: Health | None, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        self.stop = Event()
        """Set when the worker is to stop: the event that its `run` was given."""
        self._worker = worker
        self._poll_interval = settings.poll_interval_ms / 1000
        self._reporter = OutageReporter(worker, health)
        self._meanwhile = meanwhile
        self._polled_at: float | None = None
        """None before the first poll: the group counts from there on."""
        self._lost_at: float | None = None
        self._probe_at = 0.0

    def wait_out(self, step: Callable[[], T], before_wait: Callable[[], object] = lambda: None) -> T:
        """Return what `step` returns, once it does.

        - `before_wait`: called before each wait, such as to commit what earlier events did.

        Raises the last `RegistryUnavailable` or `Unavailable` when `OUTAGE_SECONDS` have passed, earlier with a short
        `max.poll.interval.ms`, and `Stopping` when the worker is stopped.
        """
        began: float | None = None
        until = 0.0
        pause = OUTAGE_PAUSES.first
        while True:
            try:
                answer = step()
            except (RegistryUnavailable, Unavailable) as error:
                now = time.monotonic()
                if began is None:
                    began, until = now, self._bound(now)
                of = REGISTRY if isinstance(error, RegistryUnavailable) else BROKERS
                self._reporter.show(of, error, now - began)
                if now >= until:
                    self._log_end(of, now - began)
                    raise
                before_wait()
            else:
                if began is not None:
                    self._reporter.over()
                return answer
            self._meanwhile()
            if self.stop.wait(max(0.0, min(pause, until - time.monotonic()))):
                raise Stopping
            pause = OUTAGE_PAUSES.after(pause)

    def _bound(self, now: float) -> float:
        """Return until when a wait that begins now may go on."""
        if self._polled_at is None:
            return now + OUTAGE_SECONDS
        polls = max(self._polled_at + POLL_SHARE * self._poll_interval, now + LEAST_POLL_SHARE * self._poll_interval)
        return min(now + OUTAGE_SECONDS, polls)

    def _log_end(self, of: str, seconds: float) -> None:
        early = seconds < OUTAGE_SECONDS
        log.error(
            "outage too long",
            code="outage_too_long",
            worker=self._worker,
            of=of,
            seconds=round(seconds, 1),
            remedy=f"max.poll.interval.ms is {self._poll_interval * 1000:.0f}, and bounds the wait: raise it in "
            f"MILLSTREAM_KAFKA to wait for up to {OUTAGE_SECONDS:g} s"
            if early
            else f"bring the {of} back: a process that is started again waits for it",
        )

    def heard(self, fault: KafkaFault) -> None:
        """Note that a connection broke; `probe` finds out whether brokers answer.

        For `Kafka.consumer(on_error=...)`.
        """
        if isinstance(fault, Unavailable) and self._lost_at is None:
            self._lost_at = time.monotonic()
            self._probe_at = self._lost_at + PROBE_SECONDS

    def probe(self, consumer: Consumer, topic: str) -> None:
        """Called in each turn of the loop, before it polls: after a broken connection, asks now and then whether
        brokers answer.

        A consumer that has nothing to read does not notice that no broker answers.
        """
        self._polled_at = now = time.monotonic()
        if self._lost_at is None or now < self._probe_at:
            return
        try:
            consumer.committed([(topic, 0)], timeout=PROBE_TIMEOUT)
        except Unavailable as error:
            self._reporter.show(BROKERS, error, now - self._lost_at)
            self._probe_at = time.monotonic() + PROBE_SECONDS
        else:
            self._lost_at = None
            self._reporter.over()
