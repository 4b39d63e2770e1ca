"""A simulated consumer: a member of a group."""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from millstream.errors import TopicMissing, Unavailable
from millstream.kafka.port import HOLD, Committed, Isolation, Message, Offsets, OnAssigned, OnTaken, TopicPartition
from millstream.settings import Settings
from millstream.testing.simulation.cluster.clients.client import (
    AGAIN,
    EARLIEST,
    LATEST,
    TRANSIENT,
    Client,
    failure_of,
    offsets_by_topic,
)
from millstream.testing.simulation.cluster.clients.consumer_coordinator import Change, ConsumerCoordinator
from millstream.testing.simulation.cluster.clients.fetcher import Fetcher
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.scheduler.tasks import Awaited, Steps
from millstream.timeouts import CLOSE_TIMEOUT, REQUEST_TIMEOUT

MIN_TIMEOUT = 0.000_01
"""Seconds that a call takes which waits for nothing: a loop of such calls must not stop the time."""


class SimulatedConsumer(Client):
    """`millstream.kafka.port.Consumer`; see there for the contract."""

    def __init__(
        self,
        host: Host,
        settings: Settings,
        client_id: str,
        group: str,
        instance: str | None,
        isolation: Isolation,
        strategy: str,
    ) -> None:
        super().__init__(host, client_id)
        self._group = group
        self._isolation: Isolation = isolation
        self._changes: deque[tuple[Change, list[TopicPartition], Awaited[None]]] = deque()
        self._fetcher = Fetcher(self, group, isolation)
        self._coordinator = ConsumerCoordinator(self, group, instance, strategy, settings, self._request_change)
        self._on_assigned: OnAssigned = _ignore
        self._on_taken: dict[str, OnTaken] = {"revoked": _ignore, "lost": _ignore}
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
        self._on_taken = {"revoked": on_revoked or _ignore, "lost": on_lost or on_revoked or _ignore}
        self._coordinator.subscribe(topics)

    def poll_batch(self, max_records: int = 200, timeout: float = 0.1) -> list[Message]:
        self.scheduler.wait(
            lambda: self._changes or self._fetcher.queue or self._coordinator.error, max(timeout, MIN_TIMEOUT)
        )
        if self._coordinator.error is not None:
            raise self._coordinator.error
        while self._changes:
            self._apply(*self._changes.popleft())
        batch = self._fetcher.take(max_records)
        if batch:
            self.record(f"reads {_spans(batch)}")
        else:
            self._check_missing()
        return batch

    def assignment(self) -> list[TopicPartition]:
        return sorted(self._fetcher.partitions)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._fetcher.pause(partitions)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._fetcher.resume(partitions)

    def seek(self, offsets: Offsets) -> None:
        self._fetcher.seek(offsets)

    def rewind(self, timeout: float = REQUEST_TIMEOUT) -> None:
        committed = self.committed(self.assignment(), timeout)
        self.seek(
            {partition: EARLIEST if found.offset is None else found.offset for partition, found in committed.items()}
        )

    def position(self) -> dict[TopicPartition, int]:
        states = self._fetcher.partitions.items()
        return {partition: state.position for partition, state in states if state.position is not None}

    def committed(
        self, partitions: Sequence[TopicPartition], timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, Committed]:
        doing = f"asking what group {self._group!r} has committed"
        found = self.do(self.committed_offsets(self._group, partitions, doing), timeout, doing)
        return {key: Committed(offset if offset >= 0 else None, note) for key, (offset, note) in found.items()}

    def watermarks(self, partition: TopicPartition, timeout: float = REQUEST_TIMEOUT) -> tuple[int, int]:
        doing = f"asking for the end of {partition[0]}[{partition[1]}]"

        def steps() -> Steps[tuple[int, int]]:
            first = yield from self.offsets_now({partition: EARLIEST}, self._isolation, doing)
            last = yield from self.offsets_now({partition: LATEST}, self._isolation, doing)
            return first[partition], last[partition]

        return self.do(steps(), timeout, doing)

    def lag(self) -> dict[TopicPartition, int]:
        return self._fetcher.lag()

    def commit(
        self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> None:
        if offsets:
            doing = f"committing offsets of group {self._group!r}"
            self.do(self._commit(offsets, metadata or {}, doing), timeout, doing)
            self.record(f"group {self._group} commits {_offsets(offsets)}")

    def group_metadata(self) -> Any:
        return self._coordinator.metadata

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if mine := self.assignment():
                self._on_taken["revoked"](mine)
        finally:
            self._fetcher.close()
            with suppress(Unavailable):  # its session times out then
                self.do(self._coordinator.leave(), timeout, f"leaving group {self._group!r}")
            self._coordinator.close()
            self.connection.close()

    def _request_change(self, change: Change, partitions: list[TopicPartition]) -> Awaited[None]:
        done: Awaited[None] = Awaited()
        self._changes.append((change, partitions, done))
        return done

    def _apply(self, change: Change, partitions: list[TopicPartition], done: Awaited[None]) -> None:
        partitions = sorted(partitions)
        self.record(f"group {self._group} {change}: {_names(partitions)}")
        try:
            if change == "assigned":
                starts = self._on_assigned(partitions) or {}
                self._fetcher.assign([at for at in partitions if starts.get(at) != HOLD], starts)
            else:
                try:
                    self._on_taken[change](partitions)
                finally:
                    self._fetcher.drop(partitions)
        finally:
            done.succeed(None)

    def _commit(self, offsets: Offsets, notes: Mapping[TopicPartition, str], doing: str) -> Steps[None]:
        while True:
            member = self._coordinator.metadata
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
            if errors[0] not in TRANSIENT:
                raise failure_of(errors[0], doing)
            yield AGAIN

    def _check_missing(self) -> None:
        for topic, deadline in self._coordinator.missing.items():
            if self.scheduler.now > deadline:
                raise TopicMissing(f"Topic {topic!r} does not exist, and group {self._group!r} wants to read it.")


def _ignore(partitions: list[TopicPartition]) -> None:
    """Take no notice of partitions that come and go."""


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
