"""The coordinator in virtual time: what is forgotten and when, and what a disk that refuses leaves behind."""

import struct
from typing import Any

import pytest
from kio.schema.errors import ErrorCode
from tests.local.broker.world import Person, World, pair

from millstream.local.broker import Refused
from millstream.local.broker.coordinator.group import subscribed_topics
from millstream.local.broker.coordinator.offsets import Committed
from millstream.local.broker.coordinator.retention import CHECK_MS, OFFSETS_RETENTION_MS, TRANSACTIONAL_ID_EXPIRY_MS
from millstream.local.broker.coordinator.transactions import State
from millstream.local.broker.errors import DataError
from millstream.local.broker.log.files import Files

PLACE = ("t", 0)


def commit(world: World, group: str = "g", place: tuple[str, int] = PLACE, offset: int = 7) -> None:
    """As somebody would who is not in the group."""
    assert world.broker.groups.check_commit(group, -1, "", None) is ErrorCode.none
    world.broker.offsets.commit(group, {place: Committed(offset, 0, "", world.now)})


def offsets(world: World, group: str = "g") -> dict[tuple[str, int], int]:
    return {place: committed.offset for place, committed in world.broker.offsets.of(group).items()}


def alone(world: World, instance: str | None = None) -> Person:
    """The only member of group `g`, with its assignment."""
    person = Person(world, instance)
    person.enter()
    person.sync({person.id: b"all"})
    assert person.synced[-1].assignment == b"all"
    return person


def leave(world: World, person: Person) -> None:
    assert world.broker.groups.leave("g", person.id, person.instance_id) is ErrorCode.none


# What is forgotten


def test_offsets_of_a_group_without_members_are_kept_for_seven_days_after_each_commit(world: World):
    commit(world)
    world.pass_time(OFFSETS_RETENTION_MS // 2)
    commit(world, place=("t", 1))
    world.pass_time(OFFSETS_RETENTION_MS // 2 - 1)
    assert set(offsets(world)) == {PLACE, ("t", 1)}
    world.pass_time(CHECK_MS)
    assert set(offsets(world)) == {("t", 1)}
    world.pass_time(OFFSETS_RETENTION_MS)
    assert offsets(world) == {}
    assert "g" not in world.broker.groups.by_id


def test_offsets_of_a_group_that_had_members_are_kept_for_seven_days_after_the_last_one_left(world: World):
    person = alone(world)
    world.broker.offsets.commit("g", {PLACE: Committed(7, 0, "", world.now)})
    forget_after(world, 2 * OFFSETS_RETENTION_MS)
    leave(world, person)
    forget_after(world, OFFSETS_RETENTION_MS - 1)
    assert offsets(world) == {PLACE: 7}
    forget_after(world, 1)
    assert offsets(world) == {}
    assert "g" not in world.broker.groups.by_id


def forget_after(world: World, milliseconds: int) -> None:
    """As if members had been heard of all the while."""
    world.now += milliseconds
    world.broker.retention.forget()


def test_offsets_of_a_topic_that_members_do_not_read_are_forgotten_while_they_read_another(world: World):
    world.broker.topics.create("old", 1, {})
    commit(world, place=("old", 0))
    commit(world)
    alone(world)  # reads t
    forget_after(world, OFFSETS_RETENTION_MS)
    assert offsets(world) == {PLACE: 7}


def test_offsets_of_a_group_between_generations_are_kept(world: World):
    commit(world, place=("t", 1))
    person = Person(world)
    person.enter()
    forget_after(world, OFFSETS_RETENTION_MS)
    assert offsets(world) == {("t", 1): 7}


def test_offsets_that_an_open_transaction_is_about_to_commit_are_kept(world: World):
    transactions = world.broker.transactions
    commit(world)
    producer = transactions.init("x", 10_000)
    transactions.add_group("x", *producer, "g")
    world.now += OFFSETS_RETENTION_MS
    transactions.commit_offsets("x", *producer, "g", {PLACE: Committed(8, 0, "", world.now)})
    world.broker.retention.forget()
    assert offsets(world) == {PLACE: 7}
    transactions.end("x", *producer, commit=True)
    assert offsets(world) == {PLACE: 8}


def test_a_group_that_nobody_is_in_and_that_keeps_nothing_is_forgotten_soon(world: World):
    leave(world, alone(world))
    assert "g" in world.broker.groups.by_id
    world.pass_time(CHECK_MS)
    assert "g" not in world.broker.groups.by_id
    world.crash()
    assert "g" not in world.broker.groups.by_id


def test_what_was_forgotten_stays_forgotten_after_a_crash(world: World):
    commit(world)
    world.pass_time(OFFSETS_RETENTION_MS + CHECK_MS)
    world.crash()
    assert offsets(world) == {}
    assert not world.broker.groups.by_id


def test_the_time_since_a_group_was_empty_goes_on_across_crashes(world: World):
    person = alone(world)
    world.broker.offsets.commit("g", {PLACE: Committed(7, 0, "", world.now)})
    leave(world, person)
    for _ in range(8):
        world.crash()
        world.pass_time(OFFSETS_RETENTION_MS // 8 + CHECK_MS)
    assert offsets(world) == {}


def test_a_transactional_id_is_forgotten_seven_days_after_its_last_use(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    world.pass_time(TRANSACTIONAL_ID_EXPIRY_MS - CHECK_MS)
    transactions.add_partitions("x", *producer, [PLACE])
    transactions.end("x", *producer, commit=True)
    world.pass_time(TRANSACTIONAL_ID_EXPIRY_MS - CHECK_MS)
    assert "x" in transactions.by_id
    world.pass_time(2 * CHECK_MS)
    for _ in range(2):
        assert "x" not in world.broker.transactions.by_id
        with pytest.raises(Refused) as refusal:
            world.broker.transactions.add_partitions("x", *producer, [PLACE])
        assert refusal.value.code is ErrorCode.invalid_producer_id_mapping
        world.crash()


def test_a_forgotten_transactional_id_gets_a_producer_id_that_was_never_used(world: World):
    before = world.broker.transactions.init("x", 10_000)
    world.pass_time(TRANSACTIONAL_ID_EXPIRY_MS + CHECK_MS)
    after = world.broker.transactions.init("x", 10_000, *before)
    assert after[0] > before[0]
    assert after[1] == 0


def test_an_open_transaction_is_not_forgotten(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_partitions("x", *producer, [PLACE])
    forget_after(world, TRANSACTIONAL_ID_EXPIRY_MS)
    assert transactions.by_id["x"].state is State.ONGOING


# Offsets in a transaction and without


def test_a_commit_that_overtook_a_transaction_holds_also_after_crashes(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_group("x", *producer, "g")
    transactions.commit_offsets(
        "x", *producer, "g", {("t", index): Committed(5, 0, "", world.now) for index in range(2)}
    )
    commit(world, offset=3)
    world.broker.close()  # writes the journal anew
    world.crash()
    assert world.broker.offsets.is_pending("g", PLACE)
    world.broker.transactions.end("x", *producer, commit=True)
    assert offsets(world) == {PLACE: 3, ("t", 1): 5}
    world.crash()
    assert offsets(world) == {PLACE: 3, ("t", 1): 5}


def test_a_deleted_topic_takes_the_offsets_with_it_that_wait_for_their_transaction(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_group("x", *producer, "g")
    transactions.commit_offsets("x", *producer, "g", {PLACE: Committed(5, 0, "", world.now)})
    world.broker.topics.delete("t")
    transactions.end("x", *producer, commit=True)
    assert offsets(world) == {}


def test_a_broker_that_died_while_a_topic_was_deleted_forgets_its_offsets(world: World):
    commit(world)
    world.broker.topics.on_delete = lambda topic: None  # so far it came
    world.broker.topics.delete("t")
    world.crash()
    assert offsets(world) == {}
    world.broker.topics.create("t", 1, {})
    world.crash()
    assert offsets(world) == {}


# Groups between two generations


def test_who_never_asks_for_its_part_is_removed_though_the_others_have_theirs(world: World):
    leader, other = Person(world), Person(world)
    leader.enter()
    other.enter()
    leader.join(rebalance=800)
    leader.sync({leader.id: b"a", other.id: b"b"})
    assert leader.synced[-1].assignment == b"a"
    for _ in range(20):
        world.pass_time(500)
        other.beat()
        if leader.beat() is ErrorCode.rebalance_in_progress:
            break
    assert other.beat() is ErrorCode.unknown_member_id
    leader.join()
    assert [member[0] for member in leader.joined[-1].members] == [leader.id]


def test_a_broker_that_was_stopped_amid_a_rebalance_asks_all_to_join_again(world: World):
    leader, other = Person(world), Person(world)
    leader.enter()
    other.enter()
    leader.join()
    world.broker.close()
    world.crash()
    leader.sync({leader.id: b"a", other.id: b"b"})
    assert leader.synced[-1].error is ErrorCode.rebalance_in_progress
    leader.join()
    other.join()
    assert leader.joined[-1].generation == other.joined[-1].generation


def test_static_members_of_which_none_comes_back_are_removed_by_their_sessions(world: World):
    first, second = pair(world, "a", "b")
    leave(world, second)
    assert first.beat() is ErrorCode.rebalance_in_progress
    world.pass_time(60_000)
    group = world.broker.groups.by_id["g"]
    assert (group.state, group.members) == ("Empty", {})


def test_a_group_takes_no_more_members_than_it_can_bear(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millstream.local.broker.coordinator.groups.MAX_MEMBERS", 2)
    leader, _ = pair(world)
    third = Person(world)
    third.join()
    assert third.joined[-1].error is ErrorCode.group_max_size_reached
    assert leader.beat() is ErrorCode.none


# A disk that refuses


class FullDisk:
    """Refuses every append while it is `full`; it is so by itself after `full_after` more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.full_after = -1
        real = Files.append

        def append(files: Files, *args: Any, **named: Any) -> Any:
            self.full = self.full or self.full_after == 0
            self.full_after -= 1
            if self.full:
                raise OSError(28, "No space left on device")
            return real(files, *args, **named)

        monkeypatch.setattr(Files, "append", append)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


def test_a_partition_that_could_not_be_noted_is_not_in_the_transaction(world: World, disk: FullDisk):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    disk.full = True
    with pytest.raises(Refused):
        transactions.add_partitions("x", *producer, [PLACE])
    disk.full = False
    with pytest.raises(Refused) as refusal:
        world.write("t", 0, b"v", producer, 0)
    assert refusal.value.code is ErrorCode.transaction_abortable
    transactions.add_partitions("x", *producer, [PLACE])
    world.write("t", 0, b"v", producer, 0)
    world.crash()
    world.broker.transactions.end("x", *producer, commit=True)
    assert world.visible("t", 0) == [b"v"]


def test_an_epoch_that_could_not_be_noted_was_not_given(world: World, disk: FullDisk):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    disk.full = True
    for _ in range(3):
        with pytest.raises(Refused):
            transactions.init("x", 10_000)
    disk.full = False
    transactions.add_partitions("x", *producer, [PLACE])
    assert transactions.init("x", 10_000) == (producer[0], producer[1] + 2)


def test_a_transaction_that_timed_out_on_a_full_disk_is_aborted_once_there_is_room(world: World, disk: FullDisk):
    transactions = world.broker.transactions
    producer = transactions.init("x", 500)
    transactions.add_partitions("x", *producer, [PLACE])
    world.write("t", 0, b"v", producer, 0)
    disk.full = True
    world.pass_time(60_000)
    disk.full = False
    world.pass_time(2_000)
    assert transactions.by_id["x"].state is State.COMPLETE_ABORT
    assert transactions.by_id["x"].epoch == producer[1] + 1
    assert world.visible("t", 0) == []


def test_a_decided_transaction_ends_once_there_is_room_also_after_a_crash(world: World, disk: FullDisk):
    producer = world.broker.transactions.init("x", 10_000)
    world.broker.transactions.add_partitions("x", *producer, [PLACE])
    world.write("t", 0, b"v", producer, 0)
    disk.full_after = 1  # the decision is noted, and no more
    world.broker.transactions.end("x", *producer, commit=True)
    assert world.visible("t", 0) == []
    world.crash()
    world.pass_time(10_000)
    assert world.visible("t", 0) == []
    with pytest.raises(Refused) as refusal:
        world.broker.transactions.add_partitions("x", *producer, [PLACE])
    assert refusal.value.code is ErrorCode.concurrent_transactions
    disk.full = False
    world.pass_time(2_000)
    assert world.visible("t", 0) == [b"v"]
    world.broker.transactions.end("x", *producer, commit=True)


def test_a_group_lives_on_while_the_disk_is_full(world: World, disk: FullDisk):
    leader, other = pair(world, "a", "b")
    disk.full = True
    returned = Person(world, "b")
    returned.join()
    assert returned.joined[-1].error is ErrorCode.none
    assert leader.beat() is ErrorCode.none
    leave(world, leader)
    leave(world, returned)
    assert other.beat() is ErrorCode.unknown_member_id
    world.pass_time(CHECK_MS)
    disk.full = False
    again = alone(world)
    assert again.beat() is ErrorCode.none


# A journal of another version


def test_what_another_version_wrote_is_named(world: World):
    world.broker._journal.add(["group", "g", 1, "consumer", "range", "m", []])
    with pytest.raises(DataError, match="a group that another version of Millstream wrote: start with that version"):
        world.crash()


def test_a_static_member_that_came_back_amid_a_rebalance_is_not_fenced_by_a_crash(world: World):
    first = Person(world, "slot")
    first.join()
    returned, other = Person(world, "slot"), Person(world, "other")
    returned.join()
    other.join()
    assert returned.joined[-1].error is ErrorCode.none
    world.crash()
    heard = world.broker.groups.heartbeat("g", returned.joined[-1].generation, returned.id, "slot")
    assert heard is ErrorCode.rebalance_in_progress


@pytest.mark.parametrize("length", [-1, -2, -32768])
def test_a_subscription_with_a_topic_of_negative_length_is_not_read_for_ever(length: int):
    assert subscribed_topics(struct.pack(">hih", 0, 2**31 - 1, length)) is None
