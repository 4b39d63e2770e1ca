"""What `MILLSTREAM_KAFKA` says reaches the clients that it is for."""

import uuid

import pytest

from millstream.kafka import TopicSpec, connect, properties
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka


@pytest.mark.parametrize("option", ["max.poll.interval.ms", "session.timeout.ms"])
def test_what_is_for_members_of_a_group_does_not_reach_others(option: str):
    settings = Settings(kafka={option: "7000", "linger.ms": "1"})
    assert properties.consumer(settings, "c", "g", None, "read_committed", False)[option] == "7000"
    for others in (
        properties.reader(settings, "c", "read_committed"),
        properties.producer(settings, "c"),
        properties.transactional_producer(settings, "c", "t"),
    ):
        assert option not in others
        assert others["linger.ms"] == "1"


def test_a_short_poll_interval_shortens_the_session_that_it_bounds():
    found = properties.consumer(
        Settings(kafka={"max.poll.interval.ms": "7000"}), "c", "g", None, "read_committed", False
    )
    assert found["session.timeout.ms"] == 7000
    assert found["heartbeat.interval.ms"] == 1000


def test_members_and_changelog_readers_work_with_a_short_poll_interval(shared_kafka: LocalKafka):
    topic = f"t{uuid.uuid4().hex[:8]}"
    kafka = connect(Settings(bootstrap_servers=shared_kafka.bootstrap, kafka={"max.poll.interval.ms": "7000"}))
    admin = kafka.admin()
    admin.ensure_topics([TopicSpec(topic, 1)])
    admin.close()
    producer = kafka.producer()
    producer.produce(topic, b"here")
    producer.flush()
    producer.close()
    assert [message.value() for batch in kafka.read_to_end(topic) for message in batch] == [b"here"]
    consumer = kafka.consumer(topic, instance=f"{topic}-0")
    consumer.subscribe([topic])
    wait_until(lambda: bool(consumer.poll_batch(1)), seconds=60, what="the record comes")
    consumer.close()
