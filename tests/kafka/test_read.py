import pytest

from millstream.errors import TopicMissing
from millstream.kafka import END


@pytest.mark.scenario(4)
def test_everything_is_read_in_order_of_each_partition(broker, kafka):
    topic = broker.topic(3)
    broker.write(topic, *(b"%d" % n for n in range(3_000)))
    offsets: dict[int, list[int]] = {}
    for batch in kafka.read_to_end(topic):
        for message in batch:
            offsets.setdefault(message.partition(), []).append(message.offset())
    assert sum(map(len, offsets.values())) == 3_000
    assert all(found == list(range(len(found))) for found in offsets.values())


def test_nothing_is_read_of_an_empty_topic(broker, kafka):
    assert list(kafka.read_to_end(broker.topic(3))) == []


def test_some_partitions_from_given_offsets(broker, kafka):
    topic = broker.topic(3)
    for partition in range(3):
        broker.write(topic, b"0", b"1", b"2", partition=partition)
    batches = kafka.read_to_end(topic, [0, 2], start={(topic, 0): 2, (topic, 2): END})
    assert [(m.partition(), m.offset()) for batch in batches for m in batch] == [(0, 2)]


def test_an_open_transaction_ends_committed_reading_and_markers_do_not_stall_it(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for end in (producer.commit, producer.abort):
        producer.begin()
        producer.produce(topic, b"done")
        end()
    producer.begin()
    producer.produce(topic, b"open")
    # Its own records reach the broker after linger.ms; reading uncommitted sees them then.
    while b"open" not in broker.values(topic, "read_uncommitted"):
        pass
    assert broker.values(topic) == [b"done"]


def test_a_missing_topic_is_named(broker, kafka):
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        list(kafka.read_to_end("nobody.made.this"))
