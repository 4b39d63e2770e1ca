"""Records that a broker refuses, alone or with the batch they are in, and what the producer can do after that."""

import random

import pytest

from millstream.errors import RecordsRefused
from millstream.kafka.limits import RecordLimits


def noise(size: int) -> bytes:
    """Bytes that no codec makes smaller."""
    return random.Random(7).randbytes(size)


def test_what_follows_a_transaction_that_was_refused_is_committed(broker, kafka):
    small, wide = broker.topic(**{"max.message.bytes": "20000"}), broker.topic()
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    for attempt in (b"1", b"2"):
        producer.begin()
        producer.produce(wide, b"dropped")
        producer.produce(small, noise(30_000))
        with pytest.raises(RecordsRefused, match=small) as refused:
            producer.commit()
        assert refused.value.topic == small
        producer.begin()
        producer.produce(wide, attempt)
        producer.produce(small, attempt)
        producer.commit()
    assert broker.values(wide) == broker.values(small) == [b"1", b"2"]


def test_a_record_without_a_key_is_refused_by_a_compacted_topic_in_the_same_way(broker, kafka):
    topic = broker.topic(**{"cleanup.policy": "compact"})
    producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
    producer.begin()
    producer.produce(topic, b"dropped", b"k")
    producer.produce(topic, b"no key")
    with pytest.raises(RecordsRefused, match=topic):
        producer.commit()
    producer.begin()
    producer.produce(topic, b"kept", b"k")
    producer.commit()
    assert broker.values(topic) == [b"kept"]


def test_without_transactions_it_is_the_same(broker, kafka):
    topic = broker.topic(**{"max.message.bytes": "20000"})
    producer = broker.closing(kafka.producer())
    for attempt in (b"1", b"2"):
        producer.produce(topic, noise(30_000))
        with pytest.raises(RecordsRefused, match=topic):
            producer.flush()
        producer.produce(topic, attempt)
        producer.flush()
    assert broker.values(topic) == [b"1", b"2"]


@pytest.mark.parametrize("kind", ["transactional", "plain"])
def test_records_that_fit_make_no_batch_that_does_not(broker, kind):
    kafka = broker.connect(kafka={"linger.ms": "200"})
    topic = broker.topic(**{"max.message.bytes": "20000"})
    limits = RecordLimits(kafka, 1_000_000)
    limits.ask([topic, broker.name("missing")])
    assert limits.smallest < 20_000
    assert limits.value(topic) < limits.record(topic) < 20_000
    values = [noise(9_000) + b"%d" % number for number in range(10)]
    if kind == "plain":
        producer = broker.closing(kafka.producer())
        producer.keep_to(limits.smallest)
        for value in values:
            producer.produce(topic, value, partition=0)
        producer.flush()
    else:
        producer = broker.closing(kafka.transactional_producer(broker.name("slot")))
        producer.keep_to(limits.smallest)
        producer.begin()
        for value in values:
            producer.produce(topic, value, partition=0)
        producer.commit()
    assert broker.values(topic) == values
