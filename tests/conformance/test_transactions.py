"""Transactions through librdkafka: what readers see, who is fenced, and offsets that commit with records."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

READ_UNCOMMITTED, READ_COMMITTED = 0, 1


def written(clients: Any, producer: Any, topic: str, *values: str, partition: int = 0) -> None:
    """Produce in the open transaction and wait for the acknowledgements."""
    clients.send(topic, *values, partition=partition, producer=producer)


def test_what_is_committed_can_be_read(clients: Any):
    topic, producer = clients.topic(), clients.transactional()
    producer.begin_transaction()
    written(clients, producer, topic, "a", "b")
    producer.commit_transaction(20)
    clients.expect(topic, ["a", "b"])


@pytest.mark.scenario(2)
def test_what_is_aborted_is_never_read(clients: Any):
    topic, producer = clients.topic(), clients.transactional()
    producer.begin_transaction()
    written(clients, producer, topic, "aborted")
    producer.abort_transaction(20)
    producer.begin_transaction()
    written(clients, producer, topic, "committed")
    producer.commit_transaction(20)
    clients.expect(topic, ["committed"])
    clients.expect(topic, ["aborted", "committed"], isolation="read_uncommitted")


@pytest.mark.scenario(6)
def test_what_is_open_is_not_read_and_holds_back_what_follows(clients: Any):
    topic, producer = clients.topic(), clients.transactional()
    clients.send(topic, "before")
    producer.begin_transaction()
    written(clients, producer, topic, "open")
    clients.send(topic, "after")
    assert clients.read(topic) == ["before"]
    clients.expect(topic, ["before", "open", "after"], isolation="read_uncommitted")
    producer.commit_transaction(20)
    clients.expect(topic, ["before", "open", "after"])


@pytest.mark.scenario(5)
def test_a_transaction_spans_partitions_and_topics(clients: Any):
    first, second, producer = clients.topic(partitions=2), clients.topic(), clients.transactional()
    producer.begin_transaction()
    written(clients, producer, first, "a", partition=0)
    written(clients, producer, first, "b", partition=1)
    written(clients, producer, second, "c")
    assert clients.read(first, partitions=2) + clients.read(second) == []
    producer.commit_transaction(20)
    clients.expect(first, ["a", "b"], partitions=2)
    clients.expect(second, ["c"])


def test_transactions_without_records_commit_and_abort(clients: Any):
    producer = clients.transactional()
    for end in (producer.commit_transaction, producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        end(20)


def test_a_marker_takes_one_offset(clients: Any, wait: Any):
    topic, producer = clients.topic(), clients.transactional()
    for value in "ab":
        producer.begin_transaction()
        written(clients, producer, topic, value)
        producer.commit_transaction(20)
    consumer = clients.consumer(topic)
    assert [message.offset() for message in clients.poll(consumer, 2)] == [0, 2]
    wait(lambda: clients.list_offset(topic, -1).offset == 4, "the second marker")


def test_the_last_stable_offset_stops_at_the_first_open_transaction(clients: Any, wait: Any):
    topic, slow, quick = clients.topic(), clients.transactional(), clients.transactional()
    clients.send(topic, "plain")
    slow.begin_transaction()
    written(clients, slow, topic, "slow")
    quick.begin_transaction()
    written(clients, quick, topic, "quick")
    quick.commit_transaction(20)
    wait(lambda: clients.list_offset(topic, -1).offset == 4, "the quick one's marker")
    answer = clients.fetch(topic, 0, isolation=READ_COMMITTED)
    assert (answer.last_stable_offset, answer.high_watermark) == (1, 4)
    assert clients.list_offset(topic, -1, READ_COMMITTED).offset == 1
    assert clients.list_offset(topic, -1, READ_UNCOMMITTED).offset == 4
    slow.abort_transaction(20)
    wait(lambda: clients.list_offset(topic, -1, READ_COMMITTED).offset == 5, "the end of the slow transaction")
    clients.expect(topic, ["plain", "quick"])


def test_transactions_that_interleave_are_told_apart(clients: Any):
    topic = clients.topic()
    one, two, three = clients.transactional(), clients.transactional(), clients.transactional()
    for producer in (one, two, three):
        producer.begin_transaction()
    for i in range(5):
        for name, producer in (("1", one), ("2", two), ("3", three)):
            written(clients, producer, topic, f"{name}.{i}")
    two.abort_transaction(20)
    three.commit_transaction(20)
    assert clients.read(topic) == []
    one.commit_transaction(20)
    expected = [f"{name}.{i}" for i in range(5) for name in "13"]
    clients.expect(topic, expected)


def test_a_fetch_names_the_aborted_transactions(clients: Any, wait: Any):
    topic, producer = clients.topic(), clients.transactional()
    for _ in range(2):
        producer.begin_transaction()
        written(clients, producer, topic, "x")
        producer.abort_transaction(20)
    wait(lambda: clients.list_offset(topic, -1, READ_COMMITTED).offset == 4, "both markers")
    aborted = clients.fetch(topic, 0, isolation=READ_COMMITTED).aborted_transactions
    assert [transaction.first_offset for transaction in aborted] == [0, 2]
    assert [t.first_offset for t in clients.fetch(topic, 2, isolation=READ_COMMITTED).aborted_transactions] == [2]
    assert not clients.fetch(topic, 0, isolation=READ_UNCOMMITTED).aborted_transactions


def test_a_waiting_reader_is_woken_by_the_commit(clients: Any):
    topic, producer = clients.topic(), clients.transactional()
    consumer = clients.consumer(fetch_wait_max_ms=20_000, enable_partition_eof=False)
    consumer.assign([TopicPartition(topic, 0, 0)])
    producer.begin_transaction()
    written(clients, producer, topic, "a")
    assert consumer.poll(0.5) is None
    producer.commit_transaction(20)
    assert clients.poll(consumer, 1, seconds=5)[0].value() == b"a"


def test_a_second_producer_with_the_same_id_fences_the_first(clients: Any):
    topic, name = clients.topic(), clients.name("txn")
    first = clients.transactional(name)
    first.begin_transaction()
    written(clients, first, topic, "from the first")
    second = clients.transactional(name)
    with pytest.raises(KafkaException) as fenced:
        first.commit_transaction(20)
    assert fenced.value.args[0].fatal()
    assert fenced.value.args[0].code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED)
    second.begin_transaction()
    written(clients, second, topic, "from the second")
    second.commit_transaction(20)
    clients.expect(topic, ["from the second"])


def test_a_fenced_producer_cannot_write(clients: Any):
    topic, name = clients.topic(), clients.name("txn")
    first = clients.transactional(name)
    first.begin_transaction()
    written(clients, first, topic, "a")
    clients.transactional(name)
    with pytest.raises(KafkaException):
        clients.send(topic, "b", producer=first)
    assert clients.read(topic) == []


def test_a_new_holder_aborts_what_its_predecessor_left_open(clients: Any):
    topic, name = clients.topic(), clients.name("txn")
    left = clients.transactional(name)
    left.begin_transaction()
    written(clients, left, topic, "left open")
    clients.send(topic, "waiting behind it")
    assert clients.read(topic) == []
    clients.transactional(name)
    clients.expect(topic, ["waiting behind it"])


def test_a_transaction_that_stays_open_too_long_is_aborted(clients: Any, wait: Any):
    topic = clients.topic()
    producer = clients.transactional(transaction_timeout_ms=1_000, message_timeout_ms=900, socket_timeout_ms=1_000)
    producer.begin_transaction()
    written(clients, producer, topic, "too late")
    clients.send(topic, "behind")
    wait(lambda: clients.list_offset(topic, -1, READ_COMMITTED).offset == 3, "the broker aborts it")
    clients.expect(topic, ["behind"])
    with pytest.raises(KafkaException) as fenced:
        producer.commit_transaction(20)
    assert fenced.value.args[0].fatal()


def consume_in_transaction(clients: Any, count: int) -> tuple[str, str, Any, Any]:
    """A topic with records, a group's member that has polled `count` of them, a producer with an open transaction."""
    topic, group = clients.topic(), clients.name("g")
    clients.send(topic, *[str(i) for i in range(count + 2)])
    consumer = clients.consumer(topic, group_id=group)
    clients.poll(consumer, count)
    producer = clients.transactional()
    producer.begin_transaction()
    return topic, group, consumer, producer


def offset_of(clients: Any, group: str, topic: str) -> int:
    return clients.consumer(group_id=group).committed([TopicPartition(topic, 0)], timeout=20)[0].offset


def test_offsets_are_committed_with_the_records(clients: Any):
    topic, group, consumer, producer = consume_in_transaction(clients, 3)
    output = clients.topic()
    written(clients, producer, output, "result")
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 3)], consumer.consumer_group_metadata(), 20)
    producer.commit_transaction(20)
    assert offset_of(clients, group, topic) == 3
    clients.expect(output, ["result"])


def test_offsets_are_aborted_with_the_records(clients: Any):
    topic, group, consumer, producer = consume_in_transaction(clients, 3)
    consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 3)], consumer.consumer_group_metadata(), 20)
    producer.abort_transaction(20)
    assert offset_of(clients, group, topic) == 1


def test_one_producer_can_commit_for_several_groups(clients: Any):
    topic, group, consumer, producer = consume_in_transaction(clients, 2)
    other = clients.consumer(topic)
    clients.poll(other, 1)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 2)], consumer.consumer_group_metadata(), 20)
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], other.consumer_group_metadata(), 20)
    producer.commit_transaction(20)
    assert offset_of(clients, group, topic) == 2
    assert other.committed([TopicPartition(topic, 0)], timeout=20)[0].offset == 1


def test_offsets_of_a_member_that_was_replaced_are_refused(clients: Any):
    """KIP-447: the generation fences, not the transactional id."""
    topic, group, consumer, producer = consume_in_transaction(clients, 2)
    stale = consumer.consumer_group_metadata()
    clients.closed(consumer)
    successor = clients.consumer(topic, group_id=group)
    clients.assigned(successor, partitions=1)
    with pytest.raises(KafkaException) as refused:
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 2)], stale, 20)
    assert refused.value.args[0].txn_requires_abort()
    producer.abort_transaction(20)
    assert offset_of(clients, group, topic) == -1001


def test_a_chain_of_transactions_processes_each_record_once(clients: Any):
    """Consume, transform, produce; every third attempt is aborted and done again."""
    source, target, group = clients.topic(), clients.topic(), clients.name("g")
    clients.send(source, *[str(i) for i in range(30)])
    consumer, producer, attempts = clients.consumer(source, group_id=group), clients.transactional(), 0
    done = 0
    while done < 30:
        attempts += 1
        batch = clients.poll(consumer, min(5, 30 - done))
        producer.begin_transaction()
        for message in batch:
            producer.produce(target, message.value())
        position = TopicPartition(source, 0, batch[-1].offset() + 1)
        producer.send_offsets_to_transaction([position], consumer.consumer_group_metadata(), 20)
        if attempts % 3 == 0:
            producer.abort_transaction(20)
            consumer.seek(TopicPartition(source, 0, batch[0].offset()))
        else:
            producer.commit_transaction(20)
            done = batch[-1].offset() + 1
    clients.expect(target, [str(i) for i in range(30)])
    assert offset_of(clients, group, source) == 30
