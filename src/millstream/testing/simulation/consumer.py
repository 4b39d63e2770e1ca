"""A member of a group, in a world."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from millstream.errors import TopicMissing, Unavailable
from millstream.kafka.port import HOLD, Committed, Isolation, Message, Offsets, OnAssigned, OnTaken, TopicPartition
from millstream.settings import Settings
from millstream.testing.simulation.client import (
    AFTER_EVERYTHING,
    AGAIN,
    BEFORE_EVERYTHING,
    PASSING,
    Client,
    by_topic,
    failure_of,
)
from millstream.testing.simulation.fetching import Fetcher
from millstream.testing.simulation.membership import How, Membership
from millstream.testing.simulation.tasks import Awaited, Steps

if TYPE_CHECKING:
    from millstream.testing.simulation.world import World

A_MOMENT = 0.000_01
"""Seconds that a call takes which waits for nothing: a loop of such calls must not stop the time."""


class SimulatedConsumer(Client):
    """`millstream.kafka.port.Consumer`; see there for the contract."""

    def __init__(
        self,
        world: "World",
        settings: Settings,
        client_id: str,
        group: str,
        instance: str | None,
        isolation: Isolation,
        strategy: str,
    ) -> None:
        super().__init__(world, client_id)
        self._group = group
        self._isolation: Isolation = isolation
        self._fetcher = Fetcher(self, group, isolation)
        self._membership = Membership(self, group, instance, strategy, settings, self._change)
        self._changes: deque[tuple[How, list[TopicPartition], Awaited[None]]] = deque()
        self._on_assigned: OnAssigned = lambda partitions: None
        self._on_taken: dict[str, Callable[[list[TopicPartition]], Any]] = {}
        self._closed = False

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        on_assigned: OnAssigned | None = None,
        on_revoked: OnTaken | None = None,
        on_lost: OnTaken | None = None,
    ) -> None:
        if on_assigned is not None:
            self._on_assigned = on_assigned
        nothing: OnTaken = lambda partitions: None  # noqa: E731 a default
        self._on_taken = {"revoked": on_revoked or nothing, "lost": on_lost or on_revoked or nothing}
        self._membership.subscribe(topics)

    def poll_batch(self, max_records: int = 200, timeout: float = 0.1) -> list[Message]:
        self.world.wait(lambda: self._changes or self._fetcher.queue or self._membership.error, max(timeout, A_MOMENT))
        if self._membership.error is not None:
            raise self._membership.error
        while self._changes:
            self._carry_out(*self._changes.popleft())
        batch = self._fetcher.take(max_records)
        if batch:
            self.tell(f"reads {_spans(batch)}")
        else:
            self._check_missing()
        return batch

    def assignment(self) -> list[TopicPartition]:
        return sorted(self._fetcher.places)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._fetcher.pause(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._fetcher.resume(partitions)

    def seek(self, offsets: Offsets) -> None:
        self._fetcher.seek(offsets)

    def rewind(self, timeout: float = 10.0) -> None:
        committed = self.committed(self.assignment(), timeout)
        self.seek(
            {
                partition: BEFORE_EVERYTHING if found.offset is None else found.offset
                for partition, found in committed.items()
            }
        )

    def position(self) -> dict[TopicPartition, int]:
        places = self._fetcher.places.items()
        return {partition: place.position for partition, place in places if place.position is not None}

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = 10.0) -> dict[TopicPartition, Committed]:
        doing = f"asking what group {self._group!r} has committed"
        found = self.do(self.committed_offsets(self._group, partitions, doing), timeout, doing)
        return {key: Committed(offset if offset >= 0 else None, note) for key, (offset, note) in found.items()}

    def watermarks(self, partition: TopicPartition, timeout: float = 10.0) -> tuple[int, int]:
        doing = f"asking for the end of {partition[0]}[{partition[1]}]"

        def steps() -> Steps[tuple[int, int]]:
            first = yield from self.offsets_now({partition: BEFORE_EVERYTHING}, self._isolation, doing)
            last = yield from self.offsets_now({partition: AFTER_EVERYTHING}, self._isolation, doing)
            return first[partition], last[partition]

        return self.do(steps(), timeout, doing)

    def lag(self) -> dict[TopicPartition, int]:
        return self._fetcher.lag()

    def commit(
        self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None, timeout: float = 10.0
    ) -> None:
        if offsets:
            doing = f"committing offsets of group {self._group!r}"
            self.do(self._commit(offsets, metadata or {}, doing), timeout, doing)
            self.tell(f"group {self._group} commits {_offsets(offsets)}")

    def group_metadata(self) -> Any:
        return self._membership.metadata

    def close(self, timeout: float = 5.0) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if mine := self.assignment():
                self._on_taken["revoked"](mine)
        finally:
            self._fetcher.close()
            with suppress(Unavailable):  # it leaves by its session's end then
                self.do(self._membership.leave(), timeout, f"leaving group {self._group!r}")
            self._membership.close()
            self.connection.close()

    def _change(self, how: How, partitions: list[TopicPartition]) -> Awaited[None]:
        done: Awaited[None] = Awaited()
        self._changes.append((how, partitions, done))
        return done

    def _carry_out(self, how: How, partitions: list[TopicPartition], done: Awaited[None]) -> None:
        partitions = sorted(partitions)
        self.tell(f"group {self._group} {how}: {_names(partitions)}")
        try:
            if how == "assigned":
                starts = self._on_assigned(partitions) or {}
                self._fetcher.assign([at for at in partitions if starts.get(at) != HOLD], starts)
            else:
                try:
                    self._on_taken[how](partitions)
                finally:
                    self._fetcher.drop(partitions)
        finally:
            done.succeed(None)

    def _commit(self, offsets: Offsets, notes: Mapping[TopicPartition, str], doing: str) -> Steps[None]:
        while True:
            member = self._membership.metadata
            answer = yield from self.ask(
                "offset_commit",
                group_id=self._group,
                generation_id_or_member_epoch=member.generation,
                member_id=member.member_id if member.generation >= 0 else "",
                group_instance_id=member.instance if member.generation >= 0 else None,
                topics=offsets_by_topic(offsets, notes),
            )
            errors = [entry.error_code for topic in answer.topics for entry in topic.partitions if entry.error_code]
            if not errors:
                return
            if errors[0] not in PASSING:
                raise failure_of(errors[0], doing)
            yield AGAIN

    def _check_missing(self) -> None:
        for topic, patience in self._membership.missing.items():
            if self.world.now > patience:
                raise TopicMissing(f"Topic {topic!r} does not exist, and group {self._group!r} wants to read it.")


def offsets_by_topic(offsets: Offsets, notes: Mapping[TopicPartition, str]) -> list[dict[str, Any]]:
    """Offsets as both kinds of commit take them."""
    return [
        {
            "name": topic,
            "partitions": [
                {
                    "partition_index": index,
                    "committed_offset": offset,
                    "committed_leader_epoch": -1,
                    "committed_metadata": notes.get((topic, index), ""),
                }
                for index, offset in entries
            ],
        }
        for topic, entries in by_topic(dict(offsets)).items()
    ]


def _names(partitions: Sequence[TopicPartition]) -> str:
    return ", ".join(f"{topic}[{index}]" for topic, index in partitions) or "nothing"


def _offsets(offsets: Offsets) -> str:
    return ", ".join(f"{topic}[{index}]@{offset}" for (topic, index), offset in offsets.items())


def _spans(batch: Sequence[Message]) -> str:
    spans: dict[TopicPartition, tuple[int, int]] = {}
    for message in batch:
        key = (message.topic(), message.partition())
        spans[key] = (spans.get(key, (message.offset(), 0))[0], message.offset())
    return ", ".join(f"{topic}[{index}] {first}–{last}" for (topic, index), (first, last) in spans.items())
