import time

import pytest

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
    settings = broker.settings.model_copy(update={"kafka": {"topic.metadata.propagation.max.ms": "500"}})
    producer = broker.closing(connect(settings, "test").producer())
    producer.produce("nobody.made.this", b"")
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        producer.flush()
    producer.flush()


def test_a_record_too_large_is_refused_at_once(broker, kafka):
    producer = broker.closing(kafka.producer())
    with pytest.raises(EncodeError, match="too large"):
        producer.produce(broker.topic(), bytes(2_000_000))


def test_without_a_broker_flush_and_close_are_bounded():
    producer = connect(Settings(bootstrap_servers="127.0.0.1:1")).producer()
    producer.produce("topic", b"")
    started = time.monotonic()
    with pytest.raises(Unavailable, match="1 records"):
        producer.flush(timeout=0.3)
    producer.close(timeout=0.3)
    assert time.monotonic() - started < 3


def test_properties_that_librdkafka_refuses_are_named():
    settings = Settings(kafka={"no.such.property": "1"})
    for make in (connect(settings).producer, connect(settings).admin, lambda: connect(settings).consumer("group")):
        with pytest.raises(ConfigurationError, match=r"no\.such\.property"):
            make()
