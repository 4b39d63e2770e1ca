import itertools

import pytest

from millstream.errors import Fenced, TopicMissing
from millstream.kafka import HOLD, Offsets, TopicPartition, TopicSpec


def test_a_batch_comes_at_once_though_it_could_be_larger(broker, kafka):
    topic = broker.topic()
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.assigned(consumer)
    broker.write(topic, b"a", b"b", b"c")
    started = broker.clock()
    batch = []
    while not batch:
        batch = consumer.poll_batch(200, timeout=15)
    assert broker.clock() - started < 5
    first = batch[0]
    assert (first.topic(), first.partition(), first.offset(), first.key(), first.value()) == (topic, 0, 0, b"a", b"a")


def test_an_idle_poll_is_bounded(broker, kafka):
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([broker.topic()])
    broker.assigned(consumer)
    started = broker.clock()
    assert consumer.poll_batch(200, timeout=0.2) == []
    assert broker.clock() - started < 2


def test_the_shortest_wait_is_none_that_keeps_a_processor_busy(broker, kafka):
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([broker.topic()])
    broker.assigned(consumer)
    started = broker.clock()
    for _ in range(100):
        consumer.poll_batch(200, timeout=0.0004)
    assert broker.clock() - started > 0.02


def test_given_start_offsets_win_over_committed_ones(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    for partition in (0, 1):
        broker.write(topic, b"0", b"1", b"2", partition=partition)
    first = kafka.consumer(group)
    first.subscribe([topic])
    broker.take(first, 6)
    first.commit({(topic, 0): 3, (topic, 1): 1})
    first.close()
    second = broker.closing(kafka.consumer(group))
    second.subscribe([topic], on_assigned=lambda partitions: {(topic, 0): 2})
    assert sorted((m.partition(), m.offset()) for m in broker.take(second, 3)) == [(0, 2), (1, 1), (1, 2)]


def test_offsets_are_committed_with_a_note(broker, kafka):
    topic = broker.topic(2)
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.assigned(consumer)
    consumer.commit({(topic, 0): 7}, {(topic, 0): "version 3"})
    assert consumer.committed([(topic, 0), (topic, 1)]) == {(topic, 0): (7, "version 3"), (topic, 1): (None, "")}


def test_rewind_goes_back_to_what_is_committed_and_seek_anywhere(broker, kafka):
    topic = broker.topic()
    broker.write(topic, *(b"%d" % n for n in range(10)))
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.take(consumer, 10)
    consumer.rewind()
    assert broker.take(consumer, 10)[0].offset() == 0
    consumer.commit({(topic, 0): 4})
    consumer.rewind()
    assert [m.offset() for m in broker.take(consumer, 6)] == [4, 5, 6, 7, 8, 9]
    consumer.seek({(topic, 0): 8})
    assert [m.offset() for m in broker.take(consumer, 2)] == [8, 9]


def test_a_paused_partition_is_silent_until_it_is_resumed(broker, kafka):
    topic = broker.topic(2)
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.assigned(consumer)
    consumer.pause([(topic, 0)])
    broker.write(topic, b"paused", partition=0)
    broker.write(topic, b"heard", partition=1)
    assert [m.value() for m in broker.take(consumer, 1)] == [b"heard"]
    assert consumer.poll_batch(200, 0.3) == []
    consumer.resume([(topic, 0)])
    assert [m.value() for m in broker.take(consumer, 1)] == [b"paused"]


@pytest.mark.parametrize("co_partitioned", [True, False])
def test_a_partition_that_is_assigned_anew_is_not_paused(broker, kafka, co_partitioned):
    topic, group = broker.topic(2), broker.name("group")
    first = broker.closing(kafka.consumer(group, co_partitioned=co_partitioned))
    first.subscribe([topic])
    broker.until(lambda: not first.poll_batch() and len(first.assignment()) == 2, "all partitions")
    first.pause([(topic, 0), (topic, 1)])
    second = kafka.consumer(group, co_partitioned=co_partitioned)
    second.subscribe([topic])

    def quiet(member) -> bool:
        return not member.poll_batch(10, 0.05)

    broker.until(lambda: quiet(first) and quiet(second) and len(second.assignment()) == 1, "one partition each")
    (taken,) = second.assignment()
    second.close()
    broker.until(lambda: quiet(first) and len(first.assignment()) == 2, "both again")
    broker.write(topic, b"heard", partition=taken[1])
    assert [m.value() for m in broker.take(first, 1)] == [b"heard"]


def test_lag_counts_no_transaction_markers(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for n in range(3):
        producer.begin()
        producer.produce(topic, b"%d" % n)
        producer.commit()
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.take(consumer, 3)
    broker.until(lambda: not consumer.poll_batch() and consumer.lag() == {(topic, 0): 0}, "lag to become 0")
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
    broker.until(lambda: not first.poll_batch() and len(held) == 4, "all partitions")
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

    broker.until(shared, "both members to share the work")
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

    broker.until(shared, "a shared assignment")
    for member in members:
        assert {partition for _, partition in member.assignment()} in ({0}, {1})


def test_a_second_holder_of_an_instance_fences_the_first(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    first = broker.closing(kafka.consumer(group, instance="slot-0"))
    first.subscribe([topic])
    broker.assigned(first)
    second = broker.closing(kafka.consumer(group, instance="slot-0"))
    second.subscribe([topic])

    def turn() -> bool:
        second.poll_batch(10, 0.05)
        first.poll_batch(10, 0.05)
        return False

    with pytest.raises(Fenced, match="newer holder"):
        broker.until(turn, "the first to be fenced")


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

    broker.until(shared, "a shared assignment")
    events.clear()
    before = mine.assignment()
    mine.close()
    again = broker.closing(kafka.consumer(group, instance="slot-0"))
    again.subscribe([topic])

    def back() -> bool:
        other.poll_batch(10, 0.05)
        again.poll_batch(10, 0.05)
        return again.assignment() == before

    broker.until(back, "the old assignment")
    assert events == []


def test_an_instance_killed_while_it_gives_up_partitions_leaves_none_alone(broker, kafka, tmp_path):
    topic, group = broker.topic(2), broker.name("group")
    dead = broker.doomed(group, topic, tmp_path / "output")
    second = broker.closing(kafka.consumer(group, instance="slot-1"))
    second.subscribe([topic])
    broker.until(lambda: not second.poll_batch(10, 0.05) and dead(), "its death")
    again = broker.closing(kafka.consumer(group, instance="slot-0"))
    again.subscribe([topic])

    def shared() -> bool:
        again.poll_batch(10, 0.05)
        second.poll_batch(10, 0.05)
        return len(again.assignment()) == len(second.assignment()) == 1

    broker.until(shared, "each to have a partition")


@pytest.mark.slow
def test_an_unknown_topic_is_named(broker, kafka):
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe(["nobody.made.this"])
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        broker.until(lambda: bool(consumer.poll_batch()), "an error")


@pytest.mark.scenario(4)
def test_reading_goes_on_after_the_broker_was_killed(broker):
    topic = broker.topic()
    kafka = broker.connect(session_timeout_ms=30_000)
    broker.write(topic, b"before")
    consumer = broker.closing(kafka.consumer(broker.name("group"), instance="slot-0"))
    consumer.subscribe([topic])
    broker.take(consumer, 1)
    consumer.commit({(topic, 0): 1})
    broker.kill()
    for _ in range(5):
        assert consumer.poll_batch(10, 0.1) == []
    broker.restart()
    broker.write(topic, b"after")
    assert broker.take(consumer, 1, seconds=30)[0].value() == b"after"


def test_close_is_bounded_without_a_broker(broker, kafka):
    topic = broker.topic()
    consumer = kafka.consumer(broker.name("group"))
    revoked: list = []
    consumer.subscribe([topic], on_revoked=revoked.extend)
    broker.assigned(consumer)
    broker.kill()
    try:
        started = broker.clock()
        consumer.close(timeout=1.0)
        assert broker.clock() - started < 3
        assert revoked == [(topic, 0)]
    finally:
        broker.restart()


def test_a_member_that_gets_nothing_is_told_so(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    told: dict[str, list[list]] = {"slot-0": [], "slot-1": []}
    members = [broker.closing(kafka.consumer(group, instance=name)) for name in told]
    for member, calls in zip(members, told.values(), strict=True):
        member.subscribe([topic], on_assigned=calls.append)

    def both_know() -> bool:
        for member in members:
            member.poll_batch(10, 0.05)
        return sorted(calls[-1:] for calls in told.values()) == [[[]], [[(topic, 0)]]]

    broker.until(both_know, "both to be told")


def test_a_batch_is_never_larger_than_asked_for(broker, kafka):
    topic = broker.topic()
    broker.write(topic, *(b"%d" % n for n in range(20)))
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    consumer.subscribe([topic])
    broker.until(lambda: consumer.poll_batch(1), "the first")
    offsets: list[int] = []

    def all_read() -> bool:
        batch = consumer.poll_batch(3, 0.1)
        assert len(batch) <= 3
        offsets.extend(message.offset() for message in batch)
        return len(offsets) == 19

    broker.until(all_read, "the rest")
    assert offsets == list(range(1, 20))


def test_records_of_open_and_aborted_transactions_are_for_uncommitted_readers(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    producer.begin()
    producer.produce(topic, b"aborted")
    broker.until(lambda: broker.values(topic, "read_uncommitted") == [b"aborted"], "it to be written")
    producer.abort()
    producer.begin()
    producer.produce(topic, b"committed")
    producer.commit()
    producer.begin()
    producer.produce(topic, b"open")
    everything = broker.closing(kafka.consumer(broker.name("group"), isolation="read_uncommitted"))
    everything.subscribe([topic])
    assert [m.value() for m in broker.take(everything, 3)] == [b"aborted", b"committed", b"open"]
    committed = broker.closing(kafka.consumer(broker.name("group")))
    committed.subscribe([topic])
    assert [m.value() for m in broker.take(committed, 1)] == [b"committed"]
    assert committed.poll_batch(10, 0.3) == []
    assert committed.watermarks((topic, 0)) == (0, 4)
    assert everything.watermarks((topic, 0)) == (0, 5)


def test_a_fenced_instance_cannot_commit(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    first = broker.closing(kafka.consumer(group, instance="slot-0"))
    first.subscribe([topic])
    broker.assigned(first)
    second = broker.closing(kafka.consumer(group, instance="slot-0"))
    second.subscribe([topic])
    broker.assigned(second)
    with pytest.raises(Fenced):
        first.commit({(topic, 0): 1})
    second.commit({(topic, 0): 2})
    assert second.committed([(topic, 0)])[topic, 0].offset == 2


@pytest.mark.slow
def test_a_member_that_was_cut_off_loses_its_partitions(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    way, flaky = broker.flaky()
    events: list[tuple[str, list]] = []
    cut = broker.closing(flaky.consumer(group))
    cut.subscribe(
        [topic],
        on_revoked=lambda partitions: events.append(("revoked", partitions)),
        on_lost=lambda partitions: events.append(("lost", partitions)),
    )
    broker.assigned(cut)
    way.cut()
    if broker.kafka is not flaky:
        other = broker.closing(kafka.consumer(group))
        other.subscribe([topic])
        broker.until(
            lambda: (cut.poll_batch(10, 0.05), other.poll_batch(10, 0.05)) and other.assignment(),
            "another to take over",
            30,
        )
    else:
        started = broker.clock()
        broker.until(lambda: cut.poll_batch(10, 0.05) or broker.clock() - started > 10, "its session to expire")
    way.heal()
    broker.until(lambda: not cut.poll_batch(10, 0.05) and events, "it to be told")
    assert events[0] == ("lost", [(topic, 0)])


def test_a_member_that_closes_leaves_its_partitions_to_the_others_at_once(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    revoked: list = []
    first, second = (broker.closing(kafka.consumer(group)) for _ in range(2))
    first.subscribe([topic], on_revoked=revoked.extend)
    second.subscribe([topic])

    def shared() -> bool:
        for member in (first, second):
            member.poll_batch(10, 0.05)
        return len(first.assignment()) == len(second.assignment()) == 1

    broker.until(shared, "a shared assignment")
    revoked.clear()
    mine = first.assignment()
    started = broker.clock()
    first.close()
    assert revoked == mine
    broker.until(lambda: not second.poll_batch(10, 0.05) and len(second.assignment()) == 2, "the other to have both")
    assert broker.clock() - started < 5


def test_a_topic_that_is_made_later_is_read(broker, kafka):
    consumer = broker.closing(kafka.consumer(broker.name("group")))
    topic = broker.name("later")
    consumer.subscribe([topic])
    assert consumer.poll_batch(10, 1.0) == []
    kafka.admin().ensure_topics([TopicSpec(topic, 1)])
    broker.write(topic, b"there")
    assert [m.value() for m in broker.take(consumer, 1, 30)] == [b"there"]


def test_a_partition_that_is_held_is_kept_unread(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    broker.write(topic, b"held", partition=1)
    broker.write(topic, b"read", partition=0)
    consumer = broker.closing(kafka.consumer(group, instance=f"{group}-0"))
    given: list[list[TopicPartition]] = []

    def assigned(partitions: list[TopicPartition]) -> Offsets:
        given.append(partitions)
        return {(topic, 1): HOLD}

    consumer.subscribe([topic], on_assigned=assigned)
    assert [message.value() for message in broker.take(consumer, 1)] == [b"read"]
    assert consumer.assignment() == [(topic, 0)]
    assert given == [[(topic, 0), (topic, 1)]]
    broker.write(topic, b"held, too", partition=1)
    broker.write(topic, b"read, too", partition=0)
    assert [message.value() for message in broker.take(consumer, 1)] == [b"read, too"]
