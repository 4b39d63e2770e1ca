"""What readers see of a compacted topic. Apache Kafka cleans every 15 s, so these wait."""

import time
from collections.abc import Iterable
from typing import Any

import pytest
from tests.conformance.conftest import READ_COMMITTED

from millstream.local.broker.log.batch import TRANSACTIONAL, build_batch, iter_records, read_header
from millstream.local.broker.log.codecs import GZIP, LZ4, SNAPPY, ZSTD

CLEANED_SECONDS = 90.0
EAGER = {
    "cleanup_policy": "compact",
    "min_cleanable_dirty_ratio": "0.01",
    "segment_ms": 1000,
    "delete_retention_ms": 0,
}


class Table:
    """A compacted topic, written so that each batch has a segment of its own: the times of records lie apart."""

    def __init__(self, clients: Any, **config: Any) -> None:
        self.clients = clients
        self.topic = clients.topic(**{**EAGER, **config})
        self._now = time.time_ns() // 1_000_000 - 600_000

    def write(self, *records: tuple[bytes, bytes | None], **batch: Any) -> int:
        self._now += 2_000
        made = bytes(build_batch(records, self._now, **batch))
        answer = self.clients.append(self.topic, made, transactional_id=None)
        assert answer.error_code == 0
        return answer.base_offset

    def records(self, start: int = 0) -> list[tuple[int, bytes | None, bytes | None]]:
        """Everything that is there, as it is."""
        found: list[tuple[int, bytes | None, bytes | None]] = []
        for batch in self.batches(start):
            found += [(r.offset, r.key, r.value) for r in iter_records(batch) if r.offset >= start]
        return found

    def batches(self, start: int = 0) -> Iterable[bytes]:
        end = self.clients.list_offset(self.topic, -1).offset
        while start < end:
            answer = self.clients.fetch(self.topic, start)
            assert answer.error_code == 0
            data = answer.records or b""
            if not data:
                return
            while data:
                size = read_header(data).size
                yield data[:size]
                start = read_header(data).next_offset
                data = data[size:]

    def expect(self, wait: Any, records: list[tuple[int, bytes, bytes | None]]) -> None:
        def cleaned() -> bool:
            time.sleep(0.2)  # not to ask too often
            return self.records() == records

        wait(cleaned, f"{records}, not {self.records()}", seconds=CLEANED_SECONDS)


def test_the_last_record_of_each_key_stays_at_its_offset(clients: Any, wait: Any):
    table = Table(clients)
    for number in range(5):
        table.write((b"a", b"%d" % number), (b"b%d" % number, b"stays"))
    table.write((b"end", b""))
    stays = [(2 * number + 1, b"b%d" % number, b"stays") for number in range(4)]
    table.expect(wait, [*stays, (8, b"a", b"4"), (9, b"b4", b"stays"), (10, b"end", b"")])
    assert table.clients.list_offset(table.topic, -2).offset == 0
    assert table.clients.list_offset(table.topic, -1).offset == 11
    # Whoever asks for what is gone is given what comes next.
    assert table.records(2) == [*stays[1:], (8, b"a", b"4"), (9, b"b4", b"stays"), (10, b"end", b"")]
    first = read_header(next(iter(table.batches(6))))
    assert (first.base_offset, first.last_offset_delta, first.records) == (6, 1, 1)


@pytest.mark.slow
def test_a_tombstone_goes_once_nothing_is_left_for_it_to_hide(clients: Any, wait: Any):
    table = Table(clients)
    table.write((b"a", b"1"))
    table.write((b"a", None))
    table.write((b"b", b"1"))
    table.write((b"c", b"1"))

    def gone() -> bool:
        table.write((b"again", b""))  # what is clean is not cleaned again
        time.sleep(0.5)
        return all(key != b"a" for _, key, _ in table.records())

    wait(gone, "the tombstone's end", seconds=CLEANED_SECONDS)
    assert table.records()[:2] == [(2, b"b", b"1"), (3, b"c", b"1")]


def test_a_tombstone_stays_for_its_time(clients: Any, wait: Any):
    table = Table(clients, delete_retention_ms=600_000)
    table.write((b"a", b"1"))
    table.write((b"a", None))
    table.write((b"b", b"1"))
    table.write((b"c", b"1"))
    table.expect(wait, [(1, b"a", None), (2, b"b", b"1"), (3, b"c", b"1")])
    batch = next(iter(table.batches(1)))
    header = read_header(batch)
    assert header.attributes & 0x40, "the batch does not say until when"
    assert 0 < header.base_timestamp - time.time_ns() // 1_000_000 <= 600_000
    assert [r.timestamp for r in iter_records(batch)] == [header.max_timestamp]


@pytest.mark.slow
def test_aborted_records_go_and_committed_ones_stay(clients: Any, wait: Any):
    table = Table(clients)
    for name, commit in (("kept", True), ("dropped", False)):
        producer = clients.transactional()
        producer.begin_transaction()
        producer.produce(table.topic, name, key=name, partition=0)
        producer.flush(20)
        producer.commit_transaction(20) if commit else producer.abort_transaction(20)
    wait(lambda: clients.list_offset(table.topic, -1, READ_COMMITTED).offset == 4, "both markers")
    table._now = time.time_ns() // 1_000_000
    table.write((b"x", b"1"))
    table.write((b"y", b"1"))
    table.write((b"z", b"1"))

    def cleaned() -> bool:
        time.sleep(0.3)
        return b"dropped" not in {r.value for batch in table.batches() for r in iter_records(batch)}

    wait(cleaned, "the end of what was aborted", seconds=CLEANED_SECONDS)
    assert clients.read(table.topic) == ["kept", "1", "1", "1"]
    headers = [read_header(batch) for batch in table.batches()]
    # Batch, marker, an empty batch that keeps the sequence of a producer that may go on, its marker.
    assert [(h.base_offset, h.records, h.attributes & 0x30) for h in headers[:4]] == [
        (0, 1, TRANSACTIONAL), (1, 1, 0x30), (2, 0, TRANSACTIONAL), (3, 1, 0x30)
    ]  # fmt: skip


def test_batches_keep_their_compression(clients: Any, wait: Any):
    table = Table(clients)
    names = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}
    for codec, name in names.items():
        producer = clients.producer(compression_type=name, linger_ms=200)
        table._now += 2_000
        for key in (f"only {name}", "all"):
            producer.produce(table.topic, name * 50, key=key, timestamp=table._now, partition=0)
        assert producer.flush(20) == 0
        assert read_header(list(table.batches())[-1]).attributes & 7 == codec
    table.write((b"all", b"end"))
    table.write((b"end", b""))
    stays = [(2 * n, f"only {name}".encode(), name.encode() * 50) for n, name in enumerate(names.values())]
    table.expect(wait, [*stays, (8, b"all", b"end"), (9, b"end", b"")])
    assert [read_header(batch).attributes & 7 for batch in table.batches()] == [*names, 0, 0]


def test_a_record_without_a_key_is_refused(clients: Any):
    table = Table(clients)
    for records in ([(None, b"v")], [(b"k", b"v"), (None, b"v")]):
        answer = clients.append(table.topic, bytes(build_batch(records, time.time_ns() // 1_000_000)))
        assert answer.error_code.name == "invalid_record"
    assert clients.list_offset(table.topic, -1).offset == 0


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD], ids=["gzip", "snappy", "lz4", "zstd"])
def test_a_compressed_record_without_a_key_is_refused(clients: Any, codec: int):
    table = Table(clients)
    name = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}[codec]
    refused = []
    producer = clients.producer(compression_type=name, retries=0)
    producer.produce(table.topic, "v" * 500, partition=0, on_delivery=lambda error, _: refused.append(error))
    producer.flush(20)
    assert [error.code() for error in refused] == [87]
