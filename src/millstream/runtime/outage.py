"""What a worker does while a schema registry, or brokers, do not answer: the same in every worker.

It tries again within `OUTAGE_SECONDS`; meanwhile its health says what is silent, and its lag and its signs of life go
on. When the bound is reached it raises, and its process ends with exit code 1: whoever watches it starts it again, and
a start waits for the same answer.
"""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from millstream.errors import KafkaFault, RegistryUnavailable, Unavailable
from millstream.kafka.port import Consumer
from millstream.runtime.calling import Stopping
from millstream.telemetry import Health, get_logger, metrics
from millstream.timeouts import OUTAGE_PAUSES, OUTAGE_SECONDS, PROBE_SECONDS

T = TypeVar("T")

log = get_logger(__name__)

REGISTRY, BROKERS = "registry", "brokers"


class Outage:
    """The outages of one worker. Used by its thread alone.

    - `health`: where they show; None where nobody asks.
    - `meanwhile`: called between two tries, such as to show the lag.
    """

    def __init__(self, worker: str, health: Health | None, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._worker = worker
        self._health = health
        self._meanwhile = meanwhile
        self._lost_at: float | None = None
        self._probe_at = 0.0
        self._shown: set[str] = set()

    def wait_out(self, step: Callable[[], T], stop: Event, before_wait: Callable[[], object] = lambda: None) -> T:
        """What `step` answers, once it does.

        - `before_wait`: called before each wait, such as to commit what earlier events did.

        Raises the last `RegistryUnavailable` or `Unavailable` when `OUTAGE_SECONDS` have passed, and `Stopping` when
        the worker is told to stop.
        """
        began: float | None = None
        pause, longest = OUTAGE_PAUSES
        while True:
            try:
                answer = step()
            except (RegistryUnavailable, Unavailable) as error:
                now = time.monotonic()
                began = now if began is None else began
                of = REGISTRY if isinstance(error, RegistryUnavailable) else BROKERS
                self._show(of, error, now - began)
                if now - began >= OUTAGE_SECONDS:
                    raise
                before_wait()
            else:
                if began is not None:
                    self._over()
                return answer
            self._meanwhile()
            if stop.wait(pause):
                raise Stopping
            pause = min(longest, 2 * pause)

    def heard(self, fault: KafkaFault) -> None:
        """For `Kafka.consumer(on_error=...)`: a connection broke. Whether brokers answer, `probe` finds out."""
        if isinstance(fault, Unavailable) and self._lost_at is None:
            self._lost_at = time.monotonic()
            self._probe_at = self._lost_at + PROBE_SECONDS

    def probe(self, consumer: Consumer, topic: str) -> None:
        """Called in each turn of the loop: after a broken connection, asks now and then whether brokers answer.

        A consumer that has nothing to read does not notice that nobody could bring it anything.
        """
        if self._lost_at is None or (now := time.monotonic()) < self._probe_at:
            return
        try:
            consumer.committed([(topic, 0)], timeout=1.0)
        except Unavailable as error:
            self._show(BROKERS, error, now - self._lost_at)
            self._probe_at = time.monotonic() + PROBE_SECONDS
        else:
            self._lost_at = None
            self._over()

    def _show(self, of: str, error: Exception, seconds: float) -> None:
        log.warning(
            "registry_unavailable" if of == REGISTRY else "brokers_unavailable",
            worker=self._worker,
            seconds=round(seconds),
            error=str(error),
        )
        metrics.OUTAGE.labels(self._worker, of).set(1)
        self._shown.add(of)
        if self._health is not None:
            self._health.report(f"{self._worker}.{of}", f"no answer for {seconds:.0f} s: {error}")

    def _over(self) -> None:
        for of in self._shown:
            log.info("answers_again", worker=self._worker, of=of)
            metrics.OUTAGE.labels(self._worker, of).set(0)
            if self._health is not None:
                self._health.report(f"{self._worker}.{of}", None)
        self._shown.clear()
