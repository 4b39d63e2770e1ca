"""Many dead letters at once: in which order, how fast, and how many."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from millstream.operate.dlq.context import DlqContext
from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterRef, in_order, ref_of
from millstream.operate.dlq.executor import Actor, Done, RedriveExecutor
from millstream.operate.dlq.later_events import LaterEvents
from millstream.operate.dlq.plans import MAX_REDRIVES, Plan, Refused, discard, redrive
from millstream.operate.dlq.reading import dead_letters_at

BATCH = 500
"""Dead letters that are read whole, and written in one transaction. Memory holds no more of them."""
DEFAULT_LIMIT = 1_000
"""Actions of one command, by default."""


class Limits(NamedTuple):
    """Limits of a bulk redrive. `allow_reorder`: also redrive events that later events of their key superseded."""

    limit: int = DEFAULT_LIMIT
    max_redrives: int = MAX_REDRIVES
    allow_reorder: bool = False


def redrives(context: DlqContext, selected: Iterable[DeadLetter], limits: Limits) -> Iterator[Plan | Refused]:
    """Plan the redrive of these dead letters, within each topic and key in the order of their events.

    All are read before the first is planned, for the last may be of an earlier event than any other of its key.
    """
    return redrives_of(context, in_order([ref_of(dead_letter) for dead_letter in selected]), limits)


def redrives_of(
    context: DlqContext, refs: Sequence[DeadLetterRef], limits: Limits, later_events: LaterEvents | None = None
) -> Iterator[Plan | Refused]:
    """Plan the redrive of the dead letters with these references, in this order.

    - `later_events`: one that tracks their keys already, so that it has less to read.
    """
    if limits.allow_reorder:
        later_events = None
    else:
        later_events = later_events or LaterEvents(context)
        later_events.track(refs)
    plans = (plan for chunk in _chunks(refs) for plan in _redrives(context, chunk, limits, later_events))
    return _up_to(limits.limit, plans)


def discards(context: DlqContext, selected: Iterable[DeadLetter], limit: int) -> Iterator[Plan | Refused]:
    """Plan to discard these dead letters."""
    plans = (discard(dead_letter, context.audit, context.origins, context.partitions) for dead_letter in selected)
    return _up_to(limit, plans)


def execute(
    context: DlqContext,
    plans: Iterable[Plan | Refused],
    actor: Actor,
    *,
    rate: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Done | Refused]:
    """Carry out the plans and yield the result of each. A result that was yielded is committed.

    - `rate`: actions a second. `stop`: ends it between two transactions.
    """
    pace = _Pace(rate, stop or threading.Event())
    with ExitStack() as stack:
        executors: dict[str, RedriveExecutor] = {}
        for batch in _batches(plans, pace.step):
            if isinstance(batch, Refused):
                yield batch
                continue
            if not pace.wait():
                return
            topic = batch[0].dead_letter.id.topic
            if topic not in executors:
                executor = RedriveExecutor(context.kafka, context.admin, topic, context.audit, actor)
                executors[topic] = stack.enter_context(executor)
            yield from executors[topic].execute(batch)
            pace.took(len(batch))


def _redrives(
    context: DlqContext, chunk: Sequence[DeadLetterRef], limits: Limits, later_events: LaterEvents | None
) -> Iterator[Plan | Refused]:
    def plan(dead_letter: DeadLetter) -> Plan | Refused:
        return redrive(
            dead_letter,
            context.audit,
            context.origins,
            context.partitions,
            max_redrives=limits.max_redrives,
            superseded_by=superseding.get(dead_letter.id),
            later_events=later_events,
        )

    dead_letters = dead_letters_at(context, [ref.id for ref in chunk])
    superseding = {} if later_events is None else later_events.superseding(dead_letters)
    return map(plan, dead_letters)


def _chunks(refs: Iterable[DeadLetterRef]) -> Iterator[list[DeadLetterRef]]:
    chunk: list[DeadLetterRef] = []
    for ref in refs:
        if chunk and (len(chunk) == BATCH or ref.id.topic != chunk[0].id.topic):
            yield chunk
            chunk = []
        chunk.append(ref)
    if chunk:
        yield chunk


def _batches(plans: Iterable[Plan | Refused], size: int) -> Iterator[list[Plan] | Refused]:
    batch: list[Plan] = []
    for plan in plans:
        if isinstance(plan, Refused):
            yield plan
            continue
        if batch and (len(batch) == size or plan.dead_letter.id.topic != batch[0].dead_letter.id.topic):
            yield batch
            batch = []
        batch.append(plan)
    if batch:
        yield batch


def _up_to(limit: int, plans: Iterator[Plan | Refused]) -> Iterator[Plan | Refused]:
    count = 0
    for plan in plans:
        if isinstance(plan, Plan):
            if count == limit:
                detail = f"the limit of {limit} is reached; run it again for this one and those behind it"
                yield Refused(plan.dead_letter, "limit", detail)
                return
            count += 1
        yield plan


class _Pace:
    """Waits between transactions, so that on average the rate holds."""

    def __init__(self, rate: float | None, stop: threading.Event) -> None:
        self._rate, self._stop = rate, stop
        self._next = time.monotonic()
        self.step = BATCH if rate is None else max(1, min(BATCH, int(rate / 2)))

    def wait(self) -> bool:
        """Wait until the next transaction may begin. False when `stop` was set."""
        return not self._stop.wait(max(0.0, self._next - time.monotonic()))

    def took(self, count: int) -> None:
        if self._rate is not None:
            self._next = max(self._next, time.monotonic() - 1.0) + count / self._rate
