"""What came of effects commits with the fact that they are done: while one group commits, the next gathers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from millstream.errors import CommitUnknown, EncodeError, KafkaFault, Unavailable
from millstream.kafka.port import Committed, TopicPartition
from millstream.runtime.dead_letters import reason_of
from millstream.runtime.effect_calls import Partition, Work
from millstream.runtime.tally import Tally
from millstream.runtime.transaction import Member, Transaction
from millstream.telemetry import get_logger

log = get_logger(__name__)

QUIET_SECONDS = 0.5
"""Events of no concern move the offset, and nothing else: that may wait for company this long."""
MOST_WORKS = 2_000
"""Events in one transaction."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between tries of a transaction."""
PATIENCE = 60.0
"""Seconds that transactions may fail in a row, for reasons that pass, before the worker gives up."""


@dataclass(slots=True)
class Group:
    """Finished events that commit together, and the positions that this makes."""

    works: list[Work]
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    metadata: dict[TopicPartition, str] = field(default_factory=dict)


class Commits:
    """Commits finished events in groups. On the worker's event loop, but for what it hands to its own one thread.

    - `member`: the consumer's membership, for the offsets.
    - `committed`: asks what the group has committed.
    - `refused`: turns an event whose outcome Kafka cannot take into one that is set aside.
    """

    def __init__(
        self,
        transaction: Transaction,
        member: Member,
        committed: Callable[[], Mapping[TopicPartition, Committed]],
        tally: Tally,
        refused: Callable[[Work, Exception], None],
    ) -> None:
        self._member = member
        self._committed = committed
        self._transaction = transaction
        self._tally = tally
        self._refused = refused
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="effect-commit")
        self._done: list[Work] = []
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()
        self._leaving = False
        self._later: asyncio.TimerHandle | None = None

    def add(self, work: Work) -> None:
        """It is done: commit it with the next group."""
        self._done.append(work)
        if work.handler is not None or work.records:
            self._wanted.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._wanted.set)

    async def run(self) -> None:
        """Commits group after group until `leave`. Raises `Fenced`, or what does not pass within a minute."""
        while not self._leaving:
            await self._wanted.wait()
            await self.commit_all()

    def leave(self) -> None:
        """Let `run` return."""
        self._leaving = True
        self._wanted.set()

    async def commit_all(self) -> None:
        """Commits everything that is done by now, as far as positions allow. Must not be cancelled."""
        async with self._turn:
            self._wanted.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            deadline, pause = time.monotonic() + PATIENCE, SHORTEST_PAUSE
            while group := self._next_group():
                began = time.monotonic()
                committed = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, group)
                self._tally.transaction("committed" if committed else "aborted", time.monotonic() - began)
                if committed:
                    self._settle(group)
                    deadline, pause = time.monotonic() + PATIENCE, SHORTEST_PAUSE
                elif time.monotonic() > deadline:
                    raise Unavailable(f"No transaction could be committed for {PATIENCE:g} s.")
                else:
                    await asyncio.sleep(pause)
                    pause = min(LONGEST_PAUSE, pause * 2)

    async def close(self) -> None:
        """Let go of the producer."""
        if self._later is not None:
            self._later.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction.close)
        self._thread.shutdown(wait=False)

    def _next_group(self) -> Group | None:
        """Planned anew each time: partitions may have gone, and more may be done."""
        self._done = [work for work in self._done if not work.partition.gone]
        by_partition: defaultdict[Partition, dict[int, Work]] = defaultdict(dict)
        for work in self._done[:MOST_WORKS]:
            by_partition[work.partition][work.offset] = work
        group = Group([])
        for partition, works in by_partition.items():
            offsets = partition.watermark.fitting(works.keys())
            if offsets:
                group.works += [works[offset] for offset in works if offset in offsets]
                group.offsets[partition.at], group.metadata[partition.at] = partition.watermark.progress(offsets)
        return group if group.works else None

    def _settle(self, group: Group) -> None:
        settled = set(group.works)
        self._done = [work for work in self._done if work not in settled]
        for work in group.works:
            work.partition.watermark.finish({work.offset})
            work.partition.settled += 1
            topic, name = work.message.topic(), work.handler.name if work.handler else None
            if work.error is not None:
                self._tally.dead_letter(name, topic, reason_of(work.error))
            elif work.handler is not None:
                self._tally.handled[work.handler.name, topic] += 1

    # On the thread that commits

    def _write(self, group: Group) -> bool:
        """Whether it is committed; if not, nothing of it is, and it can be planned again."""
        try:
            self._transaction.begin()
            if not self._produce(group):
                self._transaction.abort()
                return False
            self._transaction.commit(self._member, group.offsets, group.metadata)
        except CommitUnknown:
            return self._was_committed(group)
        except KafkaFault as fault:
            if not fault.retriable:
                raise
            log.warning("outcomes could not be committed; again", error=str(fault))
            return False
        return True

    def _produce(self, group: Group) -> bool:
        """Whether Kafka takes it all; an event whose outcome it does not take is set aside."""
        for work in group.works:
            try:
                for topic, key, value, headers in work.records:
                    self._transaction.produce(topic, value, key, headers)
            except EncodeError as error:
                if work.error is not None:
                    raise
                self._refused(work, error)
                return False
        return True

    def _was_committed(self, group: Group) -> bool:
        """Asks, once the transaction is settled. Whatever is done adds to a position, so equal ones tell."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._transaction.start()
                found = self._committed()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(SHORTEST_PAUSE)
            else:
                return any(found.get(at) == (offset, group.metadata[at]) for at, offset in group.offsets.items())
