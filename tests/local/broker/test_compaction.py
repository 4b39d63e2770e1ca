"""Compaction: what must stay, what must go, and what a reader may notice of it."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.local.broker import Broker, Options
from millstream.local.broker.dispatch import Session
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.batch import (
    TRANSACTIONAL,
    build_batch,
    iter_records,
    read_body,
    read_header,
    seal_batch,
)
from millstream.local.broker.log.codecs import GZIP, LZ4, MAX_UNPACKED, SNAPPY, ZSTD, BadCompression, pack, unpack
from millstream.local.broker.partition import Partition
from millstream.testing.wire import request_frame

CODECS = [0, GZIP, SNAPPY, LZ4, ZSTD]
Key = bytes | None


class World:
    """A broker over one compacted topic `t`, and the time it lives in."""

    def __init__(self, data: Path, **config: str) -> None:
        self.data = data
        self.now = 1_000_000
        self.broker = Broker(data, lambda: self.now, Options())
        settings = {"cleanup.policy": "compact", "segment.bytes": "1024", "delete.retention.ms": "0"}
        self.broker.topics.create("t", 1, {**settings, **{k.replace("_", "."): v for k, v in config.items()}})

    @property
    def partition(self) -> Partition:
        return self.broker.topics.get("t").partitions[0]

    def write(
        self, *records: tuple[bytes, bytes | None], codec: int = 0, at: int | None = None,
        producer: tuple[int, int] = (-1, -1), sequence: int = -1, attributes: int = 0,
    ) -> int:  # fmt: skip
        batch = build_batch(
            records, at or self.now, producer_id=producer[0], producer_epoch=producer[1], base_sequence=sequence,
            attributes=attributes,
        )  # fmt: skip
        if codec:
            header = read_header(bytes(batch))
            header = header._replace(attributes=header.attributes | codec)
            batch = seal_batch(header, pack(codec, bytes(batch[61:])))
        return self.partition.append(batch, self.broker.topics.get("t").rules, self.now).base_offset

    def compact(self) -> None:
        self.broker.housekeeping.compact("t")

    def restart(self, *, checkpoint: bool) -> None:
        if not checkpoint:
            (self.data / "checkpoint").unlink(missing_ok=True)
        self.broker = Broker(self.data, lambda: self.now, Options())

    def pass_time(self, milliseconds: int) -> None:
        end = self.now + milliseconds
        while (at := self.broker.timers.next_at()) is not None and at <= end:
            self.now = max(at, self.now)
            self.broker.timers.run_due()
            self.broker.settle()
        self.now = end

    def records(self, offset: int = 0) -> list[tuple[int, Key, bytes | None]]:
        """What a committed reader sees, the way a client sorts it out."""
        partition = self.partition
        aborted = sorted(partition.aborted_between(offset), key=lambda a: a.first_offset)
        ignored: set[int] = set()
        found = []
        for batch in partition.log.batches(offset):
            header = read_header(batch)
            if header.base_offset >= partition.stable_offset:
                break
            while aborted and aborted[0].first_offset <= header.next_offset - 1:
                ignored.add(aborted.pop(0).producer_id)
            if header.is_control:
                ignored.discard(header.producer_id)
            elif not (header.is_transactional and header.producer_id in ignored):
                found += [(r.offset, r.key, r.value) for r in iter_records(batch) if r.offset >= offset]
        return found

    def table(self) -> dict[Key, bytes]:
        """The last value of each key that has one."""
        last = {key: value for _, key, value in self.records()}
        return {key: value for key, value in last.items() if value is not None}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


KEYS = [b"a", b"b", b"c", b"a key that is longer than its digest"]
STEP = st.one_of(
    st.tuples(st.just("write"), st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=300)),
                                         min_size=1, max_size=6), st.sampled_from(CODECS)),
    st.tuples(st.just("transaction"), st.lists(st.tuples(st.sampled_from(KEYS), st.none() | st.binary(max_size=300)),
                                               min_size=1, max_size=6), st.booleans()),
    st.tuples(st.just("compact"), st.none(), st.none()),
    st.tuples(st.just("restart"), st.booleans(), st.none()),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(STEP, max_size=25))
def test_the_last_value_of_every_key_stays_whatever_else_goes(steps: list[tuple[str, object, object]]):
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        transactions = world.broker.transactions
        expected: dict[Key, bytes | None] = {}
        written: dict[int, tuple[Key, bytes | None]] = {}
        for what, first, second in steps:
            match what:
                case "write":
                    records: list[tuple[bytes, bytes | None]] = first  # type: ignore[assignment]
                    base = world.write(*records, codec=second)  # type: ignore[arg-type]
                case "transaction":
                    records = first  # type: ignore[assignment]
                    transactions = world.broker.transactions
                    producer = transactions.init("x", 10_000)
                    transactions.add_partitions("x", *producer, [("t", 0)])
                    base = world.write(*records, producer=producer, sequence=0, attributes=TRANSACTIONAL)
                    transactions.end("x", *producer, commit=bool(second))
                    if not second:
                        continue
                case "compact":
                    before = world.partition.log.end_offset
                    world.compact()
                    assert world.partition.log.end_offset == before
                    continue
                case _:
                    world.restart(checkpoint=bool(first))
                    continue
            expected.update(records)
            written.update({base + n: record for n, record in enumerate(records)})
        assert world.table() == {key: value for key, value in expected.items() if value is not None}
        assert all(written[offset] == (key, value) for offset, key, value in world.records())
        for offset in range(world.partition.log.end_offset):
            assert world.records(offset) == [found for found in world.records() if found[0] >= offset]
        world.compact()
        kept = [key for _, key, _ in world.records()]
        assert len(kept) == len(set(kept))
        world.broker.close()


def test_a_tombstone_outlives_its_first_cleaning_by_the_delete_retention(tmp_path: Path):
    world = World(tmp_path / "data", delete_retention_ms="1000")
    world.write((b"a", b"1"), (b"b", b"1"))
    world.write((b"a", None), at=777)
    world.compact()
    assert world.records() == [(1, b"b", b"1"), (2, b"a", None)]
    batch = next(world.partition.log.batches(2))
    assert [(r.offset, r.timestamp) for r in iter_records(batch)] == [(2, 777)]
    world.now += 999
    world.compact()
    assert (2, b"a", None) in world.records()
    world.now += 1
    world.write((b"c", b"1"))
    world.compact()
    assert world.records() == [(1, b"b", b"1"), (3, b"c", b"1")]


def test_aborted_records_go_and_their_marker_when_nothing_needs_it(world: World):
    transactions = world.broker.transactions
    producer = transactions.init("x", 10_000)
    transactions.add_partitions("x", *producer, [("t", 0)])
    world.write((b"a", b"never"), producer=producer, sequence=0, attributes=TRANSACTIONAL)
    world.write((b"b", b"never"), producer=producer, sequence=1, attributes=TRANSACTIONAL)
    transactions.end("x", *producer, commit=False)
    world.write((b"c", b"1"))
    world.compact()
    headers = [read_header(batch) for batch in world.partition.log.batches(0)]
    # The last batch of a producer keeps its sequence, without records; the marker stays as long as that does.
    assert [(h.base_offset, h.records, h.is_control) for h in headers] == [(1, 0, False), (2, 1, True), (3, 1, False)]
    world.partition.producers.by_id.clear()  # it has been idle for a day
    for _ in range(4):
        world.compact()
    assert [read_header(batch).base_offset for batch in world.partition.log.batches(0)] == [3]
    assert not world.partition.aborted


def test_an_open_transaction_holds_compaction_back(world: World):
    world.write((b"a", b"1"))
    producer = world.broker.transactions.init("x", 10_000)
    world.broker.transactions.add_partitions("x", *producer, [("t", 0)])
    world.write((b"a", b"2"), producer=producer, sequence=0, attributes=TRANSACTIONAL)
    world.write((b"a", b"3"))
    world.compact()
    assert [r.offset for batch in world.partition.log.batches(0) for r in iter_records(batch)] == [0, 1, 2]
    world.broker.transactions.end("x", *producer, commit=True)
    world.compact()
    assert world.records() == [(2, b"a", b"3")]


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_repeated_batch_is_known_again_after_compaction_and_restart(world: World, checkpoint: bool):
    world.write((b"a", b"1"), producer=(7, 0), sequence=0)
    offset = world.write((b"a", b"2"), producer=(7, 0), sequence=1)
    world.write((b"a", b"3"))
    world.compact()
    world.restart(checkpoint=checkpoint)
    assert world.records() == [(2, b"a", b"3")]
    assert world.write((b"a", b"2"), producer=(7, 0), sequence=1) == offset
    with pytest.raises(Refused, match="2 comes next"):
        world.write((b"a", b"5"), producer=(7, 0), sequence=4)


def test_many_small_segments_become_few_and_times_are_found_in_them(world: World):
    for number in range(200):
        world.write((b"%d" % (number % 50), bytes(400)), at=number + 1)
    assert len(world.partition.log.segments) > 90
    world.compact()
    assert len(world.partition.log.segments) < 40
    assert [offset for offset, *_ in world.records()] == list(range(150, 200))
    for restarted in (False, True):
        if restarted:
            world.restart(checkpoint=True)
        for timestamp in range(1, 201):
            assert world.partition.log.first_since(timestamp) == (max(timestamp, 151) - 1, max(timestamp, 151))
        assert world.partition.log.first_since(201) is None
        assert max(segment.max_timestamp for segment in world.partition.log.segments) == 200


def test_it_goes_on_by_itself_when_enough_is_dirty_and_in_steps(world: World):
    for number in range(2000):
        world.write((b"%d" % (number % 40), bytes(100)))
    world.pass_time(5_000)
    assert len(world.partition.log.segments) > 100, "all of it in one step"
    world.pass_time(5_000)
    assert len(world.partition.log.segments) < 20
    assert [offset for offset, *_ in world.records()][-1] == 1999
    clean = world.partition.log.compacted_to
    world.write(*[(b"1", bytes(50))] * 30)
    world.pass_time(20_000)
    assert world.partition.log.compacted_to == clean, "too little to be worth it"


def test_what_is_younger_than_the_lag_stays_and_what_is_older_than_the_longest_lag_does_not(tmp_path: Path):
    young = World(tmp_path / "young", min_compaction_lag_ms="1000", min_cleanable_dirty_ratio="0")
    for _ in range(20):
        young.write((b"k", bytes(300)))
    young.pass_time(900)
    young.compact()
    assert len(young.records()) == 20
    young.pass_time(20_000)
    assert len(young.records()) == 1
    old = World(tmp_path / "old", max_compaction_lag_ms="60000", min_cleanable_dirty_ratio="1")
    for _ in range(20):
        old.write((b"k", bytes(300)))
    old.pass_time(50_000)
    assert len(old.records()) == 20
    old.pass_time(30_000)
    assert len(old.records()) < 5


def test_a_log_that_is_read_while_it_is_compacted_is_read_to_its_end(world: World):
    for number in range(300):
        world.write((b"%d" % (number % 7), bytes(200)))
    reading = world.partition.log.batches(0)
    seen = [read_header(next(reading)).base_offset for _ in range(100)]
    world.compact()
    seen += [read_header(batch).base_offset for batch in reading]
    assert seen == [*range(100), *range(293, 300)]


def test_a_reader_waits_where_nothing_is_left_to_read(world: World):
    world.write((b"a", b"1"))
    world.write((b"a", None))
    world.compact()
    world.compact()
    assert (world.records(), world.partition.log.end_offset) == ([], 2)
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    topics = [{"topic_id": world.broker.topics.get("t").id, "partitions": [partition]}]
    frame = request_frame(
        "fetch", 16, 1, {"max_wait": 500, "min_bytes": 1, "isolation_level": 0, "topics": topics,
                         "forgotten_topics_data": []}
    )  # fmt: skip
    answers: list[bytes] = []
    Session(world.broker, "host").handle(memoryview(bytearray(frame)), answers.append)
    world.pass_time(499)
    assert not answers
    world.pass_time(1)
    assert len(answers) == 1


def test_deletion_of_the_topic_amid_its_compaction_leaves_nothing(world: World):
    for _ in range(2000):
        world.write((b"k", bytes(100)))
    world.pass_time(5_000)
    world.broker.topics.delete("t")
    world.broker.topics.create("t", 1, {})
    world.pass_time(5_000)
    assert sorted(path.name for path in (world.data / "topics").iterdir()) == ["t-0", "topics.json"]
    assert [path.name for path in (world.data / "topics" / "t-0").iterdir()] == []


@given(st.sampled_from(CODECS[1:]), st.binary(max_size=200_000))
@settings(max_examples=40)
def test_what_was_packed_is_unpacked(codec: int, data: bytes):
    assert unpack(codec, pack(codec, data)) == data
    assert unpack(codec, pack(codec, data * 40)) == data * 40


def test_snappy_without_a_frame_is_read_too():
    import cramjam

    assert unpack(SNAPPY, bytes(cramjam.snappy.compress_raw(b"raw" * 1000))) == b"raw" * 1000


@pytest.mark.parametrize("codec", CODECS[1:])
def test_what_claims_to_be_huge_is_refused(codec: int):
    bomb = pack(codec, bytes(MAX_UNPACKED + 1))
    with pytest.raises(BadCompression, match="more than"):
        unpack(codec, bomb)


@given(st.sampled_from(CODECS[1:]), st.binary(max_size=300), st.data())
@settings(max_examples=200)
def test_damage_is_said(codec: int, noise: bytes, data: st.DataObject):
    sound = pack(codec, b"what was there " * 100)
    at = data.draw(st.integers(0, len(sound)))
    try:
        unpack(codec, sound[:at] + noise + sound[at + len(noise) :])
    except BadCompression:
        return


def test_every_codec_is_packed_again_as_it_came(world: World):
    for number, codec in enumerate(CODECS):
        world.write((b"x%d" % number, b"stays"), (b"k", bytes(300)), codec=codec)
    world.compact()
    batches = list(world.partition.log.batches(0))
    assert [read_header(batch).attributes & 7 for batch in batches] == CODECS
    assert [len(list(iter_records(batch))) for batch in batches] == [1, 1, 1, 1, 2]
    assert all(read_body(batch, read_header(batch)) for batch in batches)
