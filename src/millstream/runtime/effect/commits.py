"""Commits of finished effects: outputs and positions together. While one group commits, the next gathers."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from millstream.errors import CommitUnknown, EncodeError, KafkaFault, RecordsRefused, Unavailable
from millstream.kafka.port import Committed, TopicPartition
from millstream.runtime.effect.group_member import GroupMemberProxy, GroupMetadataSnapshot
from millstream.runtime.effect.in_flight import Completion, InFlight, Partition
from millstream.runtime.effect.parked_topic import record_of
from millstream.runtime.loop.topic_ids import TopicIds
from millstream.runtime.loop.transaction import Transaction
from millstream.runtime.records.dead_letter import reason_of
from millstream.runtime.task.metrics import WorkerMetrics
from millstream.telemetry import get_logger, native_call
from millstream.timeouts import COMMIT_PAUSES, OUTAGE_SECONDS

log = get_logger(__name__)

QUIET_SECONDS = 0.5
"""Events of no concern move the offset, and nothing else: that may wait for company this long."""
MAX_COMPLETIONS = 2_000
"""Completions in one transaction."""


@dataclass(slots=True)
class Group:
    """Completions that commit together, and the positions that they make.

    - `group_metadata`: the consumer's group metadata from before it was planned; a rebalance since then fences it.
    """

    group_metadata: Any
    completions: list[Completion] = field(default_factory=list)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    metadata: dict[TopicPartition, str] = field(default_factory=dict)

    def gone(self) -> bool:
        """Return whether another instance has one of its partitions by now."""
        return any(completion.gone for completion in self.completions)


class Refusal(NamedTuple):
    """A completion with a record that Kafka refuses, and the topic of that record."""

    completion: Completion
    error: EncodeError
    topic: str


class Commits:
    """Commits finished events in groups. On the worker's event loop, but for what it hands to its own one thread.

    - `member`: the consumer's place in its group, for the offsets.
    - `parked`: the parked topic.
    - `committed`: asks for the committed offsets of the group.
    - `ids`: of the topics that offsets are of.
    - `refused`: dead-letters an event whose outputs Kafka refuses.
    - `not_parked`: dead-letters an event that Kafka does not let be parked.
    - `ask_limits`: called on the thread that commits, outside transactions, after a topic refused a record.
    """

    def __init__(
        self,
        transaction: Transaction,
        member: GroupMemberProxy,
        parked: str,
        committed: Callable[[], Mapping[TopicPartition, Committed]],
        metrics: WorkerMetrics,
        refused: Callable[[Completion, EncodeError], None],
        not_parked: Callable[[Completion, EncodeError], None],
        ask_limits: Callable[[Sequence[str]], None],
        ids: TopicIds,
    ) -> None:
        self._member = member
        self._parked = parked
        self._committed = committed
        self._transaction = transaction
        self._metrics = metrics
        self._refused = refused
        self._not_parked = not_parked
        self._ask_limits = ask_limits
        self._refusal: Refusal | None = None
        """The refusal for which the last transaction was aborted, where a single completion caused it."""
        self._ids = ids
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="effect-commit")
        self._done: list[Completion] = []
        self._together = MAX_COMPLETIONS
        """Completions in one transaction; fewer while a refused record is searched for."""
        self._incarnation = f"{int(time.time() * 1_000):x}"
        self._marks = 0
        self._wanted = asyncio.Event()
        self._turn = asyncio.Lock()
        self._leaving = False
        self._later: asyncio.TimerHandle | None = None

    def add(self, completion: Completion) -> None:
        """Commit it with the next group."""
        self._done.append(completion)
        if not completion.quiet:
            self._wanted.set()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._wanted.set)

    async def run(self) -> None:
        """Commit group after group until `leave`. Raises `Fenced`, or what does not pass within a minute."""
        while not self._leaving:
            await self._wanted.wait()
            await self.commit_all()

    def leave(self) -> None:
        """Let `run` return."""
        self._leaving = True
        self._wanted.set()

    async def commit_all(self) -> None:
        """Commit everything that is done by now, as far as positions allow. Must not be cancelled."""
        async with self._turn:
            self._wanted.clear()
            if self._later is not None:
                self._later.cancel()
                self._later = None
            deadline, pause = time.monotonic() + OUTAGE_SECONDS, COMMIT_PAUSES.first
            while group := self._next_group():
                began = time.monotonic()
                # Watched from here, too: a thread that is gone gives no answer.
                with native_call("commit", self._parked, OUTAGE_SECONDS):
                    committed = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, group)
                self._metrics.transaction("committed" if committed else "aborted", time.monotonic() - began)
                if (refusal := self._refusal) is not None:
                    self._refusal = None
                    self._change(*refusal)
                if committed:
                    self._settle(group)
                    deadline, pause = time.monotonic() + OUTAGE_SECONDS, COMMIT_PAUSES.first
                elif time.monotonic() > deadline:
                    raise Unavailable(f"No transaction could be committed for {OUTAGE_SECONDS:g} s.")
                else:
                    await asyncio.sleep(pause)
                    pause = COMMIT_PAUSES.after(pause)

    async def close(self) -> None:
        """Let go of the producer."""
        if self._later is not None:
            self._later.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction.close)
        self._thread.shutdown(wait=False)

    def _next_group(self) -> Group | None:
        """Plan a transaction. Done for each attempt: partitions may have gone, and more may be finished."""
        # Taken before looking at what is gone, so that it is never newer than the partitions that are planned with.
        group = Group(self._member.group_metadata())
        self._done = [completion for completion in self._done if not completion.gone]
        completions = self._done[: self._together]
        passed: defaultdict[Partition, set[int]] = defaultdict(set)
        for completion in completions:
            if completion.passes:
                passed[completion.partition].add(completion.item.offset)
        fitting = {partition: partition.watermark.fitting(offsets) for partition, offsets in passed.items()}
        waiting: set[InFlight] = set()
        for completion in completions:
            if completion.passes and completion.item.offset not in fitting[completion.partition]:
                waiting.add(completion.item)
            if completion.item not in waiting:
                group.completions.append(completion)
        for partition in dict.fromkeys(completion.partition for completion in group.completions):
            self._move(group, partition, fitting.get(partition, frozenset()))
        if not group.completions and self._together < len(self._done):
            # Those that were looked at wait for others.
            self._together = MAX_COMPLETIONS
            return self._next_group()
        return group if group.completions else None

    def _narrow_down(self, group: Group, refused: RecordsRefused) -> None:
        """A broker refuses a batch and does not say for which record: half as many completions are tried next. One
        alone is
        the one."""
        log.warning(
            "records refused",
            code="records_refused",
            topic=refused.topic,
            completions=len(group.completions),
            error=str(refused),
        )
        self._together = max(1, len(group.completions) // 2)
        if len(group.completions) == 1:
            self._refusal = Refusal(group.completions[0], refused, refused.topic)
        self._ask_limits([refused.topic])

    def _change(self, completion: Completion, error: EncodeError, topic: str) -> None:
        """Replace a completion of which Kafka refuses a record for `topic` by a dead letter.

        No handler is called again.
        """
        if completion.gone:
            return
        if completion.parked is None or topic != self._parked:
            self._refused(completion, error)
            return
        self._done.remove(completion)
        later = next((other for other in self._done if other.item is completion.item), None)
        if later is not None:
            # A later completion of the same event is there: the position moves past the event with that one.
            later.passes |= completion.passes
            later.records = [*completion.records, *later.records]
            completion.passes, completion.records = False, []
        self._not_parked(completion, error)

    def _move(self, group: Group, partition: Partition, passed: Set[int]) -> None:
        # What is retried moves no position: a mark beside it tells whether its transaction was committed.
        mark = ""
        if not passed:
            self._marks += 1
            mark = f"{self._incarnation}.{self._marks:x}"
        offset, done = partition.watermark.progress(passed)
        group.offsets[partition.at] = offset
        group.metadata[partition.at] = self._ids.note(partition.at[0], offset, done=done, mark=mark)

    def _settle(self, group: Group) -> None:
        settled = set(group.completions)
        self._together = min(MAX_COMPLETIONS, 2 * self._together)
        self._done = [completion for completion in self._done if completion not in settled]
        for completion in group.completions:
            item = completion.item
            if completion.passes:
                item.partition.watermark.finish({item.offset})
                item.partition.settled += 1
            topic, name = item.message.topic(), item.handler.name if item.handler else None
            if completion.error is not None:
                self._metrics.dead_letter(name, topic, reason_of(completion.error))
            elif completion.handled and name is not None:
                self._metrics.handled[name, topic] += 1

    # On the thread that commits

    def _write(self, group: Group) -> bool:
        """Return whether the group is committed; if not, nothing of it is, and it can be planned again."""
        try:
            self._transaction.begin()
            if not self._produce(group) or group.gone():
                self._transaction.abort()
                return False
            group_metadata = GroupMetadataSnapshot(self._member, group.group_metadata, group.gone)
            self._transaction.commit(group_metadata, group.offsets, group.metadata)
        except CommitUnknown:
            return self._was_committed(group)
        except RecordsRefused as refused:
            self._narrow_down(group, refused)
            return False
        except KafkaFault as fault:
            if not fault.retriable:
                raise
            log.warning("outcomes could not be committed; again", code="outcomes_not_committed", error=str(fault))
            return False
        return True

    def _produce(self, group: Group) -> bool:
        """Return True when Kafka takes it all."""
        for completion in group.completions:
            topic = self._parked
            try:
                self._write_parked(completion)
                for topic, key, value, headers in completion.records:
                    self._transaction.produce(topic, value, key, headers)
            except RecordsRefused:  # of whatever is in this transaction
                raise
            except EncodeError as error:
                self._refusal = Refusal(completion, error, topic)
                return False
        return True

    def _write_parked(self, completion: Completion) -> None:
        """Write to the parked topic what a completion parks, or a tombstone for what it releases."""
        if completion.parked is not None or completion.unparked:
            key, value = record_of(completion.item.message, completion.parked)
            self._transaction.produce(self._parked, value, key, partition=completion.item.message.partition())

    def _was_committed(self, group: Group) -> bool:
        """Ask the group, once the transaction is settled.

        Each completion changes a position, so equal ones are proof.
        """
        deadline = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                self._transaction.start()
                found = self._committed()
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(COMMIT_PAUSES.first)
            else:
                return any(found.get(at) == (offset, group.metadata[at]) for at, offset in group.offsets.items())
