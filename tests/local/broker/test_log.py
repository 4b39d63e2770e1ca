"""Batches, segments and the log of one partition, directly."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.local.broker import DataError
from millstream.local.broker.errors import Refused
from millstream.local.broker.log.batch import (
    BadBatch,
    build_batch,
    check_batch,
    iter_records,
    read_header,
    read_varint,
    stamp,
    varint,
)
from millstream.local.broker.log.files import Files
from millstream.local.broker.log.partition_log import Retention
from millstream.local.broker.partition import Partition, Rules

RECORDS = st.lists(
    st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=200)), min_size=1, max_size=8
)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_varint_is_read_as_it_was_written(value: int):
    data = varint(value)
    assert read_varint(data, 0) == (value, len(data))


@given(RECORDS, st.integers(0, 2**60))
def test_a_batch_is_read_as_it_was_built(records: list[tuple[bytes | None, bytes | None]], now: int):
    batch = build_batch(records, now)
    check_batch(memoryview(batch))
    assert [(r.key, r.value) for r in iter_records(batch)] == records
    assert {r.timestamp for r in iter_records(batch)} == {now}


@given(RECORDS, st.data())
def test_one_changed_bit_behind_the_checksum_is_noticed(
    records: list[tuple[bytes | None, bytes | None]], data: st.DataObject
):
    batch = build_batch(records, 1)
    batch[data.draw(st.integers(17, len(batch) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadBatch):
        check_batch(memoryview(batch))


def test_the_time_of_the_log_replaces_the_time_of_the_record():
    batch = build_batch([(None, b"v")], 5)
    assert stamp(batch, 99) == check_batch(memoryview(batch))
    assert [r.timestamp for r in iter_records(batch)] == [99]


def open_partition(folder: Path, checkpoint: str | None = None) -> Partition:
    return Partition.load("t", 0, Files(limit=3), folder, json.loads(checkpoint) if checkpoint else None)


def contents(partition: Partition) -> list[tuple[int, bytes | None]]:
    return [(r.offset, r.value) for batch in partition.log.batches(0) for r in iter_records(batch)]


SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=60)


@settings(max_examples=40)
@given(SIZES, st.data())
def test_a_reader_finds_every_offset_and_a_restart_finds_the_same_log(sizes: list[int], data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "t-0"
        partition = Partition.create("t", 0, Files(limit=3), place)
        rules = Rules(roll_at=16 * 1024)
        for number, size in enumerate(sizes):
            partition.append(build_batch([(None, b"%d" % number), (None, bytes(size))], number), rules, 0)
        known = partition.checkpoint()
        for offset in range(2 * len(sizes)):
            read = partition.read(offset, data.draw(st.integers(1, 20_000)), committed=True)
            header = check_batch(memoryview(read))
            assert header.base_offset == offset // 2 * 2
        assert partition.read(2 * len(sizes), 1000, committed=False) == b""
        wanted = data.draw(st.integers(0, len(sizes) - 1))
        assert partition.log.first_since(wanted) == (2 * wanted, wanted)
        before = contents(partition)
        assert len(before) == 2 * len(sizes)
        for checkpoint in (None, known):
            again = open_partition(place, checkpoint)
            assert contents(again) == before
            assert again.log.first_since(wanted) == (2 * wanted, wanted)
            again.log.close()
        partition.log.close()


@settings(max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12), st.data())
def test_a_log_torn_at_any_byte_keeps_every_whole_batch(sizes: list[int], data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "t-0"
        partition = Partition.create("t", 0, Files(), place)
        ends = [0]
        for size in sizes:
            batch = build_batch([(None, bytes(size))], 1)
            partition.append(batch, Rules(), 0)
            ends.append(ends[-1] + len(batch))
        partition.log.close()
        torn = place / f"{0:020}.log"
        cut, original = data.draw(st.integers(0, ends[-1])), torn.read_bytes()
        left = original[:cut] + data.draw(st.sampled_from([b"", b"\xff" * 100, bytes(100)]))
        torn.write_bytes(left)
        again = open_partition(place)
        survivors = max(n for n, end in enumerate(ends) if left[:end] == original[:end])
        assert again.log.end_offset == survivors
        assert torn.stat().st_size == ends[survivors]
        again.append(build_batch([(None, b"next")], 1), Rules(), 0)
        assert contents(again)[-1] == (survivors, b"next")
        again.log.close()


def test_a_torn_tail_is_said_with_its_file_and_size(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    partition = Partition.create("t", 0, Files(), tmp_path / "t-0")
    whole = build_batch([(None, b"whole")], 1)
    partition.append(whole, Rules(), 0)
    partition.append(build_batch([(None, b"torn")], 1), Rules(), 0)
    partition.log.close()
    file = tmp_path / "t-0" / f"{0:020}.log"
    file.write_bytes(file.read_bytes()[:-3])
    torn = file.stat().st_size - len(whole)
    assert contents(open_partition(tmp_path / "t-0")) == [(0, b"whole")]
    assert f"cut a torn tail of {torn} bytes off {file} at byte {len(whole)}" in caplog.text


def test_an_index_that_is_lost_or_damaged_is_made_again(tmp_path: Path):
    partition = Partition.create("t", 0, Files(), tmp_path / "t-0")
    for number in range(100):
        partition.append(build_batch([(None, bytes(4000))], number), Rules(roll_at=200_000), 0)
    known = partition.checkpoint()
    partition.log.close()
    index = tmp_path / "t-0" / f"{0:020}.index"
    sound = index.read_bytes()
    assert len(sound) > 100
    for damaged in (None, b"", sound[:-40], bytes(len(sound)), sound[:32] + bytes(32) + sound[64:]):
        index.unlink() if damaged is None else index.write_bytes(damaged)
        again = open_partition(tmp_path / "t-0", known)
        assert [segment.max_timestamp for segment in again.log.segments] == [48, 97, 99]
        for number in range(100):
            assert again.log.first_since(number) == (number, number)
            assert check_batch(memoryview(again.read(number, 10_000, committed=False))).base_offset == number
        again.log.close()


def test_damage_before_the_last_segment_is_refused_by_name(tmp_path: Path):
    partition = Partition.create("t", 0, Files(), tmp_path / "t-0")
    for _ in range(4):
        partition.append(build_batch([(None, bytes(900))], 1), Rules(roll_at=1024), 0)
    partition.log.close()
    damaged = tmp_path / "t-0" / f"{1:020}.log"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match=damaged.name):
        open_partition(tmp_path / "t-0")


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["send", "repeat", "skip", "restart", "bump"]), max_size=40), st.data())
def test_sequences_let_no_batch_in_twice_and_none_out_of_turn(actions: list[str], data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "t-0"
        partition = Partition.create("t", 0, Files(), place)
        sent: list[tuple[int, int]] = []
        epoch = sequence = 0

        def append(number: int, at_epoch: int) -> int:
            batch = build_batch(
                [(None, b"%d" % number)], 1, producer_id=7, producer_epoch=at_epoch, base_sequence=number
            )
            return partition.append(batch, Rules(), 0).base_offset

        for action in actions:
            match action:
                case "send":
                    sent.append((sequence, append(sequence, epoch)))
                    sequence += 1
                case "repeat" if sent:
                    number, offset = data.draw(st.sampled_from(sent[-5:]))
                    assert append(number, epoch) == offset
                case "skip" if sent:
                    with pytest.raises(Refused, match="comes next"):
                        append(sequence + 1, epoch)
                case "bump" if sent:
                    epoch, sequence, sent = epoch + 1, 0, []
                    sent.append((0, append(0, epoch)))
                    sequence = 1
                    with pytest.raises(Refused, match="epoch"):
                        append(1, epoch - 1)
                case "restart":
                    partition.log.close()
                    known = partition.checkpoint() if data.draw(st.booleans()) else None
                    partition = open_partition(place, known)
        offsets = [offset for offset, _ in contents(partition)]
        assert offsets == list(range(len(offsets)))
        partition.log.close()


def test_what_has_expired_goes_by_whole_segments_and_the_newest_batch_goes_too(tmp_path: Path):
    partition = Partition.create("t", 0, Files(), tmp_path / "t-0")
    for now in (1, 2, 3):
        partition.append(build_batch([(None, bytes(900))], now), Rules(roll_at=1024), 0)
    partition.log.retain(1002, Retention(ms=1000), keep_from=3)
    assert (partition.log.start_offset, partition.log.end_offset) == (1, 3)
    partition.log.retain(5000, Retention(ms=1000), keep_from=3)
    assert (partition.log.start_offset, partition.log.end_offset) == (3, 3)
    assert [path.name for path in (tmp_path / "t-0").glob("*.log")] == [f"{3:020}.log"]
    partition.log.close()


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    partition = Partition.create("t", 0, Files(), tmp_path / "t-0")
    partition.append(build_batch([(None, b"a")], 1), Rules(), 0)

    with monkeypatch.context() as full:
        full.setattr("os.write", _refuse_after_ten_bytes())
        with pytest.raises(Refused) as refusal:
            partition.append(build_batch([(None, b"b")], 1), Rules(), 0)
    assert refusal.value.code == 56
    partition.append(build_batch([(None, b"c")], 1), Rules(), 0)
    assert contents(partition) == [(0, b"a"), (1, b"c")]
    partition.log.close()
    assert contents(open_partition(tmp_path / "t-0")) == [(0, b"a"), (1, b"c")]


def _refuse_after_ten_bytes():
    import os

    real = os.write
    calls = []

    def write(fd: int, data: bytes) -> int:
        if calls:
            raise OSError(28, "No space left on device")
        calls.append(1)
        return real(fd, bytes(data[:10]))

    return write


def test_headers_shorter_than_a_header_are_no_batch():
    with pytest.raises(BadBatch) as bad:
        read_header(b"short")
    assert bad.value.too_short
