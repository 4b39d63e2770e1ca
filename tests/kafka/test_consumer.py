import itertools
import subprocess
import sys
import time

import pytest

from millstream.errors import Fenced, TopicMissing
from millstream.kafka import connect, properties
from millstream.kafka.consumer import GroupConsumer
from millstream.testing.child import end, first_line, last_lines, spawn, wait_until

from .conftest import take


def test_a_batch_comes_at_once_though_it_could_be_larger(broker, kafka):
    topic = broker.topic()
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    wait_until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), seconds=20, what="an assignment")
    broker.write(topic, b"a", b"b", b"c")
    started = time.monotonic()
    batch = []
    while not batch:
        batch = consumer.poll_batch(200, timeout=15)
    assert time.monotonic() - started < 5
    first = batch[0]
    assert (first.topic(), first.partition(), first.offset(), first.key(), first.value()) == (topic, 0, 0, b"a", b"a")


def test_an_idle_poll_is_bounded(broker, kafka):
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([broker.topic()])
    wait_until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), seconds=20, what="an assignment")
    started = time.monotonic()
    assert consumer.poll_batch(200, timeout=0.2) == []
    assert time.monotonic() - started < 2


def test_given_start_offsets_win_over_committed_ones(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    for partition in (0, 1):
        broker.write(topic, b"0", b"1", b"2", partition=partition)
    first = kafka.consumer(group)
    first.subscribe([topic])
    take(first, 6)
    first.commit({(topic, 0): 3, (topic, 1): 1})
    first.close()
    second = broker.closing(kafka.consumer(group))
    second.subscribe([topic], on_assigned=lambda partitions: {(topic, 0): 2})
    assert sorted((m.partition(), m.offset()) for m in take(second, 3)) == [(0, 2), (1, 1), (1, 2)]


def test_offsets_are_committed_with_a_note(broker, kafka):
    topic = broker.topic(2)
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    wait_until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), seconds=20, what="an assignment")
    consumer.commit({(topic, 0): 7}, {(topic, 0): "version 3"})
    assert consumer.committed([(topic, 0), (topic, 1)]) == {(topic, 0): (7, "version 3"), (topic, 1): (None, "")}


def test_rewind_goes_back_to_what_is_committed_and_seek_anywhere(broker, kafka):
    topic = broker.topic()
    broker.write(topic, *(b"%d" % n for n in range(10)))
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    take(consumer, 10)
    consumer.rewind()
    assert take(consumer, 10)[0].offset() == 0
    consumer.commit({(topic, 0): 4})
    consumer.rewind()
    assert [m.offset() for m in take(consumer, 6)] == [4, 5, 6, 7, 8, 9]
    consumer.seek({(topic, 0): 8})
    assert [m.offset() for m in take(consumer, 2)] == [8, 9]


def test_a_paused_partition_is_silent_until_it_is_resumed(broker, kafka):
    topic = broker.topic(2)
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    wait_until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), seconds=20, what="an assignment")
    consumer.pause([(topic, 0)])
    broker.write(topic, b"paused", partition=0)
    broker.write(topic, b"heard", partition=1)
    assert [m.value() for m in take(consumer, 1)] == [b"heard"]
    assert consumer.poll_batch(200, 0.3) == []
    consumer.resume([(topic, 0)])
    assert [m.value() for m in take(consumer, 1)] == [b"paused"]


def test_lag_counts_no_transaction_markers(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for n in range(3):
        producer.begin()
        producer.produce(topic, b"%d" % n)
        producer.commit()
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    take(consumer, 3)
    wait_until(
        lambda: not consumer.poll_batch() and consumer.lag() == {(topic, 0): 0}, seconds=20, what="lag to become 0"
    )
    assert consumer.position() == {(topic, 0): 6}
    assert consumer.watermarks((topic, 0)) == (0, 6)


def test_a_newcomer_takes_partitions_and_what_was_revoked_is_not_delivered_any_more(broker, kafka):
    topic, group = broker.topic(4), broker.name("group")
    held, revoked = set(), []
    first = broker.closing(kafka.consumer(group))

    def give_up(partitions):
        revoked.extend(partitions)
        held.difference_update(partitions)
        first.commit({partition: first.position().get(partition, 0) for partition in partitions})

    first.subscribe([topic], on_assigned=lambda partitions: held.update(partitions), on_revoked=give_up)
    wait_until(lambda: not first.poll_batch() and len(held) == 4, seconds=20, what="all partitions")
    second = broker.closing(kafka.consumer(group))
    second.subscribe([topic])
    numbers = itertools.count()
    seen: list[tuple[str, bytes]] = []

    def shared() -> bool:
        broker.write(topic, *(b"%d" % next(numbers) for _ in range(20)))
        for name, member in (("first", first), ("second", second)):
            for message in member.poll_batch(5, 0.05):
                if name == "first":
                    assert (message.topic(), message.partition()) in held
                seen.append((name, message.value()))
        return len(held) == 2 and len(second.assignment()) == 2 and {name for name, _ in seen} == {"first", "second"}

    wait_until(shared, seconds=30, what="both members to share the work", every=0)
    assert sorted(revoked) == sorted(second.assignment())


def test_co_partitioned_topics_go_to_the_same_member(broker, kafka):
    left, right, group = broker.topic(2), broker.topic(2), broker.name("group")
    members = [broker.closing(kafka.consumer(group, co_partitioned=True)) for _ in range(2)]
    for member in members:
        member.subscribe([left, right])

    def shared() -> bool:
        for member in members:
            member.poll_batch(10, 0.05)
        return all(len(member.assignment()) == 2 for member in members)

    wait_until(shared, seconds=30, what="a shared assignment", every=0)
    for member in members:
        assert {partition for _, partition in member.assignment()} in ({0}, {1})


def test_a_second_holder_of_an_instance_fences_the_first(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    first = broker.closing(kafka.consumer(group, instance="slot-0"))
    first.subscribe([topic])
    wait_until(lambda: not first.poll_batch() and bool(first.assignment()), seconds=20, what="an assignment")
    second = broker.closing(kafka.consumer(group, instance="slot-0"))
    second.subscribe([topic])

    def turn() -> bool:
        second.poll_batch(10, 0.05)
        first.poll_batch(10, 0.05)
        return False

    with pytest.raises(Fenced, match="newer holder"):
        wait_until(turn, seconds=20, what="the first to be fenced", every=0)


def test_a_restarted_instance_keeps_its_partitions_without_a_rebalance(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    events: list[str] = []
    other = broker.closing(kafka.consumer(group, instance="slot-1"))
    other.subscribe(
        [topic],
        on_assigned=lambda partitions: events.append("assigned"),
        on_revoked=lambda partitions: events.append("revoked"),
    )
    mine = kafka.consumer(group, instance="slot-0")
    mine.subscribe([topic])

    def shared() -> bool:
        other.poll_batch(10, 0.05)
        mine.poll_batch(10, 0.05)
        return len(other.assignment()) == len(mine.assignment()) == 1

    wait_until(shared, seconds=30, what="a shared assignment", every=0)
    events.clear()
    before = mine.assignment()
    mine.close()
    again = broker.closing(kafka.consumer(group, instance="slot-0"))
    again.subscribe([topic])

    def back() -> bool:
        other.poll_batch(10, 0.05)
        again.poll_batch(10, 0.05)
        return again.assignment() == before

    wait_until(back, seconds=20, what="the old assignment", every=0)
    assert events == []


DIES_WHEN_IT_IS_TO_GIVE_UP = """
import os, signal, sys
from millstream.kafka import connect
from millstream.settings import Settings
bootstrap, group, topic = sys.argv[1:]
consumer = connect(Settings(bootstrap_servers=bootstrap, heartbeat_interval_ms=300), "test").consumer(
    group, instance="slot-0"
)
consumer.subscribe([topic], on_revoked=lambda partitions: os.kill(os.getpid(), signal.SIGKILL))
while True:
    consumer.poll_batch(10, 0.1)
    if len(consumer.assignment()) == 2:
        print("all", flush=True)
"""


def test_an_instance_killed_while_it_gives_up_partitions_leaves_none_alone(broker, kafka, tmp_path):
    topic, group = broker.topic(2), broker.name("group")
    command = [sys.executable, "-c", DIES_WHEN_IT_IS_TO_GIVE_UP, broker.bootstrap, group, topic]
    first = spawn(command, output=tmp_path / "output", stdout=subprocess.PIPE)
    try:
        assert first_line(first, 30) == b"all\n", last_lines(tmp_path / "output")
        second = broker.closing(kafka.consumer(group, instance="slot-1"))
        second.subscribe([topic])
        wait_until(lambda: not second.poll_batch(10, 0.05) and first.poll() is not None, seconds=20, what="its death")
    finally:
        end(first)
    again = broker.closing(kafka.consumer(group, instance="slot-0"))
    again.subscribe([topic])

    def shared() -> bool:
        again.poll_batch(10, 0.05)
        second.poll_batch(10, 0.05)
        return len(again.assignment()) == len(second.assignment()) == 1

    wait_until(shared, seconds=20, what="each to have a partition", every=0)


def test_an_unknown_topic_is_named(broker):
    wanted = properties.consumer(broker.settings, "test", broker.name("group"), None, "read_committed", False)
    consumer = broker.closing(GroupConsumer(wanted, missing_grace=0.5))
    consumer.subscribe(["nobody.made.this"])
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        wait_until(lambda: bool(consumer.poll_batch()), seconds=20, what="an error")


def test_reading_goes_on_after_the_broker_was_killed(broker):
    topic = broker.topic()
    kafka = connect(broker.settings.model_copy(update={"session_timeout_ms": 30_000}), "test")
    broker.write(topic, b"before")
    consumer = broker.closing(kafka.consumer(broker.name("group"), instance="slot-0"))
    consumer.subscribe([topic])
    take(consumer, 1)
    consumer.commit({(topic, 0): 1})
    broker.kill()
    for _ in range(5):
        assert consumer.poll_batch(10, 0.1) == []
    broker.restart()
    broker.write(topic, b"after")
    assert take(consumer, 1, seconds=30)[0].value() == b"after"


def test_close_is_bounded_without_a_broker(broker, kafka):
    topic = broker.topic()
    consumer = kafka.consumer(broker.name("group"))
    revoked: list = []
    consumer.subscribe([topic], on_revoked=revoked.extend)
    wait_until(lambda: not consumer.poll_batch() and bool(consumer.assignment()), seconds=20, what="an assignment")
    broker.kill()
    try:
        started = time.monotonic()
        consumer.close(timeout=1.0)
        assert time.monotonic() - started < 3
        assert revoked == [(topic, 0)]
    finally:
        broker.restart()
