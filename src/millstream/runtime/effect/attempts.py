"""One attempt of an effect: its call on a task of its own, within the handler's time-out."""

import asyncio
from collections.abc import Mapping
from typing import Any

from millstream.contracts.ids import derived_id
from millstream.declare import Call, Handler
from millstream.runtime.effect.in_flight import InFlight
from millstream.runtime.effect.resources import Resources
from millstream.runtime.process_pauses import ProcessPauses
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.outbound import Outbound
from millstream.runtime.task.invoke import HandlerContext, declared_identities, invoker
from millstream.telemetry import get_logger, metrics
from millstream.timeouts import OBEY_TIMEOUT

log = get_logger(__name__)


class AttemptFailed(Exception):
    """An attempt has failed.

    - `error`: what the handler raised. It may be no `Exception`: a `SystemExit`, or an `asyncio.CancelledError` that is
      the handler's own and not the worker's.
    - `seconds`: how long it took, without pauses.
    - `paused`: whether the process was stopped meanwhile, so that it may be the pause's failure.
    """

    def __init__(self, error: BaseException, seconds: float, paused: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.seconds = seconds
        self.paused = paused


class Attempts:
    """Makes attempts. On the worker's event loop."""

    def __init__(
        self,
        service: str,
        handlers: tuple[Handler, ...],
        outbound: Outbound,
        resources: Resources,
        pauses: ProcessPauses,
    ) -> None:
        self._service = service
        self._outbound = outbound
        self._resources = resources
        self._pauses = pauses
        self._invokers = {handler.name: invoker(handler) for handler in handlers}
        self._identities = {
            contract: identify for handler in handlers for contract, identify in declared_identities(handler).items()
        }
        self._seconds = {handler.name: metrics.HANDLER_SECONDS.labels(service, handler.name) for handler in handlers}

    async def make(self, handler: Handler, item: InFlight, meta: EventMetadata) -> list[Record]:
        """Return the records of its outputs.

        Raises `AttemptFailed`, and `asyncio.CancelledError` at the worker's own end.
        """
        identify = self._identities.get(type(item.event))
        if identify is not None:
            meta.declared = meta.identity = identify(item.event)
        call = Call(
            key=call_key(meta.identity, self._service, handler.name),
            attempt=item.attempts,
            timeout=handler.timeout.total_seconds(),
            envelope=meta.envelope(),
        )
        began, pauses = self._pauses.awake(), self._pauses.count
        with self._resources.lend(handler) as resources:
            records, error = await self._within(handler, item.event, meta, call, resources)
        seconds = self._pauses.awake() - began
        self._seconds[handler.name].observe_many(seconds, 1)
        if error is not None:
            raise AttemptFailed(error, seconds, self._pauses.count > pauses) from error
        return records

    async def _within(
        self, handler: Handler, event: Any, meta: EventMetadata, call: Call, resources: Mapping[type, Any]
    ) -> tuple[list[Record], BaseException | None]:
        # A task of its own: whatever the call does to its task, this one is cancelled by the worker alone.
        task = asyncio.create_task(
            self._contained(handler, event, meta, HandlerContext(call=call, resources=resources))
        )
        deadline = self._pauses.awake() + call.timeout
        try:
            while not task.done() and (left := deadline - self._pauses.awake()) > 0:
                await asyncio.wait((task,), timeout=left)
            late = not task.done()
            if late:
                await self._cancel(task, handler)
        except asyncio.CancelledError:
            await self._cancel(task, handler)
            records, error = _outcome(task)
            if error is None:
                return records, None
            raise
        records, error = _outcome(task)
        if late and isinstance(error, asyncio.CancelledError):
            error = TimeoutError(f"{handler.name} took longer than its time-out of {call.timeout:g} s")
        return records, error

    async def _contained(
        self, handler: Handler, event: Any, meta: EventMetadata, context: HandlerContext
    ) -> tuple[list[Record], BaseException | None]:
        """Return the records of a call, or its error. A `SystemExit` would end the event loop if it left its task."""
        try:
            outputs = await self._invokers[handler.name](event, meta, context)
            return self._outbound.records(handler.name, meta, outputs), None
        except GeneratorExit:
            raise
        except BaseException as error:
            return [], error

    async def _cancel(self, task: "asyncio.Task[Any]", handler: Handler) -> None:
        """Cancel it, and wait until it has ended."""
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=OBEY_TIMEOUT)
        if not done:
            log.warning(
                "effect ignores cancellation",
                code="effect_ignores_cancellation",
                service=self._service,
                handler=handler.name,
                detail="its key waits until the call returns; let the handler pass on asyncio.CancelledError",
            )
            await asyncio.wait((task,))


def call_key(event_id: str, service: str, handler: str) -> str:
    """The idempotency key of what `handler` does for an event: the same for every attempt, also after a crash.

    >>> call_key("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "payment", "charge")
    'c5fc15a5-073a-528e-befc-9795e20a21a7'
    """
    return derived_id(event_id, f"{service}.{handler}.call", 0)


def _outcome(
    task: "asyncio.Task[tuple[list[Record], BaseException | None]]",
) -> tuple[list[Record], BaseException | None]:
    # One that was cancelled before its first step never ran.
    return ([], asyncio.CancelledError()) if task.cancelled() else task.result()
