"""The broker itself: no sockets, no clock. Time comes from the `clock` it is given; its owner runs `timers`."""

import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from millstream.local.broker.coordinator.groups import Groups
from millstream.local.broker.coordinator.journal import Entry, Journal
from millstream.local.broker.coordinator.offsets import Offsets, TopicPartition
from millstream.local.broker.coordinator.transactions import Transactions
from millstream.local.broker.errors import DataError
from millstream.local.broker.fetch_sessions import FetchSessions
from millstream.local.broker.log.batch import BatchHeader
from millstream.local.broker.log.files import Files, replace_file
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Clock, Timers
from millstream.local.broker.topics import Topic, Topics

log = logging.getLogger(__name__)

NODE_ID = 1
CHECKPOINT_BYTES = 32 << 20
CHECKPOINT_BATCHES = 20_000
HOUSEKEEPING_MS = 30_000
PRODUCER_EXPIRY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Options:
    """`fsync`: acknowledge only what has reached the disk. `auto_create_partitions`: create a topic of so many
    partitions when a client asks for one that is missing; 0 does not. `initial_rebalance_delay` in
    milliseconds."""

    fsync: bool = False
    auto_create_partitions: int = 0
    initial_rebalance_delay: int = 0


class Broker:
    """All that a Kafka broker knows and does, over the files in `data`.

    `host` and `port` are what clients are told. Raises DataError if the files are damaged. Whoever makes one runs
    `timers.run_due()` when `timers.next_at()` has come, and calls `close()` in the end.
    """

    def __init__(self, data: Path, clock: Clock, options: Options | None = None) -> None:
        self.options = options or Options()
        self.host = "127.0.0.1"
        self.port = 0
        self.clock = clock
        self.timers = Timers(clock)
        self._data = data
        self._checkpoint = data / "checkpoint"
        self._woken: dict[Callable[[], None], None] = {}
        self._unchecked_bytes = 0
        self._unchecked_batches = 0
        (data / "topics").mkdir(parents=True, exist_ok=True)
        self.cluster_id = self._load_cluster_id()
        self._files = Files(fsync=self.options.fsync)
        self._journal = Journal(data / "coordinator.journal", self._files)
        self.topics = Topics(data / "topics", self._files, self._prepare)
        self.fetch_sessions = FetchSessions(self.topics, clock)
        self.offsets = Offsets(self._journal)
        self.groups = Groups(self._journal, self.timers, self.options.initial_rebalance_delay)
        self.transactions = Transactions(self._journal, self.offsets, self.timers, self._write_marker)
        self._journal.snapshot = self._snapshot
        self._load()
        self.timers.after(HOUSEKEEPING_MS, self._keep_house)

    def topic_for(self, name: str) -> Topic:
        """The topic, created on first use where that is switched on. Raises Refused."""
        if self.options.auto_create_partitions and name not in self.topics.by_name:
            self.topics.create(name, self.options.auto_create_partitions, {})
        return self.topics.get(name)

    def wake(self, action: Callable[[], None]) -> None:
        """Run `action` once, when the present request has been carried out: then it sees all that the request
        changed."""
        self._woken[action] = None

    def settle(self) -> None:
        """Call after each request and each round of timers: wakes readers and does what must not come amid a change."""
        while self._woken:
            woken, self._woken = self._woken, {}
            for action in woken:
                action()
        try:
            self._journal.rewrite_if_grown()
            if self._unchecked_bytes > CHECKPOINT_BYTES or self._unchecked_batches > CHECKPOINT_BATCHES:
                self.checkpoint()
        except OSError as error:  # both only save the next start some time
            log.warning("cannot tidy up in %s: %s", self._data, error.strerror)
            self._unchecked_bytes = self._unchecked_batches = 0

    def checkpoint(self) -> None:
        """Note how far the logs are known to be good, so that the next start reads only what follows."""
        partitions = {f"{topic.id}-{p.index}": p.checkpoint() for topic, p in self.topics.partitions()}
        text = json.dumps(partitions, separators=(",", ":")).encode()
        replace_file(self._checkpoint, b"%08x %s" % (zlib.crc32(text), text), sync=self.options.fsync)
        self._unchecked_bytes = self._unchecked_batches = 0

    def close(self) -> None:
        self.checkpoint()
        self._journal.rewrite()
        self._files.close()

    def _load_cluster_id(self) -> str:
        path = self._data / "cluster.id"
        if not path.exists():
            replace_file(path, uuid4().hex[:22].encode())
        return path.read_text()

    def _load(self) -> None:
        self.topics.load(self._read_checkpoint())
        for entry in self._journal.load():
            if not any(part.apply(entry) for part in (self.offsets, self.transactions, self.groups)):
                raise DataError(f"the coordinator's journal has an entry of an unknown kind: {entry[:1]}")
        self.topics.on_delete = lambda topic: self.offsets.forget_topic(topic.name)
        self.groups.recover(self.offsets.groups())
        self.transactions.recover()

    def _read_checkpoint(self) -> dict[str, Any]:
        if not self._checkpoint.exists():
            return {}
        data = self._checkpoint.read_bytes()
        if data[:8] != b"%08x" % zlib.crc32(data[9:]):
            log.warning("%s is damaged; reading the logs from their beginning", self._checkpoint)
            return {}
        return json.loads(data[9:])

    def _prepare(self, partition: Partition) -> None:
        partition.on_append = self._appended
        partition.guard = self._guard

    def _appended(self, size: int) -> None:
        self._unchecked_bytes += size
        self._unchecked_batches += 1

    def _guard(self, partition: Partition, header: BatchHeader) -> None:
        self.transactions.check_write((partition.topic, partition.index), header.producer_id, header.producer_epoch)

    def _write_marker(self, partition: TopicPartition, producer_id: int, epoch: int, *, commit: bool) -> None:
        written_to = self.topics.partition(*partition)
        if written_to is not None:
            rules = self.topics.by_name[partition[0]].rules
            written_to.end_transaction(producer_id, epoch, commit=commit, now=self.clock(), rules=rules)

    def _snapshot(self) -> list[Entry]:
        return [*self.groups.snapshot(), *self.offsets.snapshot(), *self.transactions.snapshot()]

    def _keep_house(self) -> None:
        self.timers.after(HOUSEKEEPING_MS, self._keep_house)
        now = self.clock()
        for topic, partition in self.topics.partitions():
            if "delete" in topic.config("cleanup.policy"):
                partition.log.retain(
                    now,
                    retention_ms=int(topic.config("retention.ms")),
                    retention_bytes=int(topic.config("retention.bytes")),
                    segment_ms=int(topic.config("segment.ms")),
                    keep_from=partition.stable_offset,
                )
            partition.producers.forget_idle(now - PRODUCER_EXPIRY_MS)
        if self._unchecked_batches:
            self.checkpoint()
