"""A member of a consumer group, on librdkafka."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer as Librdkafka
from confluent_kafka.cimpl import KafkaError, KafkaException
from confluent_kafka.cimpl import TopicPartition as Native

from millstream.errors import Fenced, KafkaFault, TopicMissing, Unavailable
from millstream.kafka.faults import MISSING, REBALANCING, REFUSED, fault, is_fatal, kafka_error, made
from millstream.kafka.log_throttle import LogThrottle
from millstream.kafka.port import HOLD, Committed, Message, Offsets, OnAssigned, OnTaken, TopicPartition
from millstream.kafka.read import watermarks
from millstream.kafka.static_member import has_other_holder
from millstream.kafka.unreadable import with_safe_headers
from millstream.telemetry import metrics
from millstream.telemetry.logs import get_logger
from millstream.timeouts import CLOSE_TIMEOUT, MISSING_TOPIC_TIMEOUT, REQUEST_TIMEOUT

log = get_logger(__name__)


class GroupConsumer:
    """`millstream.kafka.port.Consumer` over librdkafka; see there for the contract."""

    def __init__(
        self,
        properties: dict[str, Any],
        on_error: Callable[[KafkaFault], None] | None = None,
        missing_grace: float = MISSING_TOPIC_TIMEOUT,
    ) -> None:
        self.group: str = properties["group.id"]
        self._on_error = on_error
        self._missing_grace = missing_grace
        self._ends: dict[TopicPartition, int] = {}
        self._gone: set[TopicPartition] = set()
        self._missing: dict[str, float] = {}
        self._topics: list[str] = []
        self._assigned: OnAssigned | None = None
        self._revoked: OnTaken | None = None
        self._lost: OnTaken | None = None
        self._incremental = properties["partition.assignment.strategy"].startswith("cooperative")
        self._closing = False
        self._log_throttle = LogThrottle()
        self._properties = properties | {"error_cb": self._trouble}
        self._members: set[str] = set()
        self._fenced_by_itself = False
        self._native = made(Librdkafka, self._properties)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        on_assigned: OnAssigned | None = None,
        on_revoked: OnTaken | None = None,
        on_lost: OnTaken | None = None,
    ) -> None:
        self._topics = list(topics)
        self._assigned, self._revoked = on_assigned, on_revoked
        self._lost = on_lost or on_revoked
        self._join()

    def _join(self) -> None:
        self._native.subscribe(self._topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._lose)

    def poll_batch(self, max_records: int = 200, timeout: float = 0.1) -> list[Message]:
        if self._fenced_by_itself:
            self._join_again()
        try:
            return self._poll_batch(max_records, timeout)
        except Fenced as fenced:
            self._look_for_another_holder(fenced)
            self._join_again()
            return []

    def _poll_batch(self, max_records: int, timeout: float) -> list[Message]:
        try:
            # consume(n, timeout) waits for n records or the whole timeout, so wait for the first alone.
            # librdkafka counts whole milliseconds; cut down to none, a wait for what is due soon would be a busy loop.
            first = self._native.poll(math.ceil(1000 * timeout) / 1000)
            if first is None:
                self._check_missing()
                return []
            batch: list[Any] = [first, *self._native.consume(max_records - 1, 0)] if max_records > 1 else [first]
        except KafkaException as raised:
            raise fault(raised, f"reading as group {self.group!r}") from raised
        records = with_safe_headers([message for message in batch if message.error() is None])
        if len(records) < len(batch):
            self._sort_out(batch)
        if self._gone:
            # A rebalance came between the first record and the rest: its records are another member's now.
            gone, self._gone = self._gone, set()
            records = [message for message in records if (message.topic(), message.partition()) not in gone]
        return records

    def assignment(self) -> list[TopicPartition]:
        return _plain(self._native.assignment())

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self._native.pause(_native(partitions))

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self._native.resume(_native(partitions))

    def seek(self, offsets: Offsets) -> None:
        for (topic, partition), offset in offsets.items():
            self._ends.pop((topic, partition), None)
            self._seek(Native(topic, partition, offset))

    def _seek(self, target: Native) -> None:
        deadline = time.monotonic() + 5.0
        while True:
            try:
                return self._native.seek(target)
            except KafkaException as raised:
                # A partition that was assigned a moment ago refuses until its fetcher has started.
                if kafka_error(raised).code() != KafkaError._STATE or time.monotonic() > deadline:
                    raise fault(raised, f"seeking {target.topic}[{target.partition}] to {target.offset}") from raised
                time.sleep(0.01)  # until it may have started

    def rewind(self, timeout: float = REQUEST_TIMEOUT) -> None:
        committed = self.committed(self.assignment(), timeout)
        self.seek({partition: -2 if found.offset is None else found.offset for partition, found in committed.items()})

    def position(self) -> dict[TopicPartition, int]:
        positions = dict(self._ends)
        for found in self._native.position(self._native.assignment()):
            if found.offset >= 0:
                key = (found.topic, found.partition)
                positions[key] = max(found.offset, positions.get(key, 0))
        return positions

    def committed(
        self, partitions: Sequence[TopicPartition], timeout: float = REQUEST_TIMEOUT
    ) -> dict[TopicPartition, Committed]:
        try:
            found = self._native.committed(_native(partitions), timeout=timeout)
        except KafkaException as raised:
            raise fault(raised, f"asking what group {self.group!r} has committed") from raised
        for entry in found:
            if entry.error is not None:
                raise fault(entry.error, f"asking what group {self.group!r} has committed for {entry.topic}")
        return {
            (entry.topic, entry.partition): Committed(entry.offset if entry.offset >= 0 else None, entry.metadata or "")
            for entry in found
        }

    def watermarks(self, partition: TopicPartition, timeout: float = REQUEST_TIMEOUT) -> tuple[int, int]:
        return watermarks(self._native, partition, timeout)

    def lag(self) -> dict[TopicPartition, int]:
        positions = self.position()
        behind: dict[TopicPartition, int] = {}
        for key in self.assignment():
            low, high = self._native.get_watermark_offsets(Native(*key), cached=True)
            if high >= 0:
                behind[key] = max(0, high - max(positions.get(key, low), low))
        return behind

    def commit(
        self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None, timeout: float = REQUEST_TIMEOUT
    ) -> None:
        if not offsets:
            return
        entries = native_offsets(offsets, metadata)
        deadline = time.monotonic() + timeout
        while True:
            error = self._try_commit(entries)
            if error is None:
                return
            failure = fault(error, f"committing offsets of group {self.group!r}")
            # Only polling gets a rebalance forward.
            hopeless = not isinstance(failure, Unavailable) or error.code() in REBALANCING
            if isinstance(failure, Fenced):
                self._look_for_another_holder(failure)
                self._fenced_by_itself = True
                raise Unavailable(f"Group {self.group!r} is joined again at the next poll: {failure}")
            if hopeless or time.monotonic() > deadline:
                raise failure
            time.sleep(0.05)  # before it is tried again

    def _look_for_another_holder(self, fenced: Fenced) -> None:
        """Raises `Fenced` where another process holds this membership, or where there is none to hold."""
        if "group.instance.id" not in self._properties or self._closing:
            raise fenced
        where = has_other_holder(self._properties, self._members)
        if where is not None:
            raise Fenced(f"{fenced} {self._properties['group.instance.id']!r} is held from {where}.") from fenced

    def _join_again(self) -> None:
        """As a new member under the same name: librdkafka's client is good for nothing once it was fenced."""
        self._fenced_by_itself = False
        log.warning(
            "group joined again",
            code="group_joined_again",
            group=self.group,
            instance=self._properties["group.instance.id"],
        )
        old, mine = self._native, self.assignment()
        self._take("lost", self._lost, old, [Native(*key) for key in mine])
        self._native = made(Librdkafka, self._properties)
        threading.Thread(target=old.close, name="kafka-close", daemon=True).start()
        self._join()

    def _try_commit(self, entries: list[Native]) -> KafkaError | None:
        try:
            answers = self._native.commit(offsets=entries, asynchronous=False)
        except KafkaException as raised:
            return kafka_error(raised)
        return next((answer.error for answer in answers or () if answer.error is not None), None)

    def group_metadata(self) -> Any:
        return self._native.consumer_group_metadata()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        if self._closing:
            return
        try:
            mine = self.assignment()
            if mine and self._revoked is not None:
                self._revoked(mine)
        finally:
            self._closing = True
            deadline = time.monotonic() + timeout
            self._settle(deadline)
            # librdkafka's close has no bound of its own; callbacks are done with, so another thread may wait for it.
            closer = threading.Thread(target=self._native.close, name="kafka-close", daemon=True)
            closer.start()
            closer.join(max(0.0, deadline - time.monotonic()))
            if closer.is_alive():
                log.warning(
                    "consumer did not close in time", code="consumer_not_closed", group=self.group, seconds=timeout
                )

    def _settle(self, deadline: float) -> None:
        """Serves the rebalances that are due.

        If two are left to librdkafka's close, the second can wait for ever, and with it, as its callback holds the
        interpreter, the whole process (librdkafka 2.16.0, its issue 4884). After `unsubscribe` none is added any more.
        """
        static = "group.instance.id" in self._properties
        with suppress(KafkaException):
            if not static:  # a static member would give up its place in the group
                self._native.unsubscribe()
            while time.monotonic() < deadline:
                mine = self._native.assignment()
                if static:
                    self._native.pause(mine)
                if not self._native.consume(1_000, 0.01) and (static or not mine):
                    return

    def _assign(self, native: Librdkafka, partitions: list[Native]) -> None:
        if self._closing or native is not self._native:
            return
        self._members.add(native.memberid())
        new = _plain(partitions)
        metrics.REBALANCES.labels(self.group, "assigned").inc()
        log.info("partitions assigned", code="partitions_assigned", group=self.group, partitions=_names(new))
        starts = self._assigned(new) if self._assigned is not None else None
        for entry in partitions:
            if starts is not None and (offset := starts.get((entry.topic, entry.partition))) is not None:
                entry.offset = offset
        partitions = [entry for entry in partitions if entry.offset != HOLD]
        self._gone.difference_update(new)
        if partitions:
            # librdkafka keeps a pause through revocation and assignment, for callers who remember it. Before the start:
            # a resume makes what was begun before it count as outdated, such as the question where a partition begins.
            native.resume(partitions)
        if self._incremental:
            native.incremental_assign(partitions)
        else:
            native.assign(partitions)

    def _revoke(self, native: Librdkafka, partitions: list[Native]) -> None:
        self._take("revoked", self._revoked, native, partitions)

    def _lose(self, native: Librdkafka, partitions: list[Native]) -> None:
        self._take("lost", self._lost, native, partitions)

    def _take(self, how: str, on_taken: OnTaken | None, native: Librdkafka, partitions: list[Native]) -> None:
        if self._closing or native is not self._native:
            return
        taken = _plain(partitions)
        metrics.REBALANCES.labels(self.group, how).inc()
        log.info(f"partitions {how}", code="partitions_taken", group=self.group, partitions=_names(taken))
        try:
            if on_taken is not None:
                on_taken(taken)
        finally:
            self._gone.update(taken)
            for key in taken:
                self._ends.pop(key, None)

    def _sort_out(self, batch: Sequence[Any]) -> None:
        for message in batch:
            error: KafkaError | None = message.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:
                self._ends[message.topic(), message.partition()] = message.offset()
            elif error.code() in MISSING:
                self._missing.setdefault(message.topic() or "?", time.monotonic() + self._missing_grace)
            else:
                self._trouble(error)

    def _trouble(self, error: KafkaError) -> None:
        """Raise what will not pass; count and log what will."""
        failure = fault(error, f"reading {', '.join(self._topics)} as group {self.group!r}")
        metrics.KAFKA_ERRORS.labels("consumer", error.name()).inc()
        if self._closing:
            return
        if is_fatal(error) or error.code() in REFUSED:
            raise failure
        if self._log_throttle(error.name()):
            log.warning("kafka trouble", code="kafka_trouble", group=self.group, error=str(failure))
        if self._on_error is not None and isinstance(failure, KafkaFault):
            self._on_error(failure)

    def _check_missing(self) -> None:
        now = time.monotonic()
        for topic, deadline in list(self._missing.items()):
            if now < deadline:
                continue
            found = self._native.list_topics(topic, timeout=5.0).topics[topic]
            if found.error is not None:
                raise TopicMissing(
                    f"Topic {topic!r} does not exist, and group {self.group!r} wants to read it. "
                    "Services make their topics when they start: start one, or check MILLSTREAM_BOOTSTRAP_SERVERS."
                )
            del self._missing[topic]


def native_offsets(offsets: Offsets, metadata: Mapping[TopicPartition, str] | None) -> list[Native]:
    """Offsets as librdkafka takes them."""
    if metadata is None:
        return [Native(topic, partition, offset) for (topic, partition), offset in offsets.items()]
    return [
        Native(topic, partition, offset, metadata.get((topic, partition), ""))
        for (topic, partition), offset in offsets.items()
    ]


def _native(partitions: Sequence[TopicPartition]) -> list[Native]:
    return [Native(topic, partition) for topic, partition in partitions]


def _plain(partitions: Sequence[Native]) -> list[TopicPartition]:
    return sorted((entry.topic, entry.partition) for entry in partitions)


def _names(partitions: Sequence[TopicPartition]) -> list[str]:
    return [f"{topic}[{partition}]" for topic, partition in partitions]
