"""Outside calls side by side: one key in order, many keys at once. Everything here runs on the worker's event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from millstream.declare import Handler, Kind, Service
from millstream.errors import EncodeError, Rejected
from millstream.kafka.limits import RecordLimits, record_bytes
from millstream.runtime.effect.attempts import AttemptFailed, Attempts
from millstream.runtime.effect.health import EffectHealth
from millstream.runtime.effect.in_flight import Completion, InFlight, KeyQueue, Partition
from millstream.runtime.effect.parked_topic import record_of
from millstream.runtime.process_pauses import PAUSES_FORGIVEN, ProcessPauses
from millstream.runtime.records.dead_letter import Record, dead_letter
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.redrive import Action
from millstream.runtime.task.decision import Decision, decide
from millstream.runtime.task.key_queues import QueueKey, queue_of
from millstream.telemetry import Span, Tracer, get_logger

log = get_logger(__name__)


class Calls:
    """Carries out effects.

    - `finished`: called with each completion, in order for each event.
    - `failed`: called with an error after which the worker must stop.
    """

    def __init__(
        self,
        service: Service,
        handlers: tuple[Handler, ...],
        attempts: Attempts,
        pauses: ProcessPauses,
        health: EffectHealth,
        tracer: Tracer,
        *,
        finished: Callable[[Completion], None],
        failed: Callable[[BaseException], None],
        limits: RecordLimits,
    ) -> None:
        self._service = service.name
        self._limits = limits
        self._parked = service.parked_topic(Kind.EFFECT)
        self._group = service.group(Kind.EFFECT)
        self._attempts = attempts
        self._pauses = pauses
        self._health = health
        self._tracer = tracer
        self._finished = finished
        self._failed = failed
        self._leaving = False
        self._room = {handler.name: asyncio.Semaphore(handler.concurrency) for handler in handlers}
        self._queues: dict[QueueKey, KeyQueue] = {}

    def restore(self, items: list[InFlight]) -> None:
        """Go on with events that are parked already; `items` has them in the order of each key."""
        for item in items:
            if item.due_at:
                # No instance was there to try it when it was due.
                item.slept += max(0.0, time.time() - item.due_at)
            item.slept_until = self._pauses.seconds
            queue = self._queue_for(item)
            queue.park()
            queue.waiting.append(item)

    def take(self, batch: list[InFlight]) -> None:
        """Begin with these, each as soon as the earlier ones of its key are done."""
        for item in batch:
            partition = item.partition
            if partition.closing or not partition.watermark.take(item.offset):
                partition.settled += 1
            elif item.action is Action.DISCARD:
                self._discard(item)
            elif item.unreadable is not None:
                self._dead_letter(item, item.unreadable)
            elif item.handler is None:
                self._done(item)
            else:
                self._enqueue(item)

    async def close(self, partitions: list[Partition], grace: float) -> None:
        """Begin no call in these partitions; wait `grace` seconds for calls under way, then cancel them."""
        for partition in partitions:
            partition.closing = True
        queues = [queue for partition in partitions for queue in partition.queues]
        for queue in queues:
            self._forget(queue)
            if queue.resting and queue.task is not None:
                queue.task.cancel()
        tasks = [queue.task for queue in queues if queue.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace)
        if late:
            for task in tasks:
                task.cancel()
            # A handler that will not be cancelled is left behind; its partition is not ours when it ends.
            await asyncio.wait(late, timeout=1.0)

    def leave(self) -> None:
        """The event loop ends: tasks that are cancelled from now on have not failed."""
        self._leaving = True

    def parked(self) -> tuple[int, int, int]:
        """Return how many events are parked, how many keys wait to be retried, and how many for an operator."""
        queues = [queue for queue in self._queues.values() if queue.parked]
        held = sum(queue.held for queue in queues)
        return sum(len(queue.waiting) for queue in queues), len(queues) - held, held

    # Key queues

    def _queue_for(self, item: InFlight) -> KeyQueue:
        """Return the queue of its key, made where there is none."""
        name = None if item.message.key() is None else queue_of(item.message)
        queue = self._queues.get(name) if name is not None else None
        if queue is None or queue.partition is not item.home:
            queue = KeyQueue(item.home, name)
            item.home.queues[queue] = None
            if name is not None:
                self._queues[name] = queue
            queue.task = asyncio.get_running_loop().create_task(self._serve(queue))
        return queue

    def _forget(self, queue: KeyQueue) -> None:
        if queue in queue.partition.queues:
            del queue.partition.queues[queue]
            queue.partition.parked_keys -= queue.parked
        if queue.name is not None and self._queues.get(queue.name) is queue:
            del self._queues[queue.name]

    def _enqueue(self, item: InFlight) -> None:
        queue = self._queue_for(item)
        if not queue.parked:
            queue.waiting.append(item)
        elif item.action is not None:
            queue.add_redrive(item)
        elif queue.same_as(item) is not None:
            # It was parked, and the commit that passed it was lost.
            self._finished(Completion(item, passes=True))
        else:
            queue.waiting.append(item)
            if self._fits(item):
                self._park(item)

    def _discard(self, item: InFlight) -> None:
        queue = self._queues.get(queue_of(item.message))
        if queue is not None and queue.parked:
            queue.add_redrive(item)
        else:
            self._finished(Completion(item, passes=True))

    async def _serve(self, queue: KeyQueue) -> None:
        try:
            while not queue.partition.closing:
                if queue.waiting and (refused := queue.waiting[0].park_error) is not None:
                    self._dead_letter(queue.waiting.popleft(), refused)
                elif queue.redrives_in:
                    self._redrive(queue, queue.redrives_in.popleft())
                elif not queue.waiting:
                    break
                elif pause := queue.waiting[0].pause(time.time()):
                    await queue.rest(pause)
                else:
                    await self._carry_out(queue, queue.waiting[0])
        except asyncio.CancelledError:
            if self._leaving or queue.partition.closing:
                raise
            self._failed(RuntimeError(f"The task of the key {queue.name} was cancelled, and not by its worker."))
        except Exception as error:
            # The queue stays: later events of its key must not overtake the event that stops the worker.
            self._failed(error)
        else:
            self._forget(queue)

    def _redrive(self, queue: KeyQueue, item: InFlight) -> None:
        """Apply a redrive to a parked queue."""
        at = queue.same_as(item)
        if at is not None:
            queue.partition.parked -= 1
            del queue.waiting[at]
        if item.action is Action.HANDLE:
            queue.enqueue(item)
            self._park(item)
        else:
            self._finished(Completion(item, passes=True, unparked=True))

    # One event

    async def _carry_out(self, queue: KeyQueue, item: InFlight) -> None:
        handler, meta = item.handler, item.meta
        if item.unreadable is not None:
            self._dead_letter(item, item.unreadable)
        elif handler is None or meta is None:
            self._done(item)
        elif not await self._call(queue, handler, item, meta):
            return
        queue.waiting.popleft()

    async def _call(self, queue: KeyQueue, handler: Handler, item: InFlight, meta: EventMetadata) -> bool:
        """Return whether the event is done; if not, it stays the head of its queue."""
        # A queue that waits for the semaphore has begun nothing: its partition may be revoked at once.
        queue.resting = True
        async with self._room[handler.name]:
            queue.resting = False
            with self._span(item) as span:
                meta.traceparent = span.traceparent
                item.attempts += 1
                try:
                    records = await self._attempts.make(handler, item, meta)
                except AttemptFailed as failure:
                    span.fail(failure.error)
                    return not self._must_wait(queue, handler, item, failure)
                self._health.succeeded(handler.name)
                self._done(item, records)
                return True

    def _must_wait(self, queue: KeyQueue, handler: Handler, item: InFlight, failure: AttemptFailed) -> bool:
        """Return whether a failed event stays the head of its queue; if not, it has become a dead letter."""
        error = failure.error
        if failure.paused and item.pauses < PAUSES_FORGIVEN and not isinstance(error, Rejected):
            # The call is made again at once: a pause of this process says nothing about the other side.
            item.pauses += 1
            item.attempts -= 1
            return True
        if item.park_error is not None:
            return True  # its queue dead-letters it
        item.pauses = 0
        now, slept = time.time(), self._pauses.seconds
        if item.first_failed_at:
            item.slept += slept - item.slept_until
        item.first_failed_at, item.slept_until = item.first_failed_at or now, slept
        seconds = now - item.first_failed_at - item.slept
        keyed = queue.name is not None
        decided = decide(handler, error, attempts=item.attempts, seconds=seconds, keyed=keyed)
        wait = handler.retry.backoff(item.attempts) if decided is Decision.RETRY else 0.0
        self._health.failed(handler, failure, again_in=wait)
        match decided:
            case Decision.STOP:
                raise self._stop_at(handler, item, error)
            case Decision.DEAD_LETTER:
                self._dead_letter(item, error)
                return False
            case Decision.RETRY:
                item.due_at = now + wait
                # One that is too large for the parked topic is retried as one without a key: its partition remembers
                # it.
                if keyed and self._fits(item):
                    self._park_all(queue)
            case Decision.PARK_KEY if not self._fits(item):
                self._dead_letter(item, error)
                return False
            case Decision.PARK_KEY:
                item.due_at = None
                self._park_all(queue, error)
        return True

    def _stop_at(self, handler: Handler, item: InFlight, error: BaseException) -> Exception:
        topic, partition, offset = item.at
        # A SystemExit is the event's failure, and is reported as any other error.
        reason = (
            error if isinstance(error, Exception) else RuntimeError(f"{handler.name}: {type(error).__name__}: {error}")
        )
        where = f"{topic}[{partition}] at offset {offset}"
        reason.add_note(f"{self._group} stops, as {handler.name} says, without moving past {where}.")
        if reason is not error:
            reason.__cause__ = error
        return reason

    def _park_all(self, queue: KeyQueue, error: BaseException | None = None) -> None:
        """Park the head of the queue as it is now, and all that wait behind it."""
        queue.park()
        self._park(queue.waiting[0], error)
        for item in queue.waiting:
            if not item.parked and self._fits(item):
                self._park(item)

    def _fits(self, item: InFlight) -> bool:
        """Return whether the parked topic takes it.

        One that it does not take waits in memory, and holds its position.
        """
        size = record_bytes(*record_of(item.message, item.to_park()), None)
        return item.parked or size <= self._limits.record(self._parked)

    def _park(self, item: InFlight, error: BaseException | None = None) -> None:
        """Park it as it is now, with a dead letter where there is an `error`."""
        records = [self._dead_letter_record(item, error, parked=True)] if error is not None else []
        self._finished(Completion(item, not item.parked, records, parked=item.to_park(), error=error))
        if not item.parked:
            item.parked = True
            item.home.parked += 1

    def _dead_letter(self, item: InFlight, error: BaseException) -> None:
        self._done(item, [self._dead_letter_record(item, error)], error)

    def _done(self, item: InFlight, records: list[Record] | None = None, error: BaseException | None = None) -> None:
        """Complete an event with these records."""
        if item.parked:
            item.home.parked -= 1
        self._finished(Completion(item, not item.parked, records or [], unparked=item.parked, error=error))

    def refused(self, completion: Completion, error: EncodeError) -> None:
        """Turn a completion that Kafka refuses into a dead letter, and a refused dead letter into one without a value.

        Raises what stops the worker where that is refused, too.
        """
        item = completion.item
        if completion.minimal:
            topic, partition, offset = item.at
            raise EncodeError(
                f"Even a dead letter of {topic}[{partition}] at offset {offset} without its value is refused: {error} "
                f"Raise max.message.bytes of {topic}.dlq, and message.max.bytes here."
            ) from error
        completion.minimal = completion.error is not None
        completion.error = completion.error or error
        completion.records = [
            self._dead_letter_record(
                item, completion.error, parked=completion.parked is not None, minimal=completion.minimal
            )
        ]

    def not_parked(self, completion: Completion, error: EncodeError) -> None:
        """Dead-letter an event that Kafka does not let be parked, once no call of it is under way.

        Where the refused completion `passes`, the position has not moved past the event.
        """
        item = completion.item
        queue = self._queues.get(queue_of(item.message))
        if queue is None or item not in queue.waiting:
            # It is done, or a redrive has taken its place.
            if completion.passes:
                self._finished(replace(completion, parked=None))
            return
        if completion.passes:
            item.parked = False
            item.home.parked -= 1
        if item is queue.waiting[0]:
            item.park_error = error
            queue.wake()
        else:
            queue.waiting.remove(item)
            self._dead_letter(item, error)

    def _dead_letter_record(
        self, item: InFlight, error: BaseException, *, parked: bool = False, minimal: bool = False
    ) -> Record:
        return dead_letter(
            item.message,
            service=self._service,
            group=self._group,
            handler=item.handler.name if item.handler else None,
            error=error,
            attempts=item.attempts,
            first_failed_at=item.first_failed_at or None,
            parked=parked,
            redrives=item.redrives,
            limit=0 if minimal else self._limits.record(f"{item.at[0]}.dlq"),
        )

    def _span(self, item: InFlight) -> Span:
        message, meta = item.message, item.meta
        return self._tracer.process_span(
            message.topic(),
            message.partition(),
            message.offset(),
            self._group,
            meta.traceparent if meta else None,
            handler=item.handler.name if item.handler else None,
            key=message.key(),
        )
