import time

import pytest
from tests.kafka.proxy import PRODUCE

from millstream.errors import ConfigurationError, EncodeError, TopicMissing, Unavailable
from millstream.kafka import connect
from millstream.settings import Settings


def test_every_delivery_is_reported(broker, kafka):
    topic = broker.topic()
    reports: list = []
    producer = broker.closing(kafka.producer(lambda failure, message: reports.append((failure, message.offset()))))
    for n in range(3):
        producer.produce(topic, b"%d" % n)
    producer.flush()
    assert reports == [(None, 0), (None, 1), (None, 2)]


def test_flush_raises_what_was_refused(broker):
    producer = broker.closing(broker.connect(kafka={"topic.metadata.propagation.max.ms": "500"}).producer())
    producer.produce("nobody.made.this", b"")
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        producer.flush()
    producer.flush()


def test_a_record_too_large_is_refused_at_once(broker, kafka):
    producer = broker.closing(kafka.producer())
    with pytest.raises(EncodeError, match="too large"):
        producer.produce(broker.topic(), bytes(2_000_000))


def test_without_a_broker_flush_and_close_are_bounded(broker):
    producer = broker.nobody()[1].producer()
    producer.produce("topic", b"")
    started = broker.clock()
    with pytest.raises(Unavailable, match="1 records"):
        producer.flush(timeout=0.3)
    producer.close(timeout=0.3)
    assert broker.clock() - started < 3


def test_properties_that_librdkafka_refuses_are_named():
    settings = Settings(kafka={"no.such.property": "1"})
    for make in (connect(settings).producer, connect(settings).admin, lambda: connect(settings).consumer("group")):
        with pytest.raises(ConfigurationError, match=r"no\.such\.property"):
            make()


def test_reports_run_in_poll(broker, kafka):
    reports: list = []
    producer = broker.closing(kafka.producer(lambda failure, message: reports.append(message.value())))
    producer.produce(broker.topic(), b"1")
    assert reports == []
    broker.until(lambda: producer.poll(0.1) or reports, "the report")
    assert reports == [b"1"]


def test_a_record_comes_back_as_it_went(broker, kafka):
    topic = broker.topic(3, **{"retention.ms": "-1"})  # one record is of 2023
    producer = broker.closing(kafka.producer())
    began = time.time()
    producer.produce(topic, None, b"deleted", partition=0)
    producer.produce(topic, b"", None, [("empty", b""), ("twice", b"1"), ("twice", b"2")], partition=1)
    producer.produce(topic, b"dated", b"", partition=2, timestamp=1_700_000_000_000)
    producer.flush()
    first, second, third = sorted((m for batch in kafka.read_to_end(topic) for m in batch), key=lambda m: m.partition())
    assert (first.topic(), first.key(), first.value(), first.headers()) == (topic, b"deleted", None, None)
    assert first.timestamp()[0] == 1
    if not hasattr(broker, "world"):
        assert began - 60 < first.timestamp()[1] / 1000 < time.time() + 60
    assert (second.key(), second.value()) == (None, b"")
    assert second.headers() == [("empty", b""), ("twice", b"1"), ("twice", b"2")]
    assert (third.key(), third.value(), third.timestamp()) == (b"", b"dated", (1, 1_700_000_000_000))


def test_records_without_a_key_go_anywhere_and_a_partition_that_is_not_there_is_named(broker, kafka):
    topic = broker.topic(3)
    producer = broker.closing(kafka.producer())
    for n in range(30):
        producer.produce(topic, b"%d" % n)
    producer.flush()
    assert sorted(broker.values(topic)) == sorted(b"%d" % n for n in range(30))

    def write_nowhere() -> None:
        producer.produce(topic, b"nowhere", partition=7)
        producer.flush()

    with pytest.raises(TopicMissing, match=topic):
        write_nowhere()


@pytest.mark.scenario(1)
def test_after_an_outage_everything_is_there_once_and_in_order(broker, kafka):
    topic = broker.topic()
    producer = broker.closing(kafka.producer())
    producer.produce(topic, b"0")
    producer.flush()
    broker.kill()
    for n in range(1, 20):
        producer.produce(topic, b"%d" % n)
    producer.poll(0.2)
    broker.restart()
    producer.flush()
    assert broker.values(topic) == [b"%d" % n for n in range(20)]


@pytest.mark.scenario(3)
def test_a_record_whose_answer_was_lost_is_written_once(broker):
    topic = broker.topic()
    way, kafka = broker.flaky()
    producer = broker.closing(kafka.producer())
    producer.produce(topic, b"0")
    producer.flush()
    way.lose_once(PRODUCE)
    producer.produce(topic, b"1")
    producer.flush()
    assert way.hits.is_set()
    producer.produce(topic, b"2")
    producer.flush()
    assert broker.values(topic) == [b"0", b"1", b"2"]
