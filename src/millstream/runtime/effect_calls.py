"""Outside calls side by side: one key in order, many keys at once. Everything here runs on the worker's event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from millstream.contracts.ids import derived_id
from millstream.declare import Call, Handler, OnFailure, Service
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.calling import Given, caller
from millstream.runtime.dead_letters import Record, dead_letter
from millstream.runtime.inbound import Meta
from millstream.runtime.outbound import Outbound
from millstream.runtime.watermark import Watermark
from millstream.telemetry import Span, Tracer


@dataclass(eq=False, slots=True)
class Partition:
    """A partition while it is ours. `received` belongs to the thread that polls, all else to the loop."""

    at: TopicPartition
    watermark: Watermark
    received: int = 0
    settled: int = 0
    """Of those received, how many are done and committed; what lies between is in hand."""
    closing: bool = False
    """No call begins any more."""
    gone: bool = False
    """Somebody else's: nothing of it is committed any more."""
    lanes: set["Lane"] = field(default_factory=set)

    @property
    def in_hand(self) -> int:
        """Events received and not settled. Any thread may ask."""
        return self.received - self.settled


@dataclass(eq=False, slots=True)
class Work:
    """One event on its way: what came in, and what came of it."""

    partition: Partition
    message: Message
    handler: Handler | None = None
    event: Any = None
    meta: Meta | None = None
    records: list[Record] = field(default_factory=list)
    error: Exception | None = None
    """Why it is set aside, if it is."""
    attempts: int = 0

    @property
    def offset(self) -> int:
        return self.message.offset()


@dataclass(eq=False, slots=True)
class Lane:
    """The events of one key, one after the other."""

    partition: Partition
    waiting: deque[Work] = field(default_factory=deque)
    task: "asyncio.Task[None] | None" = None
    resting: bool = False
    """Between two attempts, with nothing going on outside."""


class Calls:
    """Carries out effects.

    - `finished`: told of each event that has come to its end, in whichever order.
    - `failed`: told of an error after which the worker must stop.
    - `resources`: what handlers may ask for; filled before the first event is taken.
    """

    def __init__(
        self,
        service: Service,
        handlers: tuple[Handler, ...],
        group: str,
        outbound: Outbound,
        tracer: Tracer,
        *,
        resources: Mapping[type, Any],
        finished: Callable[[Work], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._service = service.name
        self._group = group
        self._outbound = outbound
        self._tracer = tracer
        self._resources = resources
        self._finished = finished
        self._failed = failed
        self._callers = {handler.name: caller(handler) for handler in handlers}
        self._room = {handler.name: asyncio.Semaphore(handler.concurrency) for handler in handlers}
        self._lanes: dict[tuple[str, int, bytes], Lane] = {}

    def take(self, batch: list[Work]) -> None:
        """Begin with these, each as soon as those of its key before it are done."""
        for work in batch:
            partition = work.partition
            if partition.closing or not partition.watermark.take(work.offset):
                partition.settled += 1
            elif work.handler is None:
                self._finished(work)
            else:
                self._queue(work)

    async def close(self, partitions: list[Partition], patience: float) -> None:
        """Begin nothing new here; wait for calls under way, and cancel those that take `patience` seconds."""
        for partition in partitions:
            partition.closing = True
        lanes = {lane for partition in partitions for lane in partition.lanes}
        for lane in lanes:
            if lane.resting and lane.task is not None:
                lane.task.cancel()
        tasks = [lane.task for lane in lanes if lane.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            task.cancel()
        if late:
            # A handler that will not be cancelled is left behind; its partition is not ours when it ends.
            await asyncio.wait(late, timeout=1.0)

    def _queue(self, work: Work) -> None:
        message = work.message
        key = message.key()
        name = None if key is None else (message.topic(), message.partition(), key)
        lane = self._lanes.get(name) if name is not None else None
        if lane is not None:
            lane.waiting.append(work)
            return
        lane = Lane(work.partition, deque([work]))
        work.partition.lanes.add(lane)
        if name is not None:
            self._lanes[name] = lane
        lane.task = asyncio.get_running_loop().create_task(self._serve(lane, name))

    async def _serve(self, lane: Lane, name: tuple[str, int, bytes] | None) -> None:
        try:
            while lane.waiting and not lane.partition.closing:
                work = lane.waiting[0]
                await self._carry_out(lane, work)
                lane.waiting.popleft()
                self._finished(work)
        except Exception as error:
            self._failed(error)
        finally:
            lane.partition.lanes.discard(lane)
            if name is not None and self._lanes.get(name) is lane:
                del self._lanes[name]

    async def _carry_out(self, lane: Lane, work: Work) -> None:
        handler, meta = work.handler, work.meta
        assert handler is not None
        assert meta is not None
        clock = asyncio.get_running_loop().time
        began = clock()
        with self._span(work) as span:
            meta.traceparent = span.traceparent
            while True:
                work.attempts += 1
                try:
                    work.records = await self._attempt(handler, work, meta)
                    return
                except Exception as error:
                    if not handler.retry.allows(error, work.attempts, clock() - began):
                        span.fail(error)
                        if handler.on_failure is OnFailure.STOP:
                            raise
                        self.set_aside(work, error)
                        return
                lane.resting = True
                await asyncio.sleep(handler.retry.backoff(work.attempts))
                lane.resting = False

    async def _attempt(self, handler: Handler, work: Work, meta: Meta) -> list[Record]:
        timeout = handler.timeout.total_seconds()
        call = Call(
            key=call_key(meta.id, self._service, handler.name),
            attempt=work.attempts,
            timeout=timeout,
            envelope=meta.envelope(),
        )
        given = Given(call=call, resources=self._resources)
        async with self._room[handler.name]:
            async with asyncio.timeout(timeout):
                outputs = await self._callers[handler.name](work.event, meta, given)
            return self._outbound.records(handler.name, meta, outputs)

    def set_aside(self, work: Work, error: Exception) -> None:
        """Let a dead letter be what came of it."""
        name = work.handler.name if work.handler else None
        work.error = error
        work.records = [
            dead_letter(work.message, service=self._service, handler=name, error=error, attempts=work.attempts)
        ]

    def _span(self, work: Work) -> Span:
        message, meta = work.message, work.meta
        return self._tracer.process_span(
            message.topic(),
            message.partition(),
            message.offset(),
            self._group,
            meta.traceparent if meta else None,
            handler=work.handler.name if work.handler else None,
            key=message.key(),
        )


def call_key(event_id: str, service: str, handler: str) -> str:
    """The idempotency key of what `handler` does for an event: the same for every attempt, also after a crash.

    >>> call_key("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "payment", "charge")
    'c5fc15a5-073a-528e-befc-9795e20a21a7'
    """
    return derived_id(event_id, f"{service}.{handler}.call", 0)
