"""Many letters: which of them, how fast, and how many."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from millstream.operate.dlq.clerk import Clerk, Done, Person
from millstream.operate.dlq.lanes import Spot, in_order, spot_of
from millstream.operate.dlq.letter import DeadLetter
from millstream.operate.dlq.office import Office
from millstream.operate.dlq.overtaken import Followers
from millstream.operate.dlq.reading import letters_at
from millstream.operate.dlq.work import MOST_REDRIVES, Refused, Work, discard, redrive

AT_ONCE = 500
"""Limit of letters that are looked at, and written in one transaction. Memory holds no more of them in full."""
MOST = 1_000
"""Default limit of letters that one command deals with."""


class Limits(NamedTuple):
    """Limits of a bulk redrive. `allow_reorder`: also hand in what later events of its key overtook."""

    limit: int = MOST
    max_redrives: int = MOST_REDRIVES
    allow_reorder: bool = False


def redrives(office: Office, chosen: Iterable[DeadLetter], limits: Limits) -> Iterator[Work | Refused]:
    """Plan the redrive of these letters, within each topic and key in the order of the events.

    All are looked at first, for the last may be of an earlier event than any other of its key.
    """
    return redrives_of(office, in_order([spot_of(letter) for letter in chosen]), limits)


def redrives_of(
    office: Office, spots: Sequence[Spot], limits: Limits, followers: Followers | None = None
) -> Iterator[Work | Refused]:
    """Plan the redrive of the letters at these spots, in this order.

    - `followers`: who knows already what follows them.
    """
    if limits.allow_reorder:
        followers = None
    else:
        followers = followers or Followers(office)
        followers.mind(spots)
    plans = (plan for chunk in _chunks(spots) for plan in _redrives(office, chunk, limits, followers))
    return _up_to(limits.limit, plans)


def discards(office: Office, chosen: Iterable[DeadLetter], most: int) -> Iterator[Work | Refused]:
    """Plan to discard these letters."""
    return _up_to(most, (discard(letter, office.audit, office.origins, office.partitions) for letter in chosen))


def carry_out(
    office: Office,
    plans: Iterable[Work | Refused],
    person: Person,
    *,
    rate: float | None = None,
    stop: threading.Event | None = None,
) -> Iterator[Done | Refused]:
    """Does the work, and answers what became of each. What was answered is committed.

    - `rate`: so many a second. `stop`: ends it between two transactions.
    """
    pace = _Pace(rate, stop or threading.Event())
    with ExitStack() as clerks:
        at_work: dict[str, Clerk] = {}
        for batch in _batches(plans, pace.step):
            if isinstance(batch, Refused):
                yield batch
                continue
            if not pace.wait():
                return
            topic = batch[0].letter.id.topic
            if topic not in at_work:
                clerk = Clerk(office.kafka, office.admin, topic, office.audit, person)
                at_work[topic] = clerks.enter_context(clerk)
            yield from at_work[topic].do(batch)
            pace.took(len(batch))


def _redrives(
    office: Office, chunk: Sequence[Spot], limits: Limits, followers: Followers | None
) -> Iterator[Work | Refused]:
    def plan(letter: DeadLetter) -> Work | Refused:
        return redrive(
            letter,
            office.audit,
            office.origins,
            office.partitions,
            max_redrives=limits.max_redrives,
            overtaken_by=late.get(letter.id),
            followers=followers,
        )

    letters = letters_at(office, [spot.id for spot in chunk])
    late = {} if followers is None else followers.overtaking(letters)
    return map(plan, letters)


def _chunks(spots: Iterable[Spot]) -> Iterator[list[Spot]]:
    chunk: list[Spot] = []
    for spot in spots:
        if chunk and (len(chunk) == AT_ONCE or spot.id.topic != chunk[0].id.topic):
            yield chunk
            chunk = []
        chunk.append(spot)
    if chunk:
        yield chunk


def _batches(plans: Iterable[Work | Refused], most: int) -> Iterator[list[Work] | Refused]:
    batch: list[Work] = []
    for plan in plans:
        if isinstance(plan, Refused):
            yield plan
            continue
        if batch and (len(batch) == most or plan.letter.id.topic != batch[0].letter.id.topic):
            yield batch
            batch = []
        batch.append(plan)
    if batch:
        yield batch


def _up_to(most: int, plans: Iterator[Work | Refused]) -> Iterator[Work | Refused]:
    count = 0
    for plan in plans:
        if isinstance(plan, Work):
            if count == most:
                yield Refused(plan.letter, "limit", f"{most} are done; run it again for this one and those behind it")
                return
            count += 1
        yield plan


class _Pace:
    """Waits between transactions, so that on the whole the rate holds."""

    def __init__(self, rate: float | None, stop: threading.Event) -> None:
        self._rate, self._stop = rate, stop
        self._next = time.monotonic()
        self.step = AT_ONCE if rate is None else max(1, min(AT_ONCE, int(rate / 2)))

    def wait(self) -> bool:
        """Until the next transaction may begin. False when it is time to stop."""
        return not self._stop.wait(max(0.0, self._next - time.monotonic()))

    def took(self, count: int) -> None:
        if self._rate is not None:
            self._next = max(self._next, time.monotonic() - 1.0) + count / self._rate
