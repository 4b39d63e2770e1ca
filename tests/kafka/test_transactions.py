import pytest
from tests.kafka.proxy import END_TXN

from millstream.errors import (
    CommitUnknown,
    EncodeError,
    Fenced,
    KafkaFault,
    TopicMissing,
    TransactionAborted,
    Unavailable,
)


def test_what_is_committed_is_visible_and_what_is_aborted_is_not(broker, kafka):
    topic = broker.topic(2)
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    producer.begin()
    producer.produce(topic, b"kept", b"key", [("h", b"1")])
    producer.commit()
    producer.begin()
    producer.produce(topic, b"dropped", b"key")
    producer.abort()
    producer.begin()
    producer.produce(topic, b"kept too", b"key", partition=1, timestamp=1_700_000_000_000)
    producer.commit()
    records = [message for batch in kafka.read_to_end(topic) for message in batch]
    assert sorted(message.value() for message in records) == [b"kept", b"kept too"]
    by_value = {message.value(): message for message in records}
    assert by_value[b"kept"].headers() == [("h", b"1")]
    assert by_value[b"kept too"].partition() == 1
    assert by_value[b"kept too"].timestamp()[1] == 1_700_000_000_000


def test_keys_are_hashed_as_java_does(broker, kafka):
    topic = broker.topic(6)
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    producer.begin()
    for key in (b"21", b"foobar", b"a-little-bit-long-string"):
        producer.produce(topic, b"", key)
    producer.commit()
    found = {message.key(): message.partition() for batch in kafka.read_to_end(topic) for message in batch}
    # The hashes are those of the tests of Kafka's own Utils.murmur2.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert found == {key: (number & 0x7FFFFFFF) % 6 for key, number in known.items()}


def test_offsets_are_committed_with_the_records_and_only_with_them(broker, kafka):
    source, target, group = broker.topic(), broker.topic(), broker.name("group")
    broker.write(source, b"1", b"2")
    consumer = broker.closing(kafka.consumer(group))
    consumer.subscribe([source])
    broker.take(consumer, 2)
    producer = broker.closing(kafka.transactional_producer(broker.name("copier")))
    producer.begin()
    producer.produce(target, b"1")
    producer.send_offsets({(source, 0): 1}, consumer.group_metadata())
    producer.abort()
    assert consumer.committed([(source, 0)])[source, 0].offset is None
    producer.begin()
    producer.produce(target, b"2")
    producer.send_offsets({(source, 0): 2}, consumer.group_metadata(), {(source, 0): "note"})
    producer.commit()
    assert consumer.committed([(source, 0)])[source, 0] == (2, "note")
    assert broker.values(target) == [b"2"]


@pytest.mark.scenario(10)
def test_a_member_that_left_cannot_commit_and_its_transaction_is_aborted(broker, kafka):
    source, target = broker.topic(), broker.topic()
    consumer = kafka.consumer(broker.name("group"))
    consumer.subscribe([source])
    broker.assigned(consumer)
    membership = consumer.group_metadata()
    consumer.close()
    producer = broker.closing(kafka.transactional_producer(broker.name("copier")))
    producer.begin()
    producer.produce(target, b"stale")
    with pytest.raises(TransactionAborted) as aborted:
        producer.send_offsets({(source, 0): 1}, membership)
    assert aborted.value.retriable
    producer.begin()
    producer.produce(target, b"fresh")
    producer.commit()
    assert broker.values(target) == [b"fresh"]


def test_a_successor_fences_and_aborts_its_predecessor(broker, kafka):
    topic, name = broker.topic(), broker.name("slot")
    old = broker.closing(kafka.transactional_producer(name))
    old.begin()
    old.produce(topic, b"old")
    new = broker.closing(kafka.transactional_producer(name))
    new.begin()
    with pytest.raises(Fenced, match="newer holder") as fenced:
        old.commit()
    assert not fenced.value.retriable
    with pytest.raises(Fenced):
        old.begin()
    new.produce(topic, b"new")
    new.commit()
    assert broker.values(topic) == [b"new"]


def test_a_fenced_producer_says_so_when_it_produces_and_sends_offsets(broker, kafka):
    topic, name = broker.topic(), broker.name("slot")
    old = broker.closing(kafka.transactional_producer(name))
    old.begin()
    broker.closing(kafka.transactional_producer(name)).init()
    with pytest.raises(Fenced):
        broker.until(lambda: old.produce(topic, b"old") is not None, "Fenced")
    assert broker.values(topic) == []


@pytest.mark.scenario(5)
def test_a_lost_answer_leaves_a_whole_transaction_and_the_next_stands_alone(broker):
    topic, name = broker.topic(), broker.name("slot")
    way, kafka = broker.flaky()
    producer = broker.closing(kafka.transactional_producer(name))
    producer.begin()
    producer.produce(topic, b"first")
    way.lose(END_TXN)
    started = broker.clock()
    with pytest.raises(CommitUnknown):
        producer.commit(timeout=1.5)
    assert broker.clock() - started < 5
    assert way.hits.is_set()
    way.heal()
    producer.begin()
    assert broker.values(topic) == [b"first"]
    producer.produce(topic, b"second")
    producer.abort()
    producer.begin()
    producer.produce(topic, b"third")
    producer.commit()
    assert broker.values(topic) == [b"first", b"third"]


def test_a_commit_whose_answer_is_lost_once_is_resumed(broker):
    topic = broker.topic()
    way, kafka = broker.flaky()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"once")
    way.lose_once(END_TXN)
    producer.commit()
    assert way.hits.is_set()
    assert broker.values(topic) == [b"once"]


@pytest.mark.scenario(8)
def test_a_delayed_commit_cannot_hit_the_next_transaction(broker, request):
    if not hasattr(broker, "world"):
        request.applymarker(pytest.mark.xfail(strict=True, reason="librdkafka resumes a commit under the same epoch"))
    topic = broker.topic()
    way, kafka = broker.flaky()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"first")
    way.hold(END_TXN)
    producer.commit()
    producer.begin()
    producer.produce(topic, b"second")
    broker.until(lambda: broker.values(topic, "read_uncommitted") == [b"first", b"second"], "it to be written")
    way.release()
    assert broker.values(topic) == [b"first"]
    producer.abort()
    producer.begin()
    producer.produce(topic, b"third")
    producer.commit()
    assert broker.values(topic) == [b"first", b"third"]


def test_without_a_broker_nothing_hangs_and_afterwards_it_works_again(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"lost")
    broker.kill()
    try:
        started = broker.clock()
        with pytest.raises((CommitUnknown, TransactionAborted)):
            producer.commit(timeout=1.0)
        with pytest.raises(Unavailable):
            producer.begin(timeout=1.0)
        assert broker.clock() - started < 10
    finally:
        broker.restart()
    producer.begin(timeout=30)
    producer.produce(topic, b"kept")
    producer.commit()
    assert broker.values(topic) == [b"kept"]


def test_a_record_too_large_is_left_out_alone(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"small")
    with pytest.raises(EncodeError, match="too large"):
        producer.produce(topic, bytes(2_000_000))
    producer.commit()
    assert broker.values(topic) == [b"small"]


def test_a_topic_that_does_not_exist_aborts_the_transaction_and_is_named(broker):
    kafka = broker.connect(kafka={"topic.metadata.propagation.max.ms": "500"})
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    topic = broker.topic()
    producer.begin()
    producer.produce(topic, b"dropped")
    producer.produce("nobody.made.this", b"dropped")
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        producer.commit()
    producer.begin()
    producer.produce(topic, b"kept")
    producer.commit()
    assert broker.values(topic) == [b"kept"]


@pytest.mark.scenario(11)
def test_a_transaction_that_stays_open_too_long_says_so(broker):
    kafka = broker.connect(transaction_timeout_ms=2_000)
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    topic = broker.topic()
    producer.begin()
    producer.produce(topic, b"too late")
    admin = broker.kafka.admin()

    # The broker's abort marker after the record is what ends the transaction.
    broker.until(lambda: admin.end_offsets([(topic, 0)])[topic, 0] == 2, "the broker to abort it")
    with pytest.raises(Fenced, match="open for"):
        producer.commit()
    assert broker.values(topic) == []


def test_a_full_queue_makes_produce_wait(broker):
    kafka = broker.connect(kafka={"queue.buffering.max.messages": "10"})
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    topic = broker.topic()
    producer.begin()
    for n in range(500):
        producer.produce(topic, b"%d" % n)
    producer.commit()
    assert len(broker.values(topic)) == 500


def test_without_a_transaction_nothing_can_be_written(broker):
    producer = broker.nobody()[1].transactional_producer("slot-0")
    with pytest.raises(KafkaFault, match=r"call begin\(\) first"):
        producer.produce("topic", b"")
    with pytest.raises(KafkaFault, match=r"call begin\(\) first"):
        producer.commit()
    producer.abort()
    assert producer.open_seconds == 0
    producer.close()


def test_an_empty_transaction_and_a_superfluous_abort_are_harmless(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.abort()
    producer.begin()
    producer.commit()
    producer.begin()
    broker.until(lambda: producer.open_seconds > 0, "time to pass")
    producer.abort()
    assert producer.open_seconds == 0
    producer.begin()
    producer.produce(topic, b"kept")
    producer.commit()
    assert broker.values(topic) == [b"kept"]


def test_init_settles_what_a_predecessor_left_open(broker, kafka):
    topic, name = broker.topic(), broker.name("slot")
    old = broker.closing(kafka.transactional_producer(name))
    old.begin()
    old.produce(topic, b"open")
    broker.until(lambda: broker.values(topic, "read_uncommitted") == [b"open"], "it to be written")
    broker.write(topic, b"behind it")
    assert broker.values(topic) == []
    broker.closing(kafka.transactional_producer(name)).init()
    assert broker.values(topic) == [b"behind it"]


def test_close_aborts_what_is_open(broker, kafka):
    topic = broker.topic()
    producer = kafka.transactional_producer(broker.name("slot"))
    producer.begin()
    producer.produce(topic, b"open")
    broker.until(lambda: broker.values(topic, "read_uncommitted") == [b"open"], "it to be written")
    broker.write(topic, b"behind it")
    producer.close()
    assert broker.values(topic) == [b"behind it"]


def test_offsets_without_a_member_commit_too(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    producer = broker.closing(kafka.transactional_producer(broker.name("relay")))
    lender = broker.closing(kafka.consumer(group))
    producer.begin()
    producer.produce(topic, b"1")
    producer.send_offsets({(topic, 0): 41}, lender.group_metadata(), {(topic, 0): "note"})
    producer.commit()
    assert kafka.admin().group_offsets(group) == {(topic, 0): (41, "note")}


def test_a_committed_transaction_outlives_the_broker_and_an_open_one_does_not_show(broker):
    kafka = broker.connect(transaction_timeout_ms=120_000)  # it stays open while a cluster starts again
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"kept")
    producer.commit()
    producer.begin()
    producer.produce(topic, b"open")
    broker.until(lambda: len(broker.values(topic, "read_uncommitted")) == 2, "it to be written")
    broker.kill()
    broker.restart()
    assert broker.values(topic) == [b"kept"]
    producer.commit()
    assert broker.values(topic) == [b"kept", b"open"]
