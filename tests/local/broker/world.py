"""A broker without sockets or clock, for tests that let time pass at will."""

from pathlib import Path

from kio.schema.errors import ErrorCode

from millstream.local.broker import Broker, Options
from millstream.local.broker.coordinator.group import Joined, JoinRequest, Protocol, Synced, SyncRequest
from millstream.local.broker.log.batch import TRANSACTIONAL, build_batch, iter_records


class World:
    """A broker and the time it lives in."""

    def __init__(self, data: Path, options: Options | None = None) -> None:
        self.data = data
        self._options = options or Options()
        self.now = 1_000_000
        self.broker = self._start()

    def _start(self) -> Broker:
        return Broker(self.data, lambda: self.now, self._options)

    def crash(self) -> None:
        """The process is gone; what it wrote is there."""
        self.broker = self._start()

    def pass_time(self, milliseconds: int) -> None:
        end = self.now + milliseconds
        while (at := self.broker.timers.next_at()) is not None and at <= end:
            self.now = max(at, self.now)
            self.broker.timers.run_due()
            self.broker.settle()
        self.now = end

    def write(self, topic: str, index: int, value: bytes, producer: tuple[int, int], sequence: int) -> None:
        batch = build_batch(
            [(b"k", value)], self.now, producer_id=producer[0], producer_epoch=producer[1],
            base_sequence=sequence, attributes=TRANSACTIONAL,
        )  # fmt: skip
        found = self.broker.topics.get(topic)
        found.partitions[index].append(batch, found.rules, self.now)

    def visible(self, topic: str, index: int) -> list[bytes | None]:
        """What a committed reader sees, the way a client sorts it out."""
        partition = self.broker.topics.get(topic).partitions[index]
        aborted = {(a.producer_id, a.first_offset): a.marker_offset for a in partition.aborted_between(0)}
        values: list[bytes | None] = []
        for batch in partition.log.batches(0):
            for record in iter_records(batch):
                pid, flags = int.from_bytes(batch[43:51], "big", signed=True), batch[22]
                dead = any(pid == p and first <= record.offset <= end for (p, first), end in aborted.items())
                if not flags & 0x20 and record.offset < partition.stable_offset and not dead:
                    values.append(record.value)
        return values


class Person:
    """A member of group `g`, and the answers it got."""

    def __init__(self, world: World, instance_id: str | None = None) -> None:
        self.world = world
        self.instance_id = instance_id
        self.id = ""
        self.joined: list[Joined] = []
        self.synced: list[Synced] = []

    def join(self, *, topics: bytes = b"t", rebalance: int = 5000) -> None:
        subscription = b"\0\0" + (1).to_bytes(4, "big") + len(topics).to_bytes(2, "big") + topics
        request = JoinRequest(
            "g", self.id, self.instance_id, "client", "host", 1000, rebalance, "consumer",
            (Protocol("range", subscription),), member_id_required=True,
        )  # fmt: skip
        self.world.broker.groups.join(request, self._take)

    def _take(self, joined: Joined) -> None:
        if joined.member_id:
            self.id = joined.member_id
        self.joined.append(joined)

    def enter(self) -> None:
        self.join()
        if self.joined and self.joined[-1].error is ErrorCode.member_id_required:
            self.join()

    def sync(self, assignments: dict[str, bytes] | None = None) -> None:
        request = SyncRequest("g", self.joined[-1].generation, self.id, self.instance_id, assignments or {})
        self.world.broker.groups.sync(request, self.synced.append)

    def beat(self) -> ErrorCode:
        return self.world.broker.groups.heartbeat("g", self.joined[-1].generation, self.id, self.instance_id)


def pair(world: World, *instances: str) -> tuple[Person, Person]:
    """Two members of a stable group, the first its leader."""
    names = instances or (None, None)
    leader, other = (Person(world, name) for name in names)
    leader.enter()
    other.enter()
    leader.join()
    leader.sync({leader.id: b"first", other.id: b"second"})
    other.sync()
    assert (leader.synced[-1].assignment, other.synced[-1].assignment) == (b"first", b"second")
    return leader, other
