"""The core driven directly: virtual time, and a crash at every write."""

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c
from kio.schema.errors import ErrorCode
from tests.local.broker.world import Person, World, pair

from millstream.local.broker import Options, Refused, TopicLog
from millstream.local.broker.coordinator.offsets import Committed
from millstream.local.broker.coordinator.transactions import State
from millstream.local.broker.core import CLUSTER_MARKERS_MS
from millstream.local.broker.log.batch import (
    CRC_STARTS,
    HEADER_SIZE,
    LENGTH_STARTS,
    build_batch,
)
from millstream.local.broker.log.codecs import GZIP, MAX_UNPACKED
from millstream.local.broker.log.files import Files
from millstream.local.broker.timers import Timers


def test_timers_fire_in_order_and_cancelled_ones_do_not_pile_up():
    now, fired = 0, []
    timers = Timers(lambda: now)
    for at in (30, 10, 20):
        timers.after(at, lambda at=at: fired.append(at))
    for _ in range(10_000):
        timers.after(50, lambda: fired.append(-1)).cancel()
    assert len(timers._queue) < 200
    now = 25
    timers.run_due()
    assert fired == [10, 20]
    assert timers.next_at() == 30


# Transactions


def transact(world: World) -> None:
    """One transaction over two partitions and an offset, by the holder of `x`."""
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    places = [("t", 0), ("t", 1)]
    transactions.add_partitions("x", *producer, places)
    for _, index in places:
        world.write("t", index, b"v", producer, 0)
    transactions.add_group("x", *producer, "g")
    transactions.commit_offsets("x", *producer, "g", {("t", 0): Committed(7, 0, "", world.now)})
    transactions.end("x", *producer, commit=True)


class Crash(Exception):
    pass


def test_a_crash_at_any_write_leaves_a_transaction_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    template = tmp_path / "template"
    World(template).broker.topics.create("t", 2, {})
    real = Files.append
    outcomes = set()
    for crash_at in range(100):
        for written in (False, True):
            shutil.copytree(template, data := tmp_path / f"{crash_at}-{written}")
            world = World(data)
            count = 0

            def append(
                files: Files, path: Path, data: Any, crash_at: int = crash_at, written: bool = written, **how: Any
            ) -> None:
                nonlocal count
                count += 1
                if count - 1 == crash_at:
                    if written:
                        real(files, path, data, **how)
                    raise Crash
                real(files, path, data, **how)

            with monkeypatch.context() as crashing:
                crashing.setattr(Files, "append", append)
                try:
                    transact(world)
                    finished = True
                except Crash:
                    finished = False
            world.crash()
            world.pass_time(11_000)  # what was open has timed out
            seen = [world.visible("t", index) for index in range(2)]
            offset = world.broker.offsets.of("g").get(("t", 0))
            assert seen in ([[b"v"], [b"v"]], [[], []])
            assert (seen[0] == [b"v"]) == (offset is not None and offset.offset == 7)
            assert not finished or seen[0]
            assert world.broker.offsets.has_any("g") == (offset is not None)
            for _, partition in world.broker.topics.partitions():
                assert partition.stable_offset == partition.log.end_offset
            outcomes.add(bool(seen[0]))
        if finished:
            break
    else:
        pytest.fail("never got through")
    assert outcomes == {True, False}


def test_a_transaction_that_is_open_too_long_is_aborted_and_its_producer_fenced(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 500)
    transactions.add_partitions("x", *producer, [("t", 0)])
    world.write("t", 0, b"late", producer, 0)
    world.pass_time(499)
    assert transactions.by_id["x"].state is State.ONGOING
    world.pass_time(1)
    assert transactions.by_id["x"].state is State.COMPLETE_ABORT
    assert world.visible("t", 0) == []
    with pytest.raises(Refused) as refusal:
        transactions.end("x", *producer, commit=True)
    assert refusal.value.code is ErrorCode.producer_fenced
    with pytest.raises(Refused) as refusal:
        world.write("t", 0, b"zombie", producer, 1)
    assert refusal.value.code is ErrorCode.invalid_producer_epoch


def test_like_on_a_cluster_a_transaction_ends_a_while_after_its_end_was_decided(tmp_path: Path):
    world = World(tmp_path / "data", Options(like_a_cluster=True))
    world.broker.topics.create("t", 2, {})
    transactions = world.broker.transactions
    transact(world)
    producer = (transactions.by_id["x"].producer_id, transactions.by_id["x"].epoch)
    assert transactions.by_id["x"].state is State.PREPARE_COMMIT
    assert not world.visible("t", 0) and not world.broker.offsets.of("g")
    for ask in (
        lambda: transactions.add_partitions("x", *producer, [("t", 0)]),
        lambda: transactions.add_group("x", *producer, "g"),
        lambda: transactions.end("x", *producer, commit=True),
        lambda: transactions.init("x", 10_000),
        lambda: transactions.init("x", 10_000, *producer),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.code is ErrorCode.concurrent_transactions
    world.pass_time(CLUSTER_MARKERS_MS)
    assert transactions.by_id["x"].state is State.COMPLETE_COMMIT
    assert world.visible("t", 0) == [b"v"] and world.broker.offsets.of("g")
    transactions.add_partitions("x", *producer, [("t", 0)])
    transactions.end("x", *producer, commit=False)
    world.crash()  # what was decided is carried through by the next start, at once
    assert world.broker.transactions.by_id["x"].state is State.COMPLETE_ABORT


@pytest.mark.parametrize("own", [False, True], ids=["a successor", "the holder"])
def test_like_on_a_cluster_a_transaction_that_is_fenced_is_aborted_before_the_id_is_given(tmp_path: Path, own: bool):
    world = World(tmp_path / "data", Options(like_a_cluster=True))
    world.broker.topics.create("t", 1, {})
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_partitions("x", *producer, [("t", 0)])
    world.write("t", 0, b"v", producer, 0)
    asked = producer if own else ()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            transactions.init("x", 10_000, *asked)
        assert refused.value.code is ErrorCode.concurrent_transactions
    world.pass_time(CLUSTER_MARKERS_MS)
    given = transactions.init("x", 10_000, *asked)
    assert given == (producer[0], 1 if own else 2)
    assert not world.visible("t", 0)
    transactions.add_partitions("x", *given, [("t", 0)])


def test_a_write_outside_a_transaction_is_refused_for_nothing_would_end_it(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 1000)
    with pytest.raises(Refused) as refusal:
        world.write("t", 0, b"v", producer, 0)
    assert refusal.value.code is ErrorCode.transaction_abortable


def test_epochs_run_out_and_a_new_producer_id_takes_over(world: World):
    transactions = world.broker.transactions
    first = transactions.init("x", 1000)
    transactions.by_id["x"].epoch = 0x7FFF - 1
    second = transactions.init("x", 1000)
    assert second[0] != first[0] and second[1] == 0
    transactions.add_partitions("x", *second, [("t", 0)])
    world.write("t", 0, b"v", second, 0)
    transactions.end("x", *second, commit=True)
    assert world.visible("t", 0) == [b"v"]


def test_a_holder_that_missed_the_answer_gets_the_same_epoch_again(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 1000)
    bumped = transactions.init("x", 1000, *producer)
    assert bumped == (producer[0], producer[1] + 1)
    assert transactions.init("x", 1000, *producer) == bumped
    world.crash()
    assert world.broker.transactions.init("x", 1000, *producer) == bumped


def test_producer_ids_are_never_given_twice_across_crashes(world: World):
    seen = []
    for _ in range(3):
        seen += [world.broker.transactions.new_producer_id() for _ in range(700)]
        world.crash()
    assert len(set(seen)) == len(seen)


# Groups


def test_a_silent_member_is_out_after_its_session_and_the_other_is_told(world: World):
    leader, other = pair(world)
    for _ in range(3):
        world.pass_time(400)
        assert other.beat() in (ErrorCode.none, ErrorCode.rebalance_in_progress)
    assert other.beat() is ErrorCode.rebalance_in_progress
    assert leader.beat() is ErrorCode.unknown_member_id
    generation = other.joined[-1].generation
    other.join()
    assert other.joined[-1].generation == generation + 1
    assert other.joined[-1].leader == other.id


def test_who_does_not_join_in_time_is_left_behind(world: World):
    leader, other = pair(world)
    late = Person(world)
    late.enter()
    assert len(late.joined) == 1
    world.pass_time(900)
    assert leader.beat() is ErrorCode.rebalance_in_progress
    leader.join()
    world.pass_time(900)
    assert late.joined[-1].generation == leader.joined[-1].generation
    assert other.beat() is ErrorCode.unknown_member_id


def test_a_leader_that_never_assigns_is_removed(world: World):
    leader, other = Person(world), Person(world)
    leader.enter()
    other.enter()
    leader.join(rebalance=800)
    other.sync()
    for _ in range(20):
        world.pass_time(500)
        if other.synced:
            break
        leader.beat()
    assert other.synced[-1].error is ErrorCode.rebalance_in_progress


@pytest.mark.parametrize("who", [0, 1])
def test_a_static_member_keeps_its_part_across_its_own_restart(world: World, who: int):
    members = pair(world, "a", "b")
    again = Person(world, members[who].instance_id)
    again.join()
    assert again.joined[-1].error is ErrorCode.none
    assert again.joined[-1].generation == members[who].joined[-1].generation
    assert again.joined[-1].leader != again.id
    again.sync()
    assert again.synced[-1].assignment == (b"first", b"second")[who]
    assert members[1 - who].beat() is ErrorCode.none
    assert members[who].beat() is ErrorCode.fenced_instance_id


def test_a_group_survives_a_crash_of_the_broker(world: World):
    leader, other = pair(world, "a", "b")
    world.crash()
    assert leader.beat() is ErrorCode.none
    other.sync()
    assert other.synced[-1].assignment == b"second"
    returned = Person(world, "a")
    returned.join()
    assert returned.joined[-1].error is ErrorCode.none
    world.pass_time(5000)
    assert world.broker.groups.by_id["g"].state == "Empty"


def test_offsets_survive_crashes_and_the_rewriting_of_the_journal(world: World):
    offsets = world.broker.offsets
    for number in range(100):
        offsets.commit("g", {("t", 0): Committed(number, 0, "m", world.now)})
    world.broker.close()
    world.crash()
    assert world.broker.offsets.of("g")["t", 0] == Committed(99, 0, "m", world.now)
    world.broker.offsets.commit("g", {("t", 1): Committed(5, 0, "", world.now)})
    world.crash()
    assert {place: c.offset for place, c in world.broker.offsets.of("g").items()} == {("t", 0): 99, ("t", 1): 5}


def test_deleting_a_topic_forgets_its_records_and_its_offsets(world: World):
    world.broker.offsets.commit("g", {("t", 0): Committed(5, 0, "", world.now)})
    first = world.broker.topics.get("t").id
    world.broker.topics.delete("t")
    world.broker.topics.create("t", 1, {})
    world.crash()
    again = world.broker.topics.get("t")
    assert again.id != first
    assert again.partitions[0].log.end_offset == 0
    assert not world.broker.offsets.of("g")


def test_an_open_transaction_whose_records_were_deleted_stays_open_over_a_crash(world: World):
    transactions, partition = world.broker.transactions, world.broker.topics.get("t").partitions[0]
    producer = transactions.init("x", 10_000)
    transactions.add_partitions("x", *producer, [("t", 0)])
    for sequence in range(3):
        world.write("t", 0, b"v", producer, sequence)
    partition.delete_records(2)
    world.broker.checkpoint()
    assert partition.stable_offset == 2
    world.crash()
    partition = world.broker.topics.get("t").partitions[0]
    assert (partition.stable_offset, partition.log.start_offset, partition.log.end_offset) == (2, 2, 3)
    assert partition.read(2, 1000, committed=True) == b""
    world.broker.transactions.end("x", *producer, commit=True)
    assert (partition.stable_offset, partition.log.end_offset) == (4, 4)
    assert partition.read(2, 1000, committed=True)


def test_the_defaults_of_the_cluster_outlast_the_broker(world: World):
    world.broker.cluster_defaults.change({"min.insync.replicas": "2"})
    world.broker.cluster_defaults.change({"min.insync.replicas": "3"}, validate_only=True)
    world.crash()
    assert world.broker.cluster_defaults.values == {"min.insync.replicas": "2"}


async def _fill(log: TopicLog) -> list[tuple[int, bytes, bytes | None]]:
    await log.create_topic("_schemas", partitions=1, config={"cleanup.policy": "compact"})
    await log.create_topic("_schemas", partitions=1, config={"cleanup.policy": "compact"})
    assert await log.append("_schemas", 0, [(b"a", b"1"), (b"b", None)]) == 0
    assert await log.append("_schemas", 0, [(b"c", b"3")]) == 2
    return list(await log.read("_schemas", 0, 1))


def test_the_registrys_topic_is_written_and_read_in_process(world: World):
    import asyncio

    assert asyncio.run(_fill(TopicLog(world.broker))) == [(1, b"b", None), (2, b"c", b"3")]


def _zipped(body: bytes) -> bytearray:
    """A batch of one record whose compressed part is `body`."""
    batch = build_batch([(b"k", b"v")], 0, attributes=GZIP)[:HEADER_SIZE] + body
    struct.pack_into(">i", batch, 8, len(batch) - LENGTH_STARTS)
    struct.pack_into(">I", batch, CRC_STARTS - 4, crc32c(memoryview(batch)[CRC_STARTS:]))
    return batch


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"no gzip at all", "no gzip", id="no gzip"),
        pytest.param(gzip.compress(b"a" * 1000)[:-9], "cut short", id="cut short"),
        pytest.param(gzip.compress(bytes(MAX_UNPACKED + 1), 1), "more than", id="more than may be unpacked"),
        pytest.param(gzip.compress(b"\x01"), "negative length", id="negative length"),
        pytest.param(gzip.compress(b"\x7e\0"), "past its batch", id="past its batch"),
    ],
)
def test_a_compacted_topic_takes_nothing_that_is_no_record(world: World, body: bytes, reason: str):
    topic = world.broker.topics.create("compacted", 1, {"cleanup.policy": "compact"})
    assert topic is not None
    with pytest.raises(Refused, match=reason) as refused:
        topic.partitions[0].append(_zipped(body), topic.rules, world.now)
    assert refused.value.code is ErrorCode.invalid_record
