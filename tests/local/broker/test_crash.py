"""A crash at every operation of the disk: nothing that was said is lost, and nothing half-done shows."""

import os
import random
import shutil
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.local.broker.crash_files import Model, QuickDisk, RecordingDisk, moments

from millstream.local.broker import Broker, Options
from millstream.local.broker.coordinator.offsets import Committed
from millstream.local.broker.log.batch import TRANSACTIONAL, build_batch, iter_records, read_header
from millstream.local.broker.partition import Partition

Flush = Literal["never", "ack"]
CONFIGS = {
    "log": {"segment.bytes": "1024"},
    "table": {"segment.bytes": "1024", "cleanup.policy": "compact", "delete.retention.ms": "0"},
    "short": {"segment.bytes": "1024", "retention.ms": "5000"},
}
KEYS = [b"a", b"b", b"c", b"d"]


@dataclass
class Open:
    """A transaction that has begun."""

    producer: tuple[int, int]
    number: int
    values: list[tuple[str, int, bytes]] = field(default_factory=list)
    offset: int | None = None


class Workload:
    """Does this and that with a broker, by chance, and says to the disk what its clients know.

    `sent` and `ended` are what was asked for, whether or not the answer came.
    """

    def __init__(self, root: Path, seed: int, flush: Flush) -> None:
        self.disk = RecordingDisk(root)
        self.chance = random.Random(seed)
        self.now = 1_000_000
        self.sent: dict[bytes, tuple[str, int, int, bytes]] = {}
        """Value to topic, partition, offset and key."""
        self.transactions: dict[int, list[bytes]] = {}
        """The values of every transaction."""
        self.aborts: set[int] = set()
        self.commits: set[int] = set()
        self.transactional_offsets: dict[int, int] = {}
        self._open: dict[str, Open] = {}
        self._offset = 0
        self._sequences: dict[tuple[str, int], int] = {}
        self._passing = 0
        self.broker = Broker(root, lambda: self.now, Options(flush=flush), self.disk)
        for name, config in CONFIGS.items():
            self.broker.topics.create(name, 2, config)
            self.said("topic", name)
        self.producer = self.broker.transactions.new_producer_id()

    def said(self, *fact: object) -> None:
        self.broker.when_durable(lambda safe: self.disk.say(fact))

    def run(self, actions: int) -> None:
        kinds = [self.write] * 8 + [self.in_transaction] * 8 + [
            self.commit_offsets, self.commit_offsets, self.create_and_delete, self.delete_records, self.compact,
            self.broker.checkpoint, self.compact, self.broker.housekeeping.run, self.broker._journal.rewrite, self.rest,
        ]  # fmt: skip
        for _ in range(actions):
            self.chance.choice(kinds)()
            self.broker.settle()
            if self.chance.random() < 0.5:
                self.broker.flush()

    def rest(self) -> None:
        self.now += self.chance.randint(1, 3000)
        self.broker.timers.run_due()

    def write(self) -> None:
        topic, index = self.chance.choice(list(CONFIGS)), self.chance.randrange(2)
        sequence = self._sequences.get((topic, index), 0)
        self._sequences[topic, index] = sequence + 1
        value, offset = self._append(topic, index, (self.producer, 0), sequence, 0)
        self.said("written", topic, index, offset, value)

    def in_transaction(self) -> None:
        name = self.chance.choice("xy")
        transactions = self.broker.transactions
        current = self._open.get(name)
        if current is None:
            producer = transactions.init(name, 60_000)
            current = self._open[name] = Open(producer, len(self.transactions))
            self.transactions[current.number] = []
            places = [(topic, index) for topic in ("log", "table") for index in range(2)]
            transactions.add_partitions(name, *producer, places)
            transactions.add_group(name, *producer, "g")
        elif self.chance.random() < 0.6:
            topic, index = self.chance.choice(["log", "table"]), self.chance.randrange(2)
            sequence = sum(1 for t, i, _ in current.values if (t, i) == (topic, index))
            value, _ = self._append(topic, index, current.producer, sequence, TRANSACTIONAL)
            current.values.append((topic, index, value))
            self.transactions[current.number].append(value)
        elif self.chance.random() < 0.4:
            self._offset += 1
            current.offset = self._offset
            offsets = {("log", 1): Committed(self._offset, 0, "", self.now)}
            transactions.commit_offsets(name, *current.producer, "g", offsets)
            self.transactional_offsets[current.number] = self._offset
        else:
            commit = self.chance.random() < 0.6
            (self.commits if commit else self.aborts).add(current.number)
            transactions.end(name, *current.producer, commit=commit)
            self.said("committed" if commit else "aborted", current.number)
            del self._open[name]

    def commit_offsets(self) -> None:
        self._offset += 1
        self.broker.offsets.commit("g", {("log", 0): Committed(self._offset, 0, "", self.now)})
        self.said("offset", self._offset)

    def create_and_delete(self) -> None:
        if "passing" in self.broker.topics.by_name:
            self.said("deleting", self._passing)
            self.broker.topics.delete("passing")
            self.broker.checkpoint()
            self.said("deleted", self._passing)
        else:
            self._passing += 1
            topic = self.broker.topics.create("passing", 1, {"segment.bytes": "1024"})
            assert topic is not None
            self.said("created", self._passing)
            value = b"passing %d" % self._passing
            topic.partitions[0].append(build_batch([(b"k", value)], self.now), topic.rules, self.now)

    def delete_records(self) -> None:
        partition = self.broker.topics.get("short").partitions[0]
        partition.delete_records(self.chance.randint(partition.log.start_offset, partition.log.end_offset))
        start = partition.log.start_offset
        self.broker.checkpoint()
        self.said("begins", start)

    def compact(self) -> None:
        self.broker.housekeeping.compact("table")

    def _append(
        self, topic: str, index: int, producer: tuple[int, int], sequence: int, attributes: int
    ) -> tuple[bytes, int]:
        key = self.chance.choice(KEYS)
        value = b"%d " % len(self.sent) + bytes(self.chance.randint(0, 400))
        batch = build_batch(
            [(key, value)], self.now, producer_id=producer[0], producer_epoch=producer[1], base_sequence=sequence,
            attributes=attributes,
        )  # fmt: skip
        found = self.broker.topics.get(topic)
        partition = found.partitions[index]
        offset = partition.append(batch, found.rules, self.now).base_offset
        self.sent[value] = (topic, index, offset, key)
        return value, offset


def committed(partition: Partition) -> list[tuple[int, bytes | None, bytes | None]]:
    """(offset, key, value) of what a committed reader sees, the way a client sorts it out."""
    aborted = sorted(partition.aborted_between(0), key=lambda a: a.first_offset)
    ignored: set[int] = set()
    found = []
    for batch in partition.log.batches(0):
        header = read_header(batch)
        while aborted and aborted[0].first_offset < header.next_offset:
            ignored.add(aborted.pop(0).producer_id)
        if header.is_control:
            ignored.discard(header.producer_id)
        elif not (header.is_transactional and header.producer_id in ignored):
            found += [(r.offset, r.key, r.value) for r in iter_records(batch) if r.offset >= partition.log.start_offset]
    return found


def check(work: Workload, model: Model, data: Path) -> None:
    """Start a broker on what the crash left, and hold it to what clients had been told."""
    now = work.now + 120_000  # what was open has timed out
    broker = Broker(data, lambda: now, Options(), QuickDisk())
    broker.timers.run_due()
    facts: dict[str, list[tuple[Any, ...]]] = {}
    for name, *fact in model.facts:
        facts.setdefault(name, []).append(tuple(fact))
    assert {name for (name,) in facts.get("topic", [])} <= broker.topics.by_name.keys()
    written = {(topic, index, offset): value for topic, index, offset, value in facts.get("written", [])}
    told_committed = {number for (number,) in facts.get("committed", [])}

    seen: set[bytes] = set()
    for topic, partition in broker.topics.partitions():
        if topic.name == "passing":
            continue
        assert partition.stable_offset == partition.log.end_offset
        offsets = []
        for offset, key, value in committed(partition):
            assert value is not None
            assert value not in seen, f"{value[:9]!r} is there twice"
            assert work.sent[value] == (topic.name, partition.index, offset, key)
            seen.add(value)
            offsets.append(offset)
        assert offsets == sorted(set(offsets))

    for (topic, index, offset), value in written.items():
        if topic == "log":
            assert value in seen, f"acknowledged {topic}-{index} @{offset} is lost"
    for number, values in work.transactions.items():
        in_log = [value for value in values if work.sent[value][0] == "log"]
        shown = [value in seen for value in in_log]
        if number not in work.commits:
            assert not any(value in seen for value in values), f"transaction {number} was not committed, and shows"
        elif number in told_committed:
            assert all(shown), f"transaction {number} was committed, and is lost"
        else:
            assert all(shown) or not any(value in seen for value in values), f"transaction {number} is torn"
    check_tables(work, broker, written, told_committed)
    check_rest(work, broker, facts, told_committed)
    check_it_goes_on(work, broker, data, now)


def check_tables(work: Workload, broker: Broker, written: Container[tuple[str, int, int]], told: set[int]) -> None:
    """Of every key the last acknowledged value, or one that was sent later and may have come through."""
    owner = {value: number for number, values in work.transactions.items() for value in values}
    for _, partition in broker.topics.partitions():
        if partition.topic != "table":
            continue
        table = {key: value for _, key, value in committed(partition)}
        for key in KEYS:
            history = [
                (offset, value)
                for value, (topic, index, offset, k) in work.sent.items()
                if (topic, index, k) == ("table", partition.index, key)
            ]
            sure = [
                offset
                for offset, value in history
                if ("table", partition.index, offset) in written or owner.get(value) in told
            ]
            if not sure:
                continue
            value = table.get(key)
            assert value is not None, f"the last value of {key!r} is lost"
            assert work.sent[value][2] >= max(sure), f"the value of {key!r} is an older one"


def check_rest(work: Workload, broker: Broker, facts: dict[str, list[tuple[Any, ...]]], told: set[int]) -> None:
    starts = [start for (start,) in facts.get("begins", [])]
    if starts:
        assert broker.topics.get("short").partitions[0].log.start_offset >= max(starts)
    told_offsets = [offset for (offset,) in facts.get("offset", [])]
    plain = broker.offsets.of("g").get(("log", 0))
    if told_offsets:
        assert plain is not None
        assert plain.offset >= max(told_offsets)
    in_transactions = broker.offsets.of("g").get(("log", 1))
    possible = {work.transactional_offsets[n] for n in work.commits if n in work.transactional_offsets}
    sure = {work.transactional_offsets[n] for n in told if n in work.transactional_offsets}
    if in_transactions is not None:
        assert in_transactions.offset in possible
    assert not sure or in_transactions is not None
    assert not broker.offsets.is_pending("g", ("log", 1))
    passing = broker.topics.by_name.get("passing")
    deleted = {number for (number,) in facts.get("deleted", [])}
    created = {number for (number,) in facts.get("created", [])} - {n for (n,) in facts.get("deleting", [])}
    if passing is not None:
        values = [value for _, _, value in committed(passing.partitions[0])]
        assert not any(value == b"passing %d" % number for number in deleted for value in values)
    else:
        assert not created or max(created) < work._passing or _may_be_deleted(work, created)


def _may_be_deleted(work: Workload, created: set[int]) -> bool:
    return "passing" not in work.broker.topics.by_name


def check_it_goes_on(work: Workload, broker: Broker, data: Path, now: int) -> None:
    """A new record goes in, and the next start finds what this one showed."""
    log = broker.topics.by_name.get("log")
    if log is None:
        broker.close()
        return
    for partition in log.partitions:
        partition.append(build_batch([(b"k", b"new")], now), log.rules, now)
    broker.housekeeping.compact("log")
    before = [committed(partition) for _, partition in broker.topics.partitions()]
    again = Broker(data, lambda: now, Options(), QuickDisk())
    assert [committed(partition) for _, partition in again.topics.partitions()] == before
    broker.close()
    again.close()


def crash_everywhere(tmp_path: Path, seed: int, flush: Flush, *, actions: int, tries: int, sample: int | None) -> int:
    print(f"seed {seed}, flush {flush}")
    work = Workload(tmp_path / "recorded", seed, flush)
    work.run(actions)
    chosen = set(range(len(work.disk.operations)))
    if sample is not None:
        chosen = set(random.Random(seed).sample(sorted(chosen), min(sample, len(chosen))))
    return crash_at(tmp_path, work, chosen, flush, seed=seed, tries=tries)


def crash_at(tmp_path: Path, work: Workload, chosen: set[int], flush: Flush, *, seed: int, tries: int) -> int:
    operations = work.disk.operations
    count = 0
    for number, model in moments(operations, chosen):
        for attempt in range(tries):
            data = tmp_path / "crashed"
            how = model.after_process_death if flush == "never" else model.after_power_failure
            how(data, random.Random(f"{seed} {number} {attempt}"))
            try:
                check(work, model, data)
            except Exception as failure:
                kept = tmp_path / f"failed-{number}-{attempt}"
                data.rename(kept)
                last = operations[max(number - 4, 0) : number + 1]
                brief = [tuple(str(part)[:60] for part in operation) for operation in last]
                raise AssertionError(f"seed {seed}, {flush}, operation {number}, try {attempt}: {brief}") from failure
            shutil.rmtree(data)
            count += 1
    work.broker.close()
    return count


@pytest.mark.parametrize("flush", ["never", "ack"])
@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_some_moments_loses_nothing(tmp_path: Path, seed: int, flush: Flush):
    assert crash_everywhere(tmp_path, seed, flush, actions=100, tries=1, sample=30) >= 30


def test_a_decision_reaches_the_disk_before_its_markers_and_those_before_its_end(tmp_path: Path):
    work = Workload(tmp_path / "recorded", 0, "ack")
    transactions = work.broker.transactions
    producer = transactions.init("x", 60_000)
    transactions.add_partitions("x", *producer, [("log", 0), ("log", 1)])
    work.transactions[0] = [work._append("log", index, producer, 0, TRANSACTIONAL)[0] for index in range(2)]
    work.broker.flush()
    work.commits.add(0)
    begin = len(work.disk.operations)
    transactions.end("x", *producer, commit=True)
    work.said("committed", 0)
    work.broker.flush()
    chosen = set(range(begin, len(work.disk.operations)))
    assert crash_at(tmp_path, work, chosen, "ack", seed=0, tries=16) > 100


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("flush", ["never", "ack"])
def test_a_crash_at_every_moment_loses_nothing(tmp_path: Path, flush: Flush):
    first = int(os.environ.get("MILLSTREAM_SEED", random.randrange(2**32)))
    for seed in range(first, first + 3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        tries = 1 if flush == "never" else 2
        assert crash_everywhere(folder, seed, flush, actions=150, tries=tries, sample=None) > 300
