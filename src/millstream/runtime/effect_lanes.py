"""Events of effects on their way: the partition, the lane of a key, and what of an event commits together."""

import asyncio
from bisect import bisect_left
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from millstream.declare import Handler
from millstream.kafka.port import Message, TopicPartition
from millstream.runtime.dead_letters import Record
from millstream.runtime.inbound import Meta
from millstream.runtime.parking import LaneKey, ParkedEvent, park
from millstream.runtime.redrive import Action
from millstream.runtime.watermark import Watermark

LONGEST_REST = 60.0
"""Seconds after which a lane looks at the clock again, which may have been set."""


@dataclass(eq=False, slots=True)
class Partition:
    """A partition while it is ours. `received` belongs to the thread that polls, all else to the loop."""

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
    """Somebody else's: nothing of it is committed any more."""
    lanes: dict["Lane", None] = field(default_factory=dict)
    """Those with events, in the order that they came in."""

    @property
    def in_hand(self) -> int:
        """Events received and not settled. Any thread may ask."""
        return self.received - self.settled


@dataclass(eq=False, slots=True)
class Work:
    """One event on its way.

    - `partition`, `offset`: where the record lies that brought it here.
    - `home`: the partition that the event was first read from. Only a redrive's is another than `partition`.
    - `message`: the event as it was first read.
    - `action`: what a person wants, for a redrive.
    """

    partition: Partition
    home: Partition
    offset: int
    message: Message
    action: Action | None = None
    redrives: int = 0
    handler: Handler | None = None
    event: Any = None
    meta: Meta | None = None
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
    """When it is to be tried, in seconds since 1970; `None` while it waits for a person."""
    parked: bool = False
    """Its position has moved past it, and it waits in durable state."""
    unkept: Exception | None = None
    """Why it cannot wait in durable state, where Kafka has refused that."""

    @property
    def at(self) -> tuple[str, int, int]:
        """Topic, partition and offset that the event was first read from."""
        return self.message.topic(), self.message.partition(), self.message.offset()

    def pause(self, now: float) -> float:
        """Seconds until it is to be tried, or to be looked at again; 0 for now."""
        return LONGEST_REST if self.due_at is None else min(LONGEST_REST, max(0.0, self.due_at - now))

    def to_park(self) -> ParkedEvent:
        """What to keep of it."""
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
class Step:
    """What commits together, of one event.

    - `passes`: the position moves past it.
    - `kept`, `dropped`: what is parked with this, and of which event (topic, partition, offset) nothing is any more.
    - `error`: why a dead letter is among the records, if one is.
    - `meagre`: that dead letter is one without a value, as the whole one was refused.
    """

    work: Work
    passes: bool
    records: list[Record] = field(default_factory=list)
    kept: ParkedEvent | None = None
    dropped: tuple[str, int, int] | None = None
    error: BaseException | None = None
    meagre: bool = False

    @property
    def partition(self) -> Partition:
        """The partition whose position commits with it, which fences those that do not hold it any more."""
        return self.work.partition if self.passes else self.work.home

    @property
    def gone(self) -> bool:
        """Whether it is somebody else's."""
        return self.work.partition.gone or self.work.home.gone

    @property
    def handled(self) -> bool:
        """Whether its handler has succeeded."""
        return self.work.handler is not None and self.kept is None and self.error is None

    @property
    def quiet(self) -> bool:
        """Whether nothing comes of it but that it is passed."""
        return self.work.handler is None and not self.records and self.dropped is None


@dataclass(eq=False, slots=True)
class Lane:
    """The events of one key, one after the other. Once one is parked, so are all that wait behind it."""

    partition: Partition
    name: LaneKey | None
    """`None` for a single event without a key."""
    waiting: deque[Work] = field(default_factory=deque)
    handed_in: deque[Work] = field(default_factory=deque)
    """Redrives that came while events were parked; looked at between two calls."""
    parked: bool = False
    resting: bool = False
    """Before an attempt, with nothing going on outside."""
    task: "asyncio.Task[None] | None" = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def park(self) -> None:
        """From now on its events wait in durable state, until none is left."""
        self.partition.parked_keys += not self.parked
        self.parked = True

    @property
    def held(self) -> bool:
        """Whether it waits for a person."""
        return bool(self.waiting) and self.waiting[0].due_at is None

    async def rest(self, seconds: float) -> None:
        """Wait so long, or until a redrive comes."""
        self.resting = True
        self._wake.clear()
        with suppress(TimeoutError):  # the rest is over
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self.resting = False

    def hand_in(self, redrive: Work) -> None:
        """Let a redrive be looked at before the next call."""
        self.handed_in.append(redrive)
        self.wake()

    def wake(self) -> None:
        """End a rest: there is something to look at."""
        self._wake.set()

    def same_as(self, work: Work) -> int | None:
        """At which place of the lane an event waits that was read from where this one was."""
        return next((place for place, other in enumerate(self.waiting) if other.at == work.at), None)

    def line_up(self, work: Work) -> None:
        """Into its place, as the events were first read."""
        self.waiting.insert(bisect_left(self.waiting, work.at, key=lambda other: other.at), work)
