"""Effects of which nothing succeeds: reports of them, and renewal of their resources."""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from millstream.declare import Handler
from millstream.errors import Rejected
from millstream.runtime.effect.attempts import AttemptFailed
from millstream.runtime.effect.resources import Resources
from millstream.telemetry import Health, get_logger, metrics

log = get_logger(__name__)

FAILING_SECONDS = 30.0
"""Seconds without a success after which an effect fails as a whole."""
FAILING_ATTEMPTS = 3
"""Fewer failures than this say nothing."""
REMEMBERED_SECONDS = 60.0
"""Seconds that the last failure counts after the next attempt was due and did not come."""
LONGEST_BETWEEN_RENEWALS = 300.0


@dataclass(slots=True)
class _Failures:
    """Failures of one handler since its last success.

    - `since`: when the first of them began, by the monotonic clock; `last`: when the last one ended.
    - `until`: when they are forgotten, if no attempt comes.
    """

    count: int = 0
    since: float = 0.0
    last: float = 0.0
    until: float = 0.0
    error: str = ""
    reported: bool = False

    def seconds(self, now: float) -> float:
        failing = self.count >= FAILING_ATTEMPTS and self.last - self.since >= FAILING_SECONDS and now <= self.until
        return now - self.since if failing else 0.0


class EffectHealth:
    """Knows which effects succeed. On the worker's event loop; `report` is to be called about twice a second.

    An effect fails as a whole where nothing has succeeded for `FAILING_SECONDS`: that shows in health, metric and log,
    and the resources of its handler are renewed, for a client may not recover although the other side is well.
    A `Rejected` is no failure, it is the handler's own judgement.
    """

    def __init__(
        self, service: str, worker: str, handlers: tuple[Handler, ...], resources: Resources, health: Health | None
    ) -> None:
        self._service = service
        self._worker = worker
        self._resources = resources
        self._health = health
        self._failures = {handler.name: _Failures() for handler in handlers}
        self._gauges = {
            handler.name: metrics.EFFECT_FAILING_SECONDS.labels(service, handler.name) for handler in handlers
        }
        self._renewals: dict[type, tuple[float, float]] = {}
        """By resource that was renewed: when it may be next, and the seconds between the last two times."""
        self._renewing: set[asyncio.Task[None]] = set()

    def succeeded(self, handler: str) -> None:
        """A call has succeeded."""
        if self._failures[handler].count:
            self._forget(handler, recovered=True)
            for wanted in self._resources.needed_by(handler):
                self._renewals.pop(wanted, None)

    def failed(self, handler: Handler, failure: AttemptFailed, *, again_in: float) -> None:
        """An attempt has failed; the next one comes in `again_in` seconds, if any."""
        if isinstance(failure.error, Rejected):
            return
        now, failures = time.monotonic(), self._failures[handler.name]
        failures.count += 1
        failures.since = failures.since or now - failure.seconds
        failures.last = now
        within = timedelta(seconds=again_in) + handler.timeout
        failures.until = max(failures.until, now + within.total_seconds() + REMEMBERED_SECONDS)
        failures.error = type(failure.error).__name__

    def report(self) -> None:
        """Report the present state to health, metrics and the log."""
        now = time.monotonic()
        for handler, failures in self._failures.items():
            seconds = failures.seconds(now)
            self._gauges[handler].set(seconds)
            if seconds:
                self._report_failing(handler, failures, seconds)
                self._renew(handler, now)
            elif failures.count and now > failures.until:
                self._forget(handler, recovered=False)

    async def close(self) -> None:
        """Cancel renewals under way."""
        for task in self._renewing:
            task.cancel()
        if self._renewing:
            await asyncio.wait(self._renewing)

    def _report_failing(self, handler: str, failures: _Failures, seconds: float) -> None:
        if self._health is not None:
            self._health.report(
                f"{self._worker}.{handler}",
                f"nothing has succeeded for {seconds:.0f} s: {failures.count} attempts failed, the last with "
                f"{failures.error}; look at what it calls",
            )
        if not failures.reported:
            failures.reported = True
            log.error(
                "effect failing",
                code="effect_failing",
                service=self._service,
                handler=handler,
                seconds=round(seconds),
                attempts=failures.count,
                error=failures.error,
                detail="nothing of this effect succeeds: look at what it calls; its events wait or become dead letters",
            )

    def _forget(self, handler: str, *, recovered: bool) -> None:
        if self._failures[handler].reported:
            if recovered:
                log.info("effect recovered", code="effect_recovered", service=self._service, handler=handler)
            else:
                log.info("effect quiet", code="effect_quiet", service=self._service, handler=handler)
        if self._health is not None:
            self._health.forget(f"{self._worker}.{handler}")
        self._gauges[handler].set(0)
        self._failures[handler] = _Failures()

    def _renew(self, handler: str, now: float) -> None:
        for wanted in self._resources.needed_by(handler):
            due, between = self._renewals.get(wanted, (now, FAILING_SECONDS / 2))
            if now < due:
                continue
            between = min(LONGEST_BETWEEN_RENEWALS, 2 * between)
            self._renewals[wanted] = (now + between, between)
            task = asyncio.create_task(self._resources.renew(wanted))
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)
