"""Fetch sessions without sockets: how many there are, and what they cost when nothing happens."""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.local.broker import Broker, Options
from millstream.local.broker.dispatch import Session
from millstream.local.broker.fetch_sessions import EVICTABLE_AFTER_MS, MAX_SESSIONS
from millstream.local.broker.log.batch import build_batch
from millstream.testing.wire import read_answer

PARTITIONS = 100


class World:
    """A broker with one topic of many partitions, and the time it lives in."""

    def __init__(self, data: Path) -> None:
        self.now = 1_000_000
        self.broker = Broker(data, lambda: self.now, Options())
        self.topic = self.broker.topics.create("t", PARTITIONS, {})

    def fetch(self, session: Session, session_id: int, epoch: int, offsets: dict[int, int]) -> tuple[int, int, int]:
        """Fetch by id in version 13. The error, the session's number, the bytes of the answer."""
        (frame,) = self.begin(session, session_id, epoch, offsets)
        error, number = struct.unpack_from(">hi", frame, 13)
        return error, number, len(frame)

    def begin(
        self, session: Session, session_id: int, epoch: int, offsets: dict[int, int], wait: int = 0
    ) -> list[bytes]:
        """The list to which the answer comes, now or later."""
        partitions = b"".join(
            struct.pack(">iiqiqib", index, -1, offset, -1, 0, 1 << 20, 0) for index, offset in offsets.items()
        )
        topics = b"\x02" + self.topic.id.bytes + bytes([len(offsets) + 1]) + partitions + b"\0" if offsets else b"\x01"
        body = struct.pack(">iiiibii", -1, wait, 1, 1 << 20, 0, session_id, epoch) + topics + b"\x01\x01\0"
        frames: list[bytes] = []
        header = struct.pack(">hhih", 1, 13, 7, 1) + b"c\0"
        session.handle(memoryview(bytearray(header + body)), frames.append)
        self.broker.settle()
        return frames

    def write(self, index: int) -> None:
        self.topic.partitions[index].append(build_batch([(b"k", b"v")], self.now), self.topic.rules, self.now)
        self.broker.settle()

    def watched(self) -> int:
        return sum(len(partition.waiters) for partition in self.topic.partitions)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "data")
    yield world
    world.broker.close()


def test_there_are_so_many_sessions_and_no_more(world: World):
    client = Session(world.broker, "host")
    numbers = {world.fetch(client, 0, 0, {0: 0})[1] for _ in range(MAX_SESSIONS)}
    assert len(numbers) == MAX_SESSIONS
    assert world.fetch(client, 0, 0, {0: 0})[:2] == (0, 0)
    assert len(world.broker.fetch_sessions) == MAX_SESSIONS


def test_a_session_that_nobody_uses_makes_room(world: World):
    client = Session(world.broker, "host")
    first, second, *_ = [world.fetch(client, 0, 0, {0: 0})[1] for _ in range(MAX_SESSIONS)]
    world.now += EVICTABLE_AFTER_MS
    assert world.fetch(client, first, 1, {})[:2] == (0, first)
    world.now += 1
    assert world.fetch(client, 0, 0, {0: 0})[1] > 0
    assert world.fetch(client, second, 1, {})[0] == 70
    assert world.fetch(client, first, 2, {})[0] == 0


def test_a_session_looks_only_at_what_has_changed(world: World):
    client = Session(world.broker, "host")
    number = world.fetch(client, 0, 0, dict.fromkeys(range(PARTITIONS), 0))[1]
    reading = client._reading
    assert not reading.dirty
    quiet = world.fetch(client, number, 1, {})[2]
    world.write(42)
    assert [place.wanted[0] for place in reading.dirty] == [42]
    assert quiet < world.fetch(client, number, 2, {})[2] < quiet + 200


def test_a_reader_without_a_session_costs_what_has_changed(world: World):
    client = Session(world.broker, "host")
    offsets = dict.fromkeys(range(PARTITIONS), 0)
    whole = world.fetch(client, 0, -1, offsets)[2]
    kept = {place: place.idle for place in client._reading.places()}
    assert all(kept.values())
    rotated = {index % PARTITIONS: 0 for index in range(7, PARTITIONS + 7)}
    assert world.fetch(client, 0, -1, rotated)[2] == whole
    assert all(place.idle is kept[place] for place in client._reading.places())
    world.write(3)
    assert [place.wanted[0] for place in kept if place.idle is not kept[place]] == [3]
    assert world.fetch(client, 0, -1, rotated)[2] > whole
    assert world.fetch(client, 0, -1, rotated | {3: 1})[2] == whole


def test_a_reader_is_told_where_the_log_begins_after_records_expired(world: World):
    client = Session(world.broker, "host")
    world.write(0)
    world.fetch(client, 0, -1, {0: 1})
    world.broker.topics.configure("t", {"retention.ms": "1"})
    world.now += 100
    world.broker.housekeeping.run()
    (after,) = world.begin(client, 0, -1, {0: 1})
    (partition,) = read_answer("fetch", 13, after[4:])[1].responses[0].partitions
    assert (partition.log_start_offset, partition.high_watermark) == (1, 1)


def test_what_a_reader_no_longer_names_is_not_watched(world: World):
    client = Session(world.broker, "host")
    world.fetch(client, 0, -1, {0: 0, 1: 0})
    world.fetch(client, 0, -1, {1: 0, 2: 0})
    assert [index for index in range(PARTITIONS) if world.topic.partitions[index].waiters] == [1, 2]


def test_who_is_gone_watches_nothing_and_finds_everything_when_it_comes_back(world: World):
    client = Session(world.broker, "host")
    number = world.fetch(client, 0, 0, {0: 0, 1: 0})[1]
    assert world.watched() == 2
    client.close()
    assert world.watched() == 0
    world.write(1)
    again = Session(world.broker, "host")
    assert world.fetch(again, number, 1, {})[2] > 100
    again.close()
    assert world.watched() == 0


@pytest.mark.parametrize("epoch", [-1, 0])
def test_who_waits_in_a_topic_that_is_deleted_is_told_at_once(world: World, epoch: int):
    client = Session(world.broker, "host")
    answers = world.begin(client, 0, epoch, {0: 0, 1: 0}, wait=60_000)
    assert answers == []
    world.broker.topics.delete("t")
    world.broker.settle()
    (frame,) = answers
    places = frame[19:].split(world.topic.id.bytes)[1]
    index, error = struct.unpack_from(">ih", places, 1)
    assert (index, error) == (0, 100)
    assert world.watched() == 0
