"""When what was written is put on the disk, and what happens when the disk refuses."""

import asyncio
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kio.schema.errors import ErrorCode
from tests.local.broker.conftest import BrokerProcess, send, values

from millstream.local.broker import Broker, Options, Refused, Server, wall_clock
from millstream.local.broker.coordinator.offsets import Committed
from millstream.local.broker.log.batch import build_batch, iter_records
from millstream.local.broker.log.disk import Disk
from millstream.local.broker.partition import Partition
from millstream.testing.wire import Connection, record_batch


class WatchedDisk(Disk):
    """Counts syncs by file name; refuses those of the names in `broken`, and all writes while `full`."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.broken: set[str] = set()
        self.full = False

    def sync(self, fd: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        name = f"{path.parent.name}/{path.name}"
        if name in self.broken:
            raise OSError(errno.EIO, "Input/output error")
        self.synced.append(name)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        if self.full:  # as full disks do: a part still fits
            if len(data) > 10:
                return super().write(fd, memoryview(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(fd, data)

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)


class World:
    def __init__(self, data: Path, flush: str) -> None:
        self.now = 1_000_000
        self.disk = WatchedDisk()
        self.broker = Broker(data, lambda: self.now, Options(flush=flush), self.disk)  # type: ignore[arg-type]
        self.broker.topics.create("t", 2, {})
        self.broker.flush()
        self.disk.synced.clear()
        self.answers: list[bool] = []

    def append(self, index: int, value: bytes = b"v", sequence: int | None = None) -> int:
        producer = {} if sequence is None else {"producer_id": 7, "producer_epoch": 0, "base_sequence": sequence}
        topic = self.broker.topics.get("t")
        batch = build_batch([(b"k", value)], self.now, **producer)
        return topic.partitions[index].append(batch, topic.rules, self.now).base_offset

    def answer(self) -> None:
        self.broker.settle()
        self.broker.when_durable(self.answers.append)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data", "ack")


LOG = "00000000000000000000.log"


def contents(partition: Partition) -> list[bytes | None]:
    return [record.value for batch in partition.log.batches(0) for record in iter_records(batch)]


def test_answers_wait_for_one_sync_of_each_file_that_was_written(world: World):
    asked = []
    world.broker.on_held = lambda: asked.append(1)
    for index in (0, 1, 0, 0):
        world.append(index)
        world.answer()
    world.broker.offsets.commit("g", {("t", 0): Committed(1, 0, "", world.now)})
    world.answer()
    assert (world.answers, asked, world.disk.synced) == ([], [1], [])
    world.broker.flush()
    assert world.answers == [True] * 5
    assert sorted(world.disk.synced) == ["data/coordinator.journal", f"t-0/{LOG}", f"t-1/{LOG}"]
    world.answer()
    assert world.answers == [True] * 6, "nothing was written since"


@pytest.mark.parametrize("flush", ["never", "interval"])
def test_otherwise_answers_do_not_wait(tmp_path: Path, flush: str):
    world = World(tmp_path / "data", flush)
    world.append(0)
    world.answer()
    assert (world.answers, world.disk.synced) == ([True], [])
    world.now += 1000
    world.broker.timers.run_due()
    assert world.disk.synced == ([f"t-0/{LOG}"] if flush == "interval" else [])


def test_a_log_that_could_not_be_synced_takes_no_more_until_the_next_start(world: World, tmp_path: Path):
    world.append(0, b"safe", sequence=0)
    world.broker.flush()
    world.disk.broken = {f"t-0/{LOG}"}
    world.append(0, b"unknown", sequence=1)
    world.append(1, b"other")
    world.answer()
    world.broker.flush()
    assert world.answers == [False]
    world.disk.broken.clear()
    for sequence in (1, 2):  # neither the repeated one, which would be acknowledged without a write, nor the next
        with pytest.raises(Refused, match="t-0") as refused:
            world.append(0, b"unknown", sequence=sequence)
        assert refused.value.code is ErrorCode.kafka_storage_error
    world.append(1, b"goes on")
    world.broker.flush()
    assert contents(world.broker.topics.get("t").partitions[0]) == [b"safe", b"unknown"]
    with pytest.raises(OSError, match="could not be synced"):
        world.broker.checkpoint()
    world.broker.close()
    again = World.__new__(World)
    again.now, again.broker = world.now, Broker(tmp_path / "data", lambda: world.now)
    again.append(0, b"again", sequence=2)
    assert contents(again.broker.topics.get("t").partitions[0]) == [b"safe", b"unknown", b"again"]


def test_a_transaction_whose_marker_could_not_be_synced_is_not_said_to_have_ended(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_partitions("x", *producer, [("t", 0)])
    world.append(0)
    world.broker.flush()
    world.disk.broken = {f"t-0/{LOG}"}
    topic = world.broker.topics.get("t")
    batch = build_batch(
        [(b"k", b"v")], 1, producer_id=producer[0], producer_epoch=producer[1], base_sequence=0, attributes=0x10
    )
    topic.partitions[0].append(batch, topic.rules, world.now)
    transactions.end("x", *producer, commit=True, decided=world.answer)
    world.disk.broken.clear()
    world.broker.flush()
    assert world.answers == [False], "the sync failed amid the request"
    with pytest.raises(Refused) as refused:
        transactions.end("x", *producer, commit=True)
    assert refused.value.code is ErrorCode.coordinator_not_available
    assert transactions.by_id["x"].state == "PrepareCommit"


def test_a_full_disk_refuses_everything_that_writes_and_nothing_half_written_stays(tmp_path: Path):
    world = World(tmp_path / "data", "never")
    world.append(0, b"before")
    world.disk.full = True
    refused: list[ErrorCode] = []
    attempts: list[Callable[[], object]] = [
        lambda: world.append(0, b"lost"),
        lambda: world.append(1, b"lost"),
        lambda: world.broker.topics.create("u", 1, {}),
        lambda: world.broker.topics.add_partitions("t", 3),
        lambda: world.broker.offsets.commit("g", {("t", 0): Committed(1, 0, "", world.now)}),
        lambda: world.broker.transactions.init("x", 10_000),
    ]
    for attempt in attempts:
        with pytest.raises(Refused) as refusal:
            attempt()
        refused.append(refusal.value.code)
    storage, coordinator = ErrorCode.kafka_storage_error, ErrorCode.coordinator_not_available
    assert refused == [storage] * 4 + [coordinator] * 2
    world.broker.housekeeping.run()
    world.broker.settle()
    assert contents(world.broker.topics.get("t").partitions[0]) == [b"before"]
    world.disk.full = False
    world.append(0, b"after")
    assert world.broker.topics.create("u", 1, {})
    world.broker.transactions.init("x", 10_000)
    again = Broker(tmp_path / "data", lambda: world.now)
    assert contents(again.topics.get("t").partitions[0]) == [b"before", b"after"]
    assert not list((tmp_path / "data").rglob("*.new"))
    assert again.topics.by_name.keys() == {"t", "u"}
    assert len(again.topics.get("t").partitions) == 2


def test_a_connection_is_dropped_when_nobody_knows_what_the_disk_has(tmp_path: Path):
    async def produce() -> list[object]:
        disk = WatchedDisk()
        broker = Broker(tmp_path / "data", wall_clock, Options(flush="ack"), disk)
        broker.topics.create("t", 1, {})
        server = await Server.start(broker, "127.0.0.1", 0)
        outcomes: list[object] = []

        def ask() -> None:
            connection = Connection("127.0.0.1", server.port)
            try:
                data = [{"name": "t", "partition_data": [{"index": 0, "records": record_batch([b"v"])}]}]
                answer = connection.ask("produce", 10, transactional_id=None, acks=-1, timeout=1000, topic_data=data)
                outcomes.append(answer.responses[0].partition_responses[0].error_code.name)
            except (OSError, EOFError) as error:
                outcomes.append(type(error))
            finally:
                connection.close()

        await asyncio.to_thread(ask)
        disk.broken = {f"t-0/{LOG}"}
        await asyncio.to_thread(ask)
        await asyncio.to_thread(ask)
        await server.close()
        broker.close()
        return outcomes

    first, second, third = asyncio.run(produce())
    assert (first, third) == ("none", "kafka_storage_error")
    assert isinstance(second, type)


@contextmanager
def a_small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of 4 MB; None where we may not make one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    try:
        yield folder if mounted.returncode == 0 else None
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=True)


def test_a_real_disk_that_is_full_is_said_and_forgiven(tmp_path: Path):
    with a_small_disk(tmp_path / "disk") as small:
        broker = BrokerProcess((small or tmp_path / "disk") / "data")
        ballast = broker.data / "ballast"

        def leave_no_room() -> None:
            if small is None:
                resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
                return
            with ballast.open("wb", buffering=0) as file:
                for size in (1 << 16, 1 << 12):
                    try:
                        while True:
                            file.write(bytes(size))
                    except OSError:
                        continue

        def make_room() -> None:
            if small is None:
                resource.prlimit(broker.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            else:
                ballast.unlink()

        try:
            broker.create("t")
            send(broker.producer(), "t", "before")
            leave_no_room()
            host, port = broker.bootstrap.split(":")
            connection = Connection(host, int(port))
            data = [{"name": "t", "partition_data": [{"index": 0, "records": record_batch([bytes(30_000)])}]}]
            answer = connection.ask("produce", 10, transactional_id=None, acks=-1, timeout=1000, topic_data=data)
            connection.close()
            result = answer.responses[0].partition_responses[0]
            assert result.error_code.name == "kafka_storage_error"
            assert str(broker.data / "topics" / "t-0") in result.error_message
            assert values(broker.read_all("t")) == ["before"]
            waiting = broker.producer(message_timeout_ms=15_000)
            waiting.produce("t", "x" * 30_000)
            assert waiting.flush(0.5) == 1, "there is no room"
            make_room()
            assert waiting.flush(15) == 0
            broker.kill()
            broker.start()
            assert [len(value) for value in values(broker.read_all("t"))] == [6, 30_000]
        finally:
            broker.stop()
