import re
import time
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from millstream.errors import ConfigurationError, KafkaFault, TopicMissing, Unavailable
from millstream.kafka import BEGINNING, END, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.apache import ApacheKafka


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

    made: list[str] = []

    def make() -> None:
        made.extend(broker.connect().admin().ensure_topics([TopicSpec(name, 2) for name in names]))

    broker.together(6, make)
    assert sorted(made) == sorted(names)


def test_another_partition_count_is_an_error_that_names_both(broker, kafka):
    topic = broker.topic(2)
    with pytest.raises(ConfigurationError, match=r"has 2 partitions but is declared with 4"):
        kafka.admin().ensure_topics([TopicSpec(topic, 4)])
    assert kafka.admin().ensure_topics([TopicSpec(topic, 1)]) == [], "more than are wanted are nobody's trouble"


def test_a_topic_made_again_has_another_id(broker, kafka):
    topic, other, missing = broker.topic(), broker.topic(), broker.name("missing")
    admin = kafka.admin()
    before = admin.topic_ids([topic, other, missing, topic])
    assert before.keys() == {topic, other}
    assert [len(id) for id in before.values()] == [22, 22]
    assert before == admin.topic_ids([topic, other]), "it stays"
    admin.delete_topics([topic])
    broker.until(lambda: topic not in admin.topic_ids([topic]), "it to be gone")
    admin.ensure_topics([TopicSpec(topic, 1)])
    after = admin.topic_ids([topic, other])
    assert after[other] == before[other]
    assert after[topic] not in before.values()
    assert admin.topic_ids([]) == {}


def test_a_topic_whose_deletion_a_broker_has_not_heard_of_is_made_again(broker, kafka, monkeypatch: pytest.MonkeyPatch):
    ask, heard, late = AdminClient.list_topics, list[Any](), list[Any]()

    def list_topics(native: AdminClient, **options: Any) -> Any:
        heard.append(late.pop() if late else ask(native, **options))
        return heard[-1]

    monkeypatch.setattr(AdminClient, "list_topics", list_topics)
    topic, admin = broker.topic(), kafka.admin()
    before = admin.topic_ids([topic])
    assert topic in admin.topics()
    late.extend(heard[-1:])
    admin.delete_topics([topic])
    broker.until(lambda: topic not in admin.topic_ids([topic]), "it to be gone")
    assert admin.ensure_topics([TopicSpec(topic, 1)]) == [topic]
    assert not late
    assert admin.topic_ids([topic]) not in ({}, before)


def test_partitions_are_added_and_can_be_written(broker, kafka):
    topic, missing = broker.topic(2), broker.name("missing")
    admin = kafka.admin()
    id = admin.topic_ids([topic])
    admin.grow_topics({topic: 5})
    assert admin.topics()[topic].partitions == 5
    assert admin.topic_ids([topic]) == id
    broker.write(topic, b"new", partition=4)
    assert broker.values(topic) == [b"new"]
    with pytest.raises(ConfigurationError, match=f"{topic}.* cannot have 3 partitions"):
        admin.grow_topics({topic: 3})
    with pytest.raises(TopicMissing, match=missing):
        admin.grow_topics({missing: 3})
    admin.grow_topics({})


def test_offsets_are_set_for_a_group_that_nobody_is_in(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    broker.write(topic, b"0", b"1", b"2", partition=0)
    admin = kafka.admin()
    admin.set_group_offsets(group, {(topic, 0): 2, (topic, 1): 0})
    assert admin.group_offsets(group) == {(topic, 0): (2, ""), (topic, 1): (0, "")}
    assert admin.group_members(group) == admin.group_members(broker.name("nobody")) == 0
    consumer = broker.closing(kafka.consumer(group))
    consumer.subscribe([topic])
    assert [message.value() for message in broker.take(consumer, 1)] == [b"2"]
    assert admin.group_members(group) == 1
    with pytest.raises(ConfigurationError, match=f"{group}.*has members"):
        admin.set_group_offsets(group, {(topic, 0): 0})
    admin.set_group_offsets(group, {})
    assert admin.group_offsets(group)[topic, 0].offset == 2


def test_offsets_by_time(broker, kafka):
    topic = broker.topic(2)
    producer = broker.closing(kafka.producer())
    now = 1_700_000_000_000
    for second in range(3):
        producer.produce(topic, b"%d" % second, partition=0, timestamp=now + 1000 * second)
    producer.flush()
    admin, partitions = kafka.admin(), [(topic, 0), (topic, 1)]
    assert admin.offsets_at(partitions, now + 500) == {(topic, 0): 1, (topic, 1): 0}
    assert admin.offsets_at(partitions, now + 5_000) == {(topic, 0): 3, (topic, 1): 0}
    assert admin.offsets_at(partitions, BEGINNING) == {(topic, 0): 0, (topic, 1): 0}
    assert admin.offsets_at(partitions, END) == {(topic, 0): 3, (topic, 1): 0}


def test_lag_counts_records_and_no_markers(broker, kafka):
    topic, group = broker.topic(), broker.name("group")
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for n in range(3):
        producer.begin()
        producer.produce(topic, b"%d" % n)
        producer.commit()
    consumer = broker.closing(kafka.consumer(group))
    consumer.subscribe([topic])
    broker.take(consumer, 3)
    admin = kafka.admin()
    assert [lag.lag for lag in admin.group_lag(group, [topic])] == [3]
    consumer.commit({(topic, 0): 3})
    assert [(lag.committed, lag.end, lag.lag) for lag in admin.group_lag(group)] == [(3, 6, 1)]
    consumer.commit({(topic, 0): 5})
    assert [(lag.committed, lag.end, lag.lag) for lag in admin.group_lag(group)] == [(5, 6, 0)]
    assert group in admin.groups()


def test_the_lag_of_many_groups_is_told_at_once_and_to_each_its_own(broker, kafka):
    topics = [broker.topic(3), broker.topic(2)]
    groups = [broker.name("group") for _ in range(3)]
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    for n in range(4):
        producer.begin()
        for topic, partitions in zip(topics, (3, 2), strict=True):
            for partition in range(partitions):
                producer.produce(topic, b"%d" % n, partition=partition)
        producer.commit()
    for group, offset in zip(groups, (0, 4, 8), strict=True):
        consumer = broker.closing(kafka.consumer(group))
        consumer.subscribe([topics[0]])
        broker.take(consumer, 12)
        consumer.commit({(topics[0], partition): offset for partition in range(3)})
    admin = kafka.admin()
    lags = admin.group_lags(dict(zip(groups, ([topics[0]], topics, []), strict=True)))
    assert [
        [(found.partition, found.lag) for found in lags[group] if found.topic == topics[0]] for group in groups
    ] == [
        [(0, 4), (1, 4), (2, 4)],
        [(0, 2), (1, 2), (2, 2)],
        [(0, 0), (1, 0), (2, 0)],
    ]
    assert [found.lag for found in lags[groups[1]] if found.topic == topics[1]] == [4, 4]
    assert all(admin.group_lag(group)[0] == lags[group][0] for group in (groups[0], groups[2]))
    with pytest.raises(TopicMissing):
        admin.group_lags({groups[0]: [], groups[1]: ["nobody.made.this"]})
    assert admin.group_lags({}) == {}


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


def test_without_a_broker_questions_end_in_time(broker):
    address, kafka = broker.nobody()
    admin = kafka.admin()
    with pytest.raises(Unavailable, match=re.escape(address)):
        admin.topics(timeout=0.5)
    with pytest.raises(Unavailable):
        admin.cluster_id(timeout=0.5)
    began = broker.clock()
    with pytest.raises(Unavailable):
        admin.end_offsets([("t", 0)], timeout=0.5)
    assert broker.clock() - began < 2


@pytest.mark.real
def test_the_ends_of_partitions_made_a_moment_ago_on_apache_kafka(apache_kafka: ApacheKafka):
    admin = connect(Settings(bootstrap_servers=apache_kafka.bootstrap)).admin()
    for _ in range(5):
        topic = f"ends-{time.time_ns()}"
        admin.ensure_topics([TopicSpec(topic, 12)])
        partitions = [(topic, partition) for partition in range(12)]
        assert admin.end_offsets(partitions) == dict.fromkeys(partitions, 0)


def test_ends_depend_on_who_asks(broker, kafka):
    topic = broker.topic(2)
    broker.write(topic, b"0", partition=0)
    producer = broker.closing(kafka.transactional_producer(broker.name("writer")))
    producer.begin()
    producer.produce(topic, b"open", partition=0)
    broker.until(lambda: len(broker.values(topic, "read_uncommitted")) == 2, "it to be written")
    admin, partitions = kafka.admin(), [(topic, 0), (topic, 1)]
    assert admin.end_offsets(partitions) == {(topic, 0): 1, (topic, 1): 0}
    assert admin.end_offsets(partitions, "read_uncommitted") == {(topic, 0): 2, (topic, 1): 0}


def test_ends_of_a_topic_that_nobody_made(broker, kafka):
    topic, missing = broker.topic(1), broker.name("missing")
    began = broker.clock()
    for partitions in ([(missing, 0)], [(topic, 0), (missing, 0)]):
        with pytest.raises(TopicMissing, match=missing):
            kafka.admin().end_offsets(partitions)
    assert broker.clock() - began < 9, "two seconds each for a cluster that has not heard of it yet"


def test_a_group_that_never_was_has_no_offsets_and_all_of_the_lag(broker, kafka):
    topic, group = broker.topic(2), broker.name("group")
    broker.write(topic, b"0", b"1", partition=1)
    admin = kafka.admin()
    assert admin.group_offsets(group) == {}
    assert group not in admin.groups()
    lags = admin.group_lag(group, [topic])
    assert [(lag.partition, lag.committed, lag.lag) for lag in lags] == [(0, None, 0), (1, None, 2)]
    with pytest.raises(TopicMissing, match=r"nobody\.made\.this"):
        admin.group_lag(group, ["nobody.made.this"])


def test_a_configuration_that_kafka_does_not_know_is_refused(broker, kafka):
    with pytest.raises(KafkaFault, match="creating topic"):
        kafka.admin().ensure_topics([TopicSpec(broker.name("topic"), 1, {"no.such.config": "1"})])
    with pytest.raises(TopicMissing):
        kafka.admin().topic_config("nobody.made.this")
