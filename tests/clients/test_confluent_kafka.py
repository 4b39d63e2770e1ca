"""confluent-kafka (librdkafka), which everything in Millstream uses, by its admin and its groups; the conformance suite
does the rest with it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    OffsetSpec,
    ResourceType,
)  # fmt: skip
from confluent_kafka.cimpl import NewPartitions, NewTopic

from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.real
PATIENCE_SECONDS = 20.0


@pytest.fixture
def admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


def settled(futures: dict[Any, Any]) -> list[Any]:
    return [future.result(PATIENCE_SECONDS) for future in futures.values()]


def taken(consumer: Consumer, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    give_up = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        assert time.monotonic() < give_up, found
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            found.append(message.value())
    return found


def test_topics_and_configurations_are_administered(admin: AdminClient, topic: str):
    settled(admin.create_topics([NewTopic(topic, 2, config={"retention.ms": "600000"})]))
    with pytest.raises(KafkaException) as failure:
        settled(admin.create_topics([NewTopic(topic, 2)]))
    assert failure.value.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    settled(admin.create_partitions([NewPartitions(topic, 3)]))
    wait_until(
        lambda: len(admin.list_topics(topic, PATIENCE_SECONDS).topics[topic].partitions) == 3,
        seconds=PATIENCE_SECONDS,
        what="every broker knows the new partition",
    )
    entry = ConfigEntry("retention.ms", "123456", incremental_operation=AlterConfigOpType.SET)
    which = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    settled(admin.incremental_alter_configs([which]))
    asked = [ConfigResource(ResourceType.TOPIC, topic)]
    wait_until(
        lambda: settled(admin.describe_configs(asked))[0]["retention.ms"].value == "123456",
        seconds=PATIENCE_SECONDS,
        what="every broker knows the new value",
    )
    settled(admin.delete_topics([topic]))


def test_a_group_reads_commits_and_is_administered(cluster: Cluster, admin: AdminClient, topic: str):
    settled(admin.create_topics([NewTopic(topic, 1)]))
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "enable.idempotence": True})
    for number in range(10):
        producer.produce(topic, str(number), key="k", headers={"by": "confluent"})
    assert producer.flush(PATIENCE_SECONDS) == 0
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    assert taken(consumer, 10) == [str(number).encode() for number in range(10)]
    (described,) = settled(admin.describe_consumer_groups([topic]))
    assert (described.state.name, len(described.members)) == ("STABLE", 1)
    consumer.close()
    asked = [ConsumerGroupTopicPartitions(topic, [TopicPartition(topic, 0)])]
    (offsets,) = settled(admin.list_consumer_group_offsets(asked))
    assert offsets.topic_partitions[0].offset == 10
    (end,) = settled(admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.latest()}))
    assert end.offset == 10
    settled(admin.delete_consumer_groups([topic]))
    settled(admin.delete_records([TopicPartition(topic, 0, 4)]))
    (start,) = settled(admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.earliest()}))
    assert start.offset == 4


def test_the_new_group_protocol_is_refused_at_once(local: Cluster, topic: str):
    admin = AdminClient({"bootstrap.servers": local.bootstrap})
    settled(admin.create_topics([NewTopic(topic, 1)]))
    told: list[KafkaError] = []
    consumer = Consumer(
        {
            "bootstrap.servers": local.bootstrap,
            "group.id": topic,
            "group.protocol": "consumer",
            "error_cb": told.append,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])

    def was_told() -> bool:
        message = consumer.poll(0.1)
        if message is not None and (error := message.error()) is not None:
            told.append(error)
        return bool(told)

    _within(5, was_told)
    assert told[0].code() == KafkaError._FATAL and "API version not supported" in told[0].str(), told
    consumer.close()


def test_transactions_carry_offsets_and_fence(cluster: Cluster, admin: AdminClient, topic: str):
    settled(admin.create_topics([NewTopic(topic, 1)]))

    def transactional() -> Producer:
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": topic, "log_level": 0})
        producer.init_transactions(PATIENCE_SECONDS)
        return producer

    reading = {"bootstrap.servers": cluster.bootstrap, "group.id": topic, "isolation.level": "read_committed"}
    consumer = Consumer(reading)
    first = transactional()
    for value, commit in (("aborted", False), ("kept", True)):
        first.begin_transaction()
        first.produce(topic, value)
        first.flush(PATIENCE_SECONDS)
        offsets = [TopicPartition(topic, 0, 7)]
        first.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), PATIENCE_SECONDS)
        (first.commit_transaction if commit else first.abort_transaction)(PATIENCE_SECONDS)
    transactional()
    first.begin_transaction()
    first.produce(topic, "too late")
    with pytest.raises(KafkaException) as failure:
        first.commit_transaction(PATIENCE_SECONDS)
    assert failure.value.args[0].fatal()
    assert consumer.committed([TopicPartition(topic, 0)], PATIENCE_SECONDS)[0].offset == 7
    consumer.assign([TopicPartition(topic, 0, 0)])
    assert taken(consumer, 1) == [b"kept"]
    consumer.close()


def _within(seconds: float, condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
