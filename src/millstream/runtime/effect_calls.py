"""Outside calls side by side: one key in order, many keys at once. Everything here runs on the worker's event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from millstream.declare import Handler, Kind, Service
from millstream.errors import EncodeError, Rejected
from millstream.kafka.limits import RecordLimits, record_bytes
from millstream.runtime.dead_letters import Record, dead_letter
from millstream.runtime.effect_attempts import AttemptFailed, Attempts
from millstream.runtime.effect_health import EffectHealth
from millstream.runtime.effect_lanes import Lane, Partition, Step, Work
from millstream.runtime.effect_parking import key_of, value_of
from millstream.runtime.inbound import Meta
from millstream.runtime.parking import LaneKey, Verdict, lane_of, verdict
from millstream.runtime.pauses import PAUSES_FORGIVEN, Pauses
from millstream.runtime.redrive import Action
from millstream.telemetry import Span, Tracer, get_logger

log = get_logger(__name__)


class Calls:
    """Carries out effects.

    - `finished`: told of each step that an event has come, in order for each event.
    - `failed`: told of an error after which the worker must stop.
    """

    def __init__(
        self,
        service: Service,
        handlers: tuple[Handler, ...],
        attempts: Attempts,
        pauses: Pauses,
        health: EffectHealth,
        tracer: Tracer,
        *,
        finished: Callable[[Step], None],
        failed: Callable[[BaseException], None],
        limits: RecordLimits,
    ) -> None:
        self._service = service.name
        self._limits = limits
        self._parked = service.parked(Kind.EFFECT)
        self._group = service.group(Kind.EFFECT)
        self._attempts = attempts
        self._pauses = pauses
        self._health = health
        self._tracer = tracer
        self._finished = finished
        self._failed = failed
        self._leaving = False
        self._room = {handler.name: asyncio.Semaphore(handler.concurrency) for handler in handlers}
        self._lanes: dict[LaneKey, Lane] = {}

    def restore(self, works: list[Work]) -> None:
        """Go on with what is parked already, given in the order of each key."""
        for work in works:
            if work.due_at:
                # Nobody was there to try it when it was due.
                work.slept += max(0.0, time.time() - work.due_at)
            work.slept_until = self._pauses.seconds
            lane = self._lane(work)
            lane.park()
            lane.waiting.append(work)

    def take(self, batch: list[Work]) -> None:
        """Begin with these, each as soon as those of its key before it are done."""
        for work in batch:
            partition = work.partition
            if partition.closing or not partition.watermark.take(work.offset):
                partition.settled += 1
            elif work.action is Action.DISCARD:
                self._discard(work)
            elif work.unreadable is not None:
                self._set_aside(work, work.unreadable)
            elif work.handler is None:
                self._done(work)
            else:
                self._queue(work)

    async def close(self, partitions: list[Partition], patience: float) -> None:
        """Begin nothing new here; wait for calls under way, and cancel those that take `patience` seconds."""
        for partition in partitions:
            partition.closing = True
        lanes = [lane for partition in partitions for lane in partition.lanes]
        for lane in lanes:
            self._forget(lane)
            if lane.resting and lane.task is not None:
                lane.task.cancel()
        tasks = [lane.task for lane in lanes if lane.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        if late:
            for task in tasks:
                task.cancel()
            # A handler that will not be cancelled is left behind; its partition is not ours when it ends.
            await asyncio.wait(late, timeout=1.0)

    def leave(self) -> None:
        """The event loop ends: tasks that are cancelled from now on have not failed."""
        self._leaving = True

    def parked(self) -> tuple[int, int, int]:
        """How many events are parked, how many keys wait for their next attempt, and how many for a person."""
        lanes = [lane for lane in self._lanes.values() if lane.parked]
        held = sum(lane.held for lane in lanes)
        return sum(len(lane.waiting) for lane in lanes), len(lanes) - held, held

    # Lanes

    def _lane(self, work: Work) -> Lane:
        """The lane of its key, or a new one."""
        name = None if work.message.key() is None else lane_of(work.message)
        lane = self._lanes.get(name) if name is not None else None
        if lane is None or lane.partition is not work.home:
            lane = Lane(work.home, name)
            work.home.lanes[lane] = None
            if name is not None:
                self._lanes[name] = lane
            lane.task = asyncio.get_running_loop().create_task(self._serve(lane))
        return lane

    def _forget(self, lane: Lane) -> None:
        if lane in lane.partition.lanes:
            del lane.partition.lanes[lane]
            lane.partition.parked_keys -= lane.parked
        if lane.name is not None and self._lanes.get(lane.name) is lane:
            del self._lanes[lane.name]

    def _queue(self, work: Work) -> None:
        lane = self._lane(work)
        if not lane.parked:
            lane.waiting.append(work)
        elif work.action is not None:
            lane.hand_in(work)
        elif lane.same_as(work) is not None:
            # It was parked, and the fact that it was passed did not last.
            self._finished(Step(work, passes=True))
        else:
            lane.waiting.append(work)
            if self._fits(work):
                self._park(work)

    def _discard(self, work: Work) -> None:
        lane = self._lanes.get(lane_of(work.message))
        if lane is not None and lane.parked:
            lane.hand_in(work)
        else:
            self._finished(Step(work, passes=True))

    async def _serve(self, lane: Lane) -> None:
        try:
            while not lane.partition.closing:
                if lane.waiting and (refused := lane.waiting[0].unkept) is not None:
                    self._set_aside(lane.waiting.popleft(), refused)
                elif lane.handed_in:
                    self._redrive(lane, lane.handed_in.popleft())
                elif not lane.waiting:
                    break
                elif pause := lane.waiting[0].pause(time.time()):
                    await lane.rest(pause)
                else:
                    await self._carry_out(lane, lane.waiting[0])
        except asyncio.CancelledError:
            if self._leaving or lane.partition.closing:
                raise
            self._failed(RuntimeError(f"The task of the key {lane.name} was cancelled, and not by its worker."))
        except Exception as error:
            # The lane stays where it is: what comes for its key must not overtake the event that stops the worker.
            self._failed(error)
        else:
            self._forget(lane)

    def _redrive(self, lane: Lane, work: Work) -> None:
        """Do with a parked lane what a person wants."""
        at = lane.same_as(work)
        if at is not None:
            lane.partition.parked -= 1
            del lane.waiting[at]
        if work.action is Action.HANDLE:
            lane.line_up(work)
            self._park(work)
        else:
            self._finished(Step(work, passes=True, dropped=work.at))

    # One event

    async def _carry_out(self, lane: Lane, work: Work) -> None:
        handler, meta = work.handler, work.meta
        if work.unreadable is not None:
            self._set_aside(work, work.unreadable)
        elif handler is None or meta is None:
            self._done(work)
        elif not await self._call(lane, handler, work, meta):
            return
        lane.waiting.popleft()

    async def _call(self, lane: Lane, handler: Handler, work: Work, meta: Meta) -> bool:
        """Whether the event is done with; if not, it stays the first of its lane."""
        # Who waits for room has begun nothing, so that its partition may go at once.
        lane.resting = True
        async with self._room[handler.name]:
            lane.resting = False
            with self._span(work) as span:
                meta.traceparent = span.traceparent
                work.attempts += 1
                try:
                    records = await self._attempts.make(handler, work, meta)
                except AttemptFailed as failure:
                    span.fail(failure.error)
                    return not self._must_wait(lane, handler, work, failure)
                self._health.succeeded(handler.name)
                self._done(work, records)
                return True

    def _must_wait(self, lane: Lane, handler: Handler, work: Work, failure: AttemptFailed) -> bool:
        """Whether a failed event stays the first of its lane; if not, it is set aside."""
        error = failure.error
        if failure.paused and work.pauses < PAUSES_FORGIVEN and not isinstance(error, Rejected):
            # It is made again at once: what the process slept through says nothing of the other side.
            work.pauses += 1
            work.attempts -= 1
            return True
        if work.unkept is not None:
            return True  # its lane sets it aside
        work.pauses = 0
        now, slept = time.time(), self._pauses.seconds
        if work.first_failed_at:
            work.slept += slept - work.slept_until
        work.first_failed_at, work.slept_until = work.first_failed_at or now, slept
        seconds = now - work.first_failed_at - work.slept
        keyed = lane.name is not None
        decided = verdict(handler, error, attempts=work.attempts, seconds=seconds, keyed=keyed)
        wait = handler.retry.backoff(work.attempts) if decided is Verdict.RETRY else 0.0
        self._health.failed(handler, failure, again_in=wait)
        match decided:
            case Verdict.STOP:
                raise self._stop_at(handler, work, error)
            case Verdict.DEAD_LETTER:
                self._set_aside(work, error)
                return False
            case Verdict.RETRY:
                work.due_at = now + wait
                # One that is too large to be kept is tried on as one without a key: its partition remembers it.
                if keyed and self._fits(work):
                    self._park_all(lane)
            case Verdict.PARK_KEY if not self._fits(work):
                self._set_aside(work, error)
                return False
            case Verdict.PARK_KEY:
                work.due_at = None
                self._park_all(lane, error)
        return True

    def _stop_at(self, handler: Handler, work: Work, error: BaseException) -> Exception:
        topic, partition, offset = work.at
        # A SystemExit is the event's failure, and the worker that stops for it says so as any other.
        reason = (
            error if isinstance(error, Exception) else RuntimeError(f"{handler.name}: {type(error).__name__}: {error}")
        )
        where = f"{topic}[{partition}] at offset {offset}"
        reason.add_note(f"{self._group} stops, as {handler.name} says, without moving past {where}.")
        if reason is not error:
            reason.__cause__ = error
        return reason

    def _park_all(self, lane: Lane, error: BaseException | None = None) -> None:
        """Keep the first of the lane as it is now, and all that wait behind it."""
        lane.park()
        self._park(lane.waiting[0], error)
        for work in lane.waiting:
            if not work.parked and self._fits(work):
                self._park(work)

    def _fits(self, work: Work) -> bool:
        """Whether the topic of what is parked takes it. One that it does not take waits in memory, its position too."""
        size = record_bytes(key_of(work.at, work.message.timestamp()[1]), value_of(work.to_park()), None)
        return work.parked or size <= self._limits.record(self._parked)

    def _park(self, work: Work, error: BaseException | None = None) -> None:
        """Keep it as it is now; with an `error`, tell of it."""
        letters = [self._dead_letter(work, error, parked=True)] if error is not None else []
        self._finished(Step(work, not work.parked, letters, kept=work.to_park(), error=error))
        if not work.parked:
            work.parked = True
            work.home.parked += 1

    def _set_aside(self, work: Work, error: BaseException) -> None:
        self._done(work, [self._dead_letter(work, error)], error)

    def _done(self, work: Work, records: list[Record] | None = None, error: BaseException | None = None) -> None:
        """These come of it, and nothing more."""
        if work.parked:
            work.home.parked -= 1
        dropped = work.at if work.parked else None
        self._finished(Step(work, not work.parked, records or [], dropped=dropped, error=error))

    def refused(self, step: Step, error: EncodeError) -> None:
        """Kafka does not take what came of it: let that be a dead letter instead, and one without a value in the place
        of a dead letter. Raises what stops the worker where that is refused, too."""
        work = step.work
        if step.meagre:
            topic, partition, offset = work.at
            raise EncodeError(
                f"Even a dead letter of {topic}[{partition}] at offset {offset} without its value is refused: {error} "
                f"Raise max.message.bytes of {topic}.dlq, and message.max.bytes here."
            ) from error
        step.meagre = step.error is not None
        step.error = step.error or error
        step.records = [self._dead_letter(work, step.error, parked=step.kept is not None, meagre=step.meagre)]

    def unkept(self, step: Step, error: EncodeError) -> None:
        """Kafka does not take what is parked, and the step that was to keep it is off: set it aside, once no call of it
        is under way. Where that step `passes`, its position has not moved past it."""
        work = step.work
        lane = self._lanes.get(lane_of(work.message))
        if lane is None or work not in lane.waiting:
            # It is done, or a redrive has taken its place.
            if step.passes:
                self._finished(replace(step, kept=None))
            return
        if step.passes:
            work.parked = False
            work.home.parked -= 1
        if work is lane.waiting[0]:
            work.unkept = error
            lane.wake()
        else:
            lane.waiting.remove(work)
            self._set_aside(work, error)

    def _dead_letter(self, work: Work, error: BaseException, *, parked: bool = False, meagre: bool = False) -> Record:
        return dead_letter(
            work.message,
            service=self._service,
            group=self._group,
            handler=work.handler.name if work.handler else None,
            error=error,
            attempts=work.attempts,
            first_failed_at=work.first_failed_at or None,
            parked=parked,
            redrives=work.redrives,
            limit=0 if meagre else self._limits.record(f"{work.at[0]}.dlq"),
        )

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
