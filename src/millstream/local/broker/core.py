"""The broker itself: no sockets, no clock. Time comes from the `clock` it is given; its owner runs `timers`."""

import errno
import json
import logging
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from millstream.local.broker.cluster_defaults import ClusterDefaults
from millstream.local.broker.coordinator.groups import Groups
from millstream.local.broker.coordinator.journal import Entry, Journal
from millstream.local.broker.coordinator.offsets import Offsets, TopicPartition
from millstream.local.broker.coordinator.retention import Retention
from millstream.local.broker.coordinator.transactions import Transactions
from millstream.local.broker.errors import DataError
from millstream.local.broker.fetch_sessions import FetchSessions
from millstream.local.broker.housekeeping import Housekeeping
from millstream.local.broker.log.batch import BatchHeader
from millstream.local.broker.log.disk import Disk
from millstream.local.broker.log.files import Files
from millstream.local.broker.partition import Partition
from millstream.local.broker.timers import Clock, Timers
from millstream.local.broker.topics import Topic, Topics

log = logging.getLogger(__name__)

NODE_ID = 1
CHECKPOINT_BYTES = 32 << 20
CHECKPOINT_BATCHES = 5_000
CHECKPOINT_MS = 30_000
CLUSTER_WRITE_MS = 2
CLUSTER_MARKERS_MS = 10
"""How long a cluster of three takes to write what a coordinator decides, and then the markers of a transaction."""
FLUSH_BYTES = 8 << 20
"""No more waits for the next interval: to sync a second of heavy load at once would keep the clients waiting."""


@dataclass(frozen=True)
class Options:
    """`flush`: when what was written is put on the disk. "never": when the system likes; what was acknowledged survives
    the death of this process. "interval": every `flush_interval` milliseconds. "ack": before it is acknowledged or
    shown to anybody; it survives the machine's death too. `auto_create_partitions`: create a topic of so many
    partitions when a client asks for one that is missing; 0 does not. `initial_rebalance_delay` in
    milliseconds. `like_a_cluster`: transactions take the time that they take on a cluster."""

    flush: Literal["never", "interval", "ack"] = "never"
    flush_interval: int = 1000
    auto_create_partitions: int = 0
    initial_rebalance_delay: int = 0
    like_a_cluster: bool = False


class Broker:
    """All that a Kafka broker knows and does, over the files in `data`.

    `host` and `port` are what clients are told. Raises DataError if the files are damaged. Whoever makes one runs
    `timers.run_due()` when `timers.next_at()` has come, sends every answer by `when_durable`, calls `flush()` soon
    after `on_held` has asked for it, and `close()` in the end.
    """

    def __init__(self, data: Path, clock: Clock, options: Options | None = None, disk: Disk | None = None) -> None:
        self.options = options or Options()
        self.host = "127.0.0.1"
        self.port = 0
        self.clock = clock
        self.timers = Timers(clock)
        self.data = data
        self._checkpoint = data / "checkpoint"
        self._woken: dict[Callable[[], None], None] = {}
        self._unchecked_bytes = 0
        self._unchecked_batches = 0
        self._files = Files(durable=self.options.flush != "never", disk=disk)
        self._holds = self.options.flush == "ack"
        self._held: list[Callable[[bool], None]] = []
        self._failures_known = 0
        self.on_held: Callable[[], None] = lambda: None
        self._journal = Journal(data / "coordinator.journal", self._files, ordered=self._holds)
        data.mkdir(parents=True, exist_ok=True)
        self._files.make_folder(data / "topics")
        self.cluster_id = self._load_cluster_id()
        self.cluster_defaults = ClusterDefaults(data / "cluster.defaults", self._files)
        self.topics = Topics(data / "topics", self._files, self._prepare)
        self.fetch_sessions = FetchSessions(self.topics, clock)
        self.offsets = Offsets(self._journal)
        self.groups = Groups(self._journal, self.timers, self.options.initial_rebalance_delay)
        self.transactions = Transactions(
            self._journal,
            self.offsets,
            self.timers,
            self._write_marker,
            markers_after=CLUSTER_MARKERS_MS if self.options.like_a_cluster else 0,
        )
        self.refused_groups: set[str] = set()
        """Groups of protocols that are not spoken, of which the log has told."""
        self.retention = Retention(self.groups, self.offsets, self.transactions, self.timers)
        self._journal.snapshot = self._snapshot
        self._load()
        self.housekeeping = Housekeeping(self._files, self.topics, self.timers, self.checkpoint)
        self.housekeeping.start()
        self.timers.after(CHECKPOINT_MS, self._checkpoint_sometimes)
        if self.options.flush == "interval":
            self.timers.after(self.options.flush_interval, self._flush_sometimes)

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
        if self._files.unsynced_bytes > FLUSH_BYTES:
            self.flush()
        while self._woken:
            woken, self._woken = self._woken, {}
            for action in woken:
                action()
        try:
            self._journal.rewrite_if_grown()
            if self._unchecked_bytes > CHECKPOINT_BYTES or self._unchecked_batches > CHECKPOINT_BATCHES:
                self.checkpoint()
        except OSError as error:  # both only save the next start some time
            log.warning("cannot tidy up in %s: %s", self.data, error.strerror, extra={"code": "leftovers_not_removed"})
            self._unchecked_bytes = self._unchecked_batches = 0

    def when_durable(self, answer: Callable[[bool], None]) -> None:
        """Call `answer(True)` once all that was written so far is as safe as the flush policy promises: now, or, under
        "ack", at the next `flush`, for all that was written until then together.

        With False, a disk has failed, nobody knows what it has, and nothing may be said: drop the connection.
        """
        if not self._holds or not (self._held or self._files.unsynced):
            answer(True)
            return
        self._held.append(answer)
        if len(self._held) == 1:
            self.on_held()

    def flush(self) -> None:
        """Put what was written on the disk, one sync for each file, and give the answers that wait for it."""
        held, self._held = self._held, []
        with suppress(OSError):  # said by the files
            self._files.flush()
        # A sync amid a request may have failed too, and what was held may have relied on it.
        safe = self._files.sync_failures == self._failures_known
        self._failures_known = self._files.sync_failures
        for answer in held:
            answer(safe)

    def checkpoint(self) -> None:
        """Note how far the logs are known to be good, so that the next start reads only what follows. Raises
        OSError."""
        if self._files.failed:
            raise OSError(errno.EIO, "a file could not be synced; the next start has to look at all that followed")
        known = []
        for topic in self.topics.by_name.values():
            known += [f'"{topic.id}-{p.index}":{p.checkpoint()}' for p in topic.partitions]
        text = ("{" + ",\n".join(known) + "}").encode()
        self._files.replace(self._checkpoint, b"%08x %s" % (zlib.crc32(text), text))
        self._unchecked_bytes = self._unchecked_batches = 0

    def close(self) -> None:
        try:
            self.checkpoint()
            self._journal.rewrite()
        except OSError as error:  # both only save the next start some time
            log.warning("cannot tidy up in %s: %s", self.data, error.strerror, extra={"code": "leftovers_not_removed"})
        self._files.close()

    def _load_cluster_id(self) -> str:
        path = self.data / "cluster.id"
        if not path.exists():
            self._files.replace(path, uuid4().hex[:22].encode(), durable=True)
        return path.read_text()

    def _load(self) -> None:
        self.topics.load(self._read_checkpoint())
        for entry in self._journal.load():
            if not self._apply(entry):
                raise DataError(f"the coordinator's journal has an entry of an unknown kind: {entry[:1]}")
        self.topics.on_delete = lambda topic: self.offsets.forget_topic(topic.name)
        self._forget_deleted_topics()
        self.groups.recover(self.offsets.groups())
        self.transactions.recover()
        self._abort_stray_transactions()
        self._files.flush()

    def _abort_stray_transactions(self) -> None:
        """Without syncing before each answer, a power failure may lose a marker, or what began its transaction: nothing
        would ever end that, and committed readers would wait for ever."""
        for topic, partition in self.topics.partitions():
            for producer_id in tuple(partition.producers.open):
                epoch = partition.producers.by_id[producer_id].epoch
                if not self.transactions.is_open(producer_id, (topic.name, partition.index)):
                    log.warning(
                        "aborting a lost transaction of producer %d in %s",
                        producer_id,
                        partition.log.folder,
                        extra={"code": "lost_transaction_aborted"},
                    )
                    partition.end_transaction(producer_id, epoch, commit=False, now=self.clock(), rules=topic.rules)

    def _forget_deleted_topics(self) -> None:
        """A crash may come between the deletion of a topic and that of its offsets."""
        for topic in self.offsets.topics() - self.topics.by_name.keys():
            self.offsets.forget_topic(topic)

    def _apply(self, entry: Entry) -> bool:
        try:
            return any(part.apply(entry) for part in (self.offsets, self.transactions, self.groups))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{self.data} has a {entry[0]} that another version of Millstream wrote"
            raise DataError(f"{reason}: start with that version, or with an empty folder") from error

    def _read_checkpoint(self) -> dict[str, Any]:
        if not self._checkpoint.exists():
            return {}
        data = self._checkpoint.read_bytes()
        if data[:8] != b"%08x" % zlib.crc32(data[9:]):
            log.warning(
                "%s is damaged; reading the logs from their beginning",
                self._checkpoint,
                extra={"code": "checkpoint_damaged"},
            )
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

    def _checkpoint_sometimes(self) -> None:
        self.timers.after(CHECKPOINT_MS, self._checkpoint_sometimes)
        if self._unchecked_batches:
            self._unchecked_bytes = CHECKPOINT_BYTES + 1  # `settle` does it

    def _flush_sometimes(self) -> None:
        self.timers.after(self.options.flush_interval, self._flush_sometimes)
        self.flush()
