"""Consumer groups through librdkafka: sharing, rebalancing, committed offsets, static members."""

import time
from typing import Any

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    KafkaError,
    KafkaException,
    TopicPartition,
)


def committed(consumer: Consumer, topic: str, partitions: int = 1) -> list[int]:
    found = consumer.committed([TopicPartition(topic, p) for p in range(partitions)], timeout=20)
    return [p.offset for p in found]


def test_a_lone_member_gets_every_partition(clients: Any):
    topic = clients.topic(partitions=4)
    assert clients.assigned(clients.consumer(topic), partitions=4) == [{0, 1, 2, 3}]


@pytest.mark.parametrize("strategy", ["range", "roundrobin", "cooperative-sticky"])
def test_members_share_the_partitions(clients: Any, strategy: str):
    topic, group = clients.topic(partitions=4), clients.name("g")
    config = {"group_id": group, "partition_assignment_strategy": strategy}
    members = [clients.consumer(topic, **config) for _ in range(2)]
    shares = clients.assigned(*members, partitions=4)
    assert sorted(shares[0] | shares[1]) == [0, 1, 2, 3]
    assert [len(share) for share in shares] == [2, 2]


def test_more_members_than_partitions_leave_some_without(clients: Any, wait: Any):
    topic, group = clients.topic(partitions=1), clients.name("g")
    members = [clients.consumer(topic, group_id=group) for _ in range(2)]

    def stable() -> bool:
        held = []
        for member in members:
            member.poll(0.05)
            held.append(len(member.assignment()))
        return sorted(held) == [0, 1] and len(describe(clients, group).members) == 2

    wait(stable, "one with, one without")


def describe(clients: Any, group: str) -> Any:
    return clients.admin.describe_consumer_groups([group])[group].result(20)


def test_a_member_that_leaves_hands_its_partitions_over(clients: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    stays, leaves = clients.consumer(topic, group_id=group), clients.consumer(topic, group_id=group)
    clients.assigned(stays, leaves, partitions=2)
    clients.closed(leaves)
    assert clients.assigned(stays, partitions=2) == [{0, 1}]


@pytest.mark.slow
def test_a_member_that_polls_no_more_is_thrown_out(clients: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    stays = clients.consumer(topic, group_id=group)
    silent = clients.consumer(topic, group_id=group, session_timeout_ms=6_000, max_poll_interval_ms=6_000)
    clients.assigned(stays, silent, partitions=2)
    assert clients.assigned(stays, partitions=2) == [{0, 1}]


def test_committed_offsets_are_where_the_next_member_begins(clients: Any):
    topic, group = clients.topic(), clients.name("g")
    clients.send(topic, "a", "b", "c")
    first = clients.consumer(topic, group_id=group)
    clients.poll(first, 2)
    first.commit(offsets=[TopicPartition(topic, 0, 2)], asynchronous=False)
    clients.closed(first)
    (message,) = clients.poll(clients.consumer(topic, group_id=group), 1)
    assert (message.offset(), message.value()) == (2, b"c")


def test_groups_do_not_know_of_each_other(clients: Any):
    topic = clients.topic()
    clients.send(topic, "a")
    for _ in range(2):
        consumer = clients.consumer(topic)
        assert clients.poll(consumer, 1)[0].value() == b"a"
        consumer.commit(asynchronous=False)


def test_a_group_that_never_committed_has_no_offset(clients: Any):
    topic = clients.topic(partitions=2)
    assert committed(clients.consumer(), topic, 2) == [-1001, -1001]


def test_commits_keep_their_metadata(clients: Any):
    topic = clients.topic()
    consumer = clients.consumer()
    consumer.commit(offsets=[TopicPartition(topic, 0, 7, "note")], asynchronous=False)
    (found,) = consumer.committed([TopicPartition(topic, 0)], timeout=20)
    assert (found.offset, found.metadata) == (7, "note")


def test_metadata_too_large_is_refused(clients: Any):
    topic = clients.topic()
    consumer = clients.consumer()
    with pytest.raises(KafkaException) as refused:
        consumer.commit(offsets=[TopicPartition(topic, 0, 7, "x" * 5_000)], asynchronous=False)
    assert refused.value.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE


def test_offsets_can_go_back(clients: Any):
    topic = clients.topic()
    consumer = clients.consumer()
    for offset in (5, 3):
        consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    assert committed(consumer, topic) == [3]


def test_a_new_group_may_begin_at_the_end(clients: Any):
    topic = clients.topic()
    clients.send(topic, "old")
    consumer = clients.consumer(topic, auto_offset_reset="latest")
    clients.assigned(consumer, partitions=1)
    while (message := consumer.poll(5)) is None or message.error() is None:
        assert message is None, "a record from before the group"
    assert message.error().code() == KafkaError._PARTITION_EOF
    clients.send(topic, "new")
    assert clients.poll(consumer, 1)[0].value() == b"new"


def test_a_static_member_comes_back_to_its_partitions_without_a_rebalance(clients: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    revoked: list[Any] = []
    other = clients.consumer(group_id=group, group_instance_id="other", session_timeout_ms=30_000)
    other.subscribe([topic], on_revoke=lambda _, partitions: revoked.append(partitions))
    before = clients.consumer(topic, group_id=group, group_instance_id="me", session_timeout_ms=30_000)
    share = clients.assigned(before, other, partitions=2)[0]
    revoked.clear()
    clients.closed(before)
    after = clients.consumer(topic, group_id=group, group_instance_id="me", session_timeout_ms=30_000)
    assert clients.assigned(after, other, partitions=2)[0] == share
    assert revoked == []


def test_a_second_holder_of_a_static_name_fences_the_first(clients: Any, wait: Any):
    topic, group = clients.topic(), clients.name("g")
    first = clients.consumer(topic, group_id=group, group_instance_id="me")
    clients.assigned(first, partitions=1)
    second = clients.consumer(topic, group_id=group, group_instance_id="me")
    clients.assigned(second, partitions=1)

    def fenced() -> bool:
        try:
            message = first.poll(0.1)
        except KafkaException as raised:
            return raised.args[0].code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)
        error = message.error() if message else None
        return error is not None and error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID)

    wait(fenced, "the first holder is told")


def test_a_group_is_described(clients: Any, wait: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    consumer = clients.consumer(topic, group_id=group, client_id="the-client")
    clients.assigned(consumer, partitions=2)
    wait(lambda: describe(clients, group).state == ConsumerGroupState.STABLE, "a stable group")
    described = describe(clients, group)
    (member,) = described.members
    assert member.client_id == "the-client"
    assert {(p.topic, p.partition) for p in member.assignment.topic_partitions} == {(topic, 0), (topic, 1)}
    assert described.partition_assignor == "range"
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    clients.closed(consumer)
    wait(lambda: describe(clients, group).state == ConsumerGroupState.EMPTY, "an empty group")


def test_an_unknown_group_is_dead(clients: Any):
    group = clients.name("g")
    assert describe(clients, group).state == ConsumerGroupState.DEAD


def test_groups_are_listed(clients: Any):
    topic, group = clients.topic(), clients.name("g")
    clients.assigned(clients.consumer(topic, group_id=group), partitions=1)
    listed = clients.admin.list_consumer_groups().result(20)
    assert group in {found.group_id for found in listed.valid}


def test_an_empty_group_can_be_deleted_and_one_with_members_cannot(clients: Any, wait: Any):
    topic, group = clients.topic(), clients.name("g")
    consumer = clients.consumer(topic, group_id=group)
    clients.assigned(consumer, partitions=1)
    with pytest.raises(KafkaException) as refused:
        clients.admin.delete_consumer_groups([group])[group].result(20)
    assert refused.value.args[0].code() == KafkaError.NON_EMPTY_GROUP
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    clients.closed(consumer)
    wait(lambda: describe(clients, group).state == ConsumerGroupState.EMPTY, "an empty group")
    clients.admin.delete_consumer_groups([group])[group].result(20)
    assert committed(clients.consumer(group_id=group), topic) == [-1001]


def test_offsets_of_a_group_can_be_listed_by_an_administrator(clients: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    clients.consumer(group_id=group).commit(offsets=[TopicPartition(topic, 1, 9)], asynchronous=False)
    request = ConsumerGroupTopicPartitions(group)
    found = clients.admin.list_consumer_group_offsets([request])[group].result(20)
    assert {(p.topic, p.partition): p.offset for p in found.topic_partitions} == {(topic, 1): 9}


def test_a_rebalance_is_quick(clients: Any):
    topic, group = clients.topic(partitions=2), clients.name("g")
    first = clients.consumer(topic, group_id=group)
    clients.assigned(first, partitions=2)
    started = time.monotonic()
    clients.assigned(first, clients.consumer(topic, group_id=group), partitions=2)
    assert time.monotonic() - started < 30


def test_cooperative_members_keep_what_stays_theirs(clients: Any):
    topic, group = clients.topic(partitions=4), clients.name("g")
    revoked: list[set[int]] = []
    settings = {"group_id": group, "partition_assignment_strategy": "cooperative-sticky"}
    first = clients.consumer(**settings)
    first.subscribe([topic], on_revoke=lambda _, gone: revoked.append({p.partition for p in gone}))
    clients.assigned(first, partitions=4)
    second = clients.consumer(topic, **settings)
    kept, given = clients.assigned(first, second, partitions=4)
    assert (len(kept), len(given)) == (2, 2)
    assert revoked == [given]


def test_members_of_two_ways_to_rebalance_cannot_be_in_one_group(clients: Any, wait: Any):
    topic, group = clients.topic(), clients.name("g")
    eager = clients.consumer(topic, group_id=group, partition_assignment_strategy="range")
    clients.assigned(eager, partitions=1)
    other = clients.consumer(topic, group_id=group, partition_assignment_strategy="cooperative-sticky")

    def refused() -> bool:
        message = other.poll(0.1)
        error = message.error() if message else None
        return error is not None and error.code() == KafkaError.INCONSISTENT_GROUP_PROTOCOL

    wait(refused, "the second member is told")
    assert clients.assigned(eager, partitions=1) == [{0}]


def test_a_group_is_listed_by_its_state_and_type(clients: Any):
    topic, group = clients.topic(), clients.name("g")
    clients.assigned(clients.consumer(topic, group_id=group), partitions=1)

    def names(**filters: Any) -> set[str]:
        return {found.group_id for found in clients.admin.list_consumer_groups(**filters).result(20).valid}

    assert group in names(states={ConsumerGroupState.STABLE})
    assert group not in names(states={ConsumerGroupState.EMPTY})
    assert group in names(types={ConsumerGroupType.CLASSIC})
    assert group not in names(types={ConsumerGroupType.CONSUMER})


def test_an_administrator_sets_offsets_of_an_empty_group(clients: Any):
    topic, group = clients.topic(), clients.name("g")
    clients.send(topic, "a", "b")
    to = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])
    clients.admin.alter_consumer_group_offsets([to])[group].result(20)
    assert clients.poll(clients.consumer(topic, group_id=group), 1)[0].value() == b"b"


def test_an_administrator_cannot_set_offsets_of_a_group_with_members(clients: Any):
    topic, group = clients.topic(), clients.name("g")
    clients.assigned(clients.consumer(topic, group_id=group), partitions=1)
    to = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 1)])
    result = clients.admin.alter_consumer_group_offsets([to])[group].result(20)
    assert result.topic_partitions[0].error.code() == KafkaError.UNKNOWN_MEMBER_ID
