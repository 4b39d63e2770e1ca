import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from millstream.errors import ConfigurationError, TopicMissing, Unavailable
from millstream.kafka import TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.apache import ApacheKafka

from .conftest import take


def test_topics_are_made_once_with_their_configuration(broker, kafka):
    admin = kafka.admin()
    name = broker.name("topic")
    spec = TopicSpec(name, 3, {"cleanup.policy": "compact"})
    assert admin.ensure_topics([spec]) == [name]
    assert admin.ensure_topics([spec]) == []
    assert admin.topics()[name].partitions == 3
    assert admin.topic_config(name)["cleanup.policy"] == "compact"


def test_many_may_make_the_same_topics_at_once(broker, kafka):
    names = [broker.name("topic") for _ in range(3)]

    def make(_: int) -> list[str]:
        return kafka.admin().ensure_topics([TopicSpec(name, 2) for name in names])

    with ThreadPoolExecutor(6) as pool:
        made = [name for each in pool.map(make, range(6)) for name in each]
    assert sorted(made) == sorted(names)


def test_another_partition_count_is_an_error_that_names_both(broker, kafka):
    topic = broker.topic(2)
    with pytest.raises(ConfigurationError, match=r"has 2 partitions but is declared with 4"):
        kafka.admin().ensure_topics([TopicSpec(topic, 4)])


def test_lag_counts_records_and_no_markers(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for n in range(3):
        producer.begin()
        producer.produce(topic, b"%d" % n)
        producer.commit()
    consumer = broker.closing(kafka.consumer(group))
    consumer.subscribe([topic])
    take(consumer, 3)
    admin = kafka.admin()
    assert [lag.lag for lag in admin.group_lag(group, [topic])] == [3]
    consumer.commit({(topic, 0): 3})
    assert [(lag.committed, lag.end, lag.lag) for lag in admin.group_lag(group)] == [(3, 6, 1)]
    consumer.commit({(topic, 0): 5})
    assert [(lag.committed, lag.end, lag.lag) for lag in admin.group_lag(group)] == [(5, 6, 0)]
    assert group in admin.groups()


def test_a_deleted_topic_is_gone(broker, kafka):
    topic = broker.topic()
    admin = kafka.admin()
    admin.delete_topics([topic])
    assert topic not in admin.topics()
    with pytest.raises(TopicMissing):
        admin.delete_topics([topic])


def test_the_cluster_says_who_it_is(broker, kafka):
    admin = kafka.admin()
    assert admin.cluster_id()
    assert admin.brokers() == [broker.bootstrap]


def test_without_a_broker_questions_end_in_time():
    admin = connect(Settings(bootstrap_servers="127.0.0.1:1")).admin()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        admin.topics(timeout=0.5)
    with pytest.raises(Unavailable):
        admin.cluster_id(timeout=0.5)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        admin.end_offsets([("t", 0)], timeout=0.5)
    assert time.monotonic() - began < 2


@pytest.mark.real
def test_the_ends_of_partitions_made_a_moment_ago(apache_kafka: ApacheKafka):
    admin = connect(Settings(bootstrap_servers=apache_kafka.bootstrap)).admin()
    for _ in range(5):
        topic = f"ends-{time.time_ns()}"
        admin.ensure_topics([TopicSpec(topic, 12)])
        partitions = [(topic, partition) for partition in range(12)]
        assert admin.end_offsets(partitions) == dict.fromkeys(partitions, 0)
