"""What transactions do to offsets: their markers have offsets and times, and records of open ones can be deleted."""

import time
from typing import Any

from tests.conformance.test_records import delete_records

LATEST, EARLIEST, HIGHEST = -1, -2, -3
COMMITTED = 1
FUTURE_MS = 10_000_000


def listed(clients: Any, topic: str, timestamp: int, isolation: int = 0) -> tuple[int, int]:
    found = clients.list_offset(topic, timestamp, isolation)
    assert found.error_code.name == "none"
    return found.offset, found.timestamp


def ends(clients: Any, topic: str) -> tuple[int, int]:
    """The last stable offset and the high watermark, as ListOffsets has them and Fetch too."""
    stable, end = (listed(clients, topic, LATEST, isolation)[0] for isolation in (COMMITTED, 0))
    start = listed(clients, topic, EARLIEST)[0]
    fetched = clients.fetch(topic, start, isolation=COMMITTED)
    assert (fetched.last_stable_offset, fetched.high_watermark, fetched.log_start_offset) == (stable, end, start)
    return stable, end


def test_a_marker_has_the_highest_time_of_its_log(clients: Any, transactional: Any, wait: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a", "b")
    before = time.time_ns() // 1_000_000
    one.end(commit=True)
    wait(lambda: listed(clients, topic, LATEST, COMMITTED)[0] == 3, "the marker")
    offset, at = listed(clients, topic, HIGHEST)
    assert (offset, listed(clients, topic, HIGHEST, COMMITTED)) == (2, (2, at))
    assert at >= before
    assert listed(clients, topic, at) in ((2, at), (0, at))  # all within one millisecond, if the machine is quick
    assert listed(clients, topic, at + FUTURE_MS) == (-1, -1)


def test_the_highest_time_is_hidden_while_it_belongs_to_an_open_transaction(
    clients: Any, transactional: Any, wait: Any
):
    topic, one, other = clients.topic(), transactional(), transactional()
    other.add_partition(topic)
    other.produce(topic, "a")
    other.end(commit=True)
    wait(lambda: listed(clients, topic, LATEST, COMMITTED)[0] == 2, "the marker")
    at = listed(clients, topic, HIGHEST)[1]
    wait(lambda: time.time_ns() // 1_000_000 > at, "a later millisecond")
    one.add_partition(topic)
    one.produce(topic, "b")
    assert listed(clients, topic, HIGHEST)[0] == 2
    assert listed(clients, topic, HIGHEST, COMMITTED) == (-1, -1)
    one.end(commit=False)
    wait(lambda: listed(clients, topic, HIGHEST, COMMITTED)[0] in (2, 3), "the second marker")


def test_the_highest_time_is_found_where_its_record_was_deleted(clients: Any):
    topic = clients.topic()
    begin = time.time_ns() // 1_000_000 - 100_000
    producer = clients.producer()
    for late in (50, 10, 20):
        producer.produce(topic, b"v", timestamp=begin + late, partition=0)
        producer.flush(20)
    delete_records(clients, topic, p0=1)
    assert listed(clients, topic, HIGHEST) == (0, begin + 50)
    assert listed(clients, topic, begin + 15) == (2, begin + 20)
    assert listed(clients, topic, begin + 30) == (-1, -1)


def test_records_of_an_open_transaction_are_deleted(clients: Any, transactional: Any, wait: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    one.produce(topic, "b")
    assert ends(clients, topic) == (0, 2)
    assert delete_records(clients, topic, p0=1) == {0: ("none", 1)}
    assert ends(clients, topic) == (1, 2)
    one.produce(topic, "c")
    assert delete_records(clients, topic, p0=-1) == {0: ("none", 3)}
    assert ends(clients, topic) == (3, 3)
    for offset in (0, 2):
        assert clients.fetch(topic, offset, isolation=COMMITTED).error_code.name == "offset_out_of_range"
    one.produce(topic, "d")
    clients.send(topic, "e")
    assert ends(clients, topic) == (3, 5)
    assert one.end(commit=True) == "none"
    wait(lambda: listed(clients, topic, LATEST, COMMITTED)[0] == 6, "the marker")
    assert ends(clients, topic) == (6, 6)
    assert clients.read(topic, start=3) == ["d", "e"]


def test_a_deletion_amid_a_batch_leaves_the_last_stable_offset_at_its_beginning(
    clients: Any, transactional: Any, wait: Any
):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    one.produce(topic, "b", "c", "d")
    assert delete_records(clients, topic, p0=3) == {0: ("none", 3)}
    assert ends(clients, topic) == (1, 4)
    assert clients.fetch(topic, 1, isolation=COMMITTED).error_code.name == "offset_out_of_range"
    one.end(commit=False)
    wait(lambda: listed(clients, topic, LATEST, COMMITTED)[0] == 5, "the marker")
    assert ends(clients, topic) == (5, 5)
    assert clients.read(topic, start=3) == []
