"""Events of effects in flight: the partition, the queue of a key, and the parts of an event that commit together."""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from millstream.declare import Handler
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.effect.watermark import Watermark
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.records.redrive import Action
from millstream.runtime.task.key_queues import QueueKey
from millstream.runtime.task.parked import ParkedEvent, park
from millstream.runtime.task.pausing import Parked

MAX_IN_HAND = 500
"""Events of one partition received and not settled; past it the partition is paused. Also keeps its metadata short."""

LONGEST_REST = 60.0
"""Seconds after which a queue looks at the clock again, which may have been set."""


@dataclass(eq=False, slots=True)
class Partition:
    """A partition while this worker has it. `received` belongs to the thread that polls, all else to the event loop."""

    at: TopicPartition
    watermark: Watermark
    received: int = 0
    settled: int = 0
    """Of those received, how many are done and committed; what lies between is in hand."""
    parked: int = 0
    """How many of its events wait in durable state, behind how many keys: `parked_keys`."""
    parked_keys: int = 0
    closing: bool = False
    """No call begins any more."""
    gone: bool = False
    """Lost to another instance: nothing of it is committed any more."""
    queues: dict["KeyQueue", None] = field(default_factory=dict)
    """The queues with events, in the order in which they were made."""

    @property
    def in_hand(self) -> int:
        """Events received and not settled. Any thread may ask."""
        return self.received - self.settled


@dataclass(eq=False, slots=True)
class InFlight:
    """One event in flight.

    - `partition`, `offset`: where the record lies that brought it here.
    - `home`: the partition that the event was first read from. Only a redrive's is another than `partition`.
    - `message`: the event as it was first read.
    - `action`: of a redrive.
    """

    partition: Partition
    home: Partition
    offset: int
    message: Message
    action: Action | None = None
    redrives: int = 0
    handler: Handler | None = None
    event: Any = None
    meta: EventMetadata | None = None
    unreadable: Exception | None = None
    attempts: int = 0
    first_failed_at: float = 0.0
    slept: float = 0.0
    """Seconds since then in which the process did not run: they are no part of its retries."""
    slept_until: float = 0.0
    """As many seconds of the process's pauses are in `slept`, or were over before it failed."""
    pauses: int = 0
    """Attempts in a row that a pause of the process was in the midst of."""
    due_at: float | None = 0.0
    """The time of its next attempt, in seconds since 1970; `None` while it waits for an operator."""
    parked: bool = False
    """Its position has moved past it, and it waits in durable state."""
    park_error: Exception | None = None
    """Why it cannot be parked, where Kafka has refused that."""

    @property
    def at(self) -> tuple[str, int, int]:
        """Topic, partition and offset that the event was first read from."""
        return self.message.topic(), self.message.partition(), self.message.offset()

    def pause(self, now: float) -> float:
        """Seconds until it is to be tried, or to be looked at again; 0 for now."""
        return LONGEST_REST if self.due_at is None else min(LONGEST_REST, max(0.0, self.due_at - now))

    def to_park(self) -> ParkedEvent:
        """Return it as a parked event."""
        tried = self.attempts > 0
        return park(
            self.message,
            attempts=self.attempts,
            first_failed_at=self.first_failed_at,
            due_at=self.due_at if tried else None,
            redrives=self.redrives,
            slept=self.slept,
        )


@dataclass(eq=False, slots=True)
class Completion:
    """The parts of one event that commit together.

    - `passes`: the position moves past it.
    - `parked`: what is parked with this; `unparked`: the event was parked, and is no more.
    - `error`: why a dead letter is among the records, if one is.
    - `minimal`: that dead letter is one without a value, as the whole one was refused.
    """

    item: InFlight
    passes: bool
    records: list[Record] = field(default_factory=list)
    parked: ParkedEvent | None = None
    unparked: bool = False
    error: BaseException | None = None
    minimal: bool = False

    @property
    def partition(self) -> Partition:
        """The partition whose position commits with it, which fences those that do not hold it any more."""
        return self.item.partition if self.passes else self.item.home

    @property
    def gone(self) -> bool:
        """Return whether another instance has its partition."""
        return self.item.partition.gone or self.item.home.gone

    @property
    def handled(self) -> bool:
        """Return whether its handler has succeeded."""
        return self.item.handler is not None and self.parked is None and self.error is None

    @property
    def quiet(self) -> bool:
        """Return whether it only moves the position."""
        return self.item.handler is None and not self.records and not self.unparked


@dataclass(eq=False, slots=True)
class KeyQueue:
    """The events of one key, one after the other. Once one is parked, so are all that wait behind it."""

    partition: Partition
    name: QueueKey | None
    """`None` for a single event without a key."""
    waiting: deque[InFlight] = field(default_factory=deque)
    redrives_in: deque[InFlight] = field(default_factory=deque)
    """Redrives that came while events were parked; looked at between two calls."""
    parked: bool = False
    resting: bool = False
    """Before an attempt, with nothing going on outside."""
    task: "asyncio.Task[None] | None" = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def park(self) -> None:
        """Mark it as parked: from now on its events wait in durable state, until none is left."""
        self.partition.parked_keys += not self.parked
        self.parked = True

    @property
    def held(self) -> bool:
        """Return whether it waits for an operator."""
        return bool(self.waiting) and self.waiting[0].due_at is None

    async def rest(self, seconds: float) -> None:
        """Wait `seconds`, or until a redrive comes."""
        self.resting = True
        self._wake.clear()
        with suppress(TimeoutError):  # the rest is over
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self.resting = False

    def add_redrive(self, redrive: InFlight) -> None:
        """Let a redrive be looked at before the next call."""
        self.redrives_in.append(redrive)
        self.wake()

    def wake(self) -> None:
        """End a rest: there is something to look at."""
        self._wake.set()

    def same_as(self, item: InFlight) -> int | None:
        """Return the index in the queue of the event that was read from the same offset."""
        return next((index for index, other in enumerate(self.waiting) if other.at == item.at), None)

    def enqueue(self, item: InFlight) -> None:
        """Insert it in the order in which the events were first read."""
        self.waiting.insert(bisect_left(self.waiting, item.at, key=lambda other: other.at), item)


def too_busy(partitions: Mapping[TopicPartition, Partition], busy: AbstractSet[TopicPartition]) -> set[TopicPartition]:
    """Return the partitions with too many events in hand: those that were `busy`, until half of it is settled."""
    return {
        at
        for at, held in partitions.items()
        if held.in_hand >= MAX_IN_HAND or (at in busy and held.in_hand > MAX_IN_HAND // 2)
    }


def parked_in(partitions: Mapping[TopicPartition, Partition]) -> dict[int, Parked]:
    """Count what is parked of all partitions with one number, where anything is."""
    found: dict[int, Parked] = {}
    for (_, number), held in partitions.items():
        if held.parked:
            before = found.get(number, Parked(0, 0))
            found[number] = Parked(before.events + held.parked, before.keys + held.parked_keys)
    return found
