"""Topic administration and its error codes."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic, ResourceType


def refusal(futures: Any) -> int:
    with pytest.raises(KafkaException) as refused:
        next(iter(futures.values())).result(20)
    return refused.value.args[0].code()


def test_a_topic_has_the_partitions_it_was_made_with(clients: Any):
    topic = clients.topic(partitions=5)
    described = clients.admin.list_topics(topic, timeout=10).topics[topic]
    assert sorted(described.partitions) == [0, 1, 2, 3, 4]
    assert all(p.leader in p.isrs and p.leader in p.replicas for p in described.partitions.values())


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (NewTopic("bad/name", 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("x" * 250, 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("..", 1), KafkaError.TOPIC_EXCEPTION),
        (NewTopic("no-partitions", 0), KafkaError.INVALID_PARTITIONS),
        (NewTopic("too-many-copies", 1, replication_factor=9), KafkaError.INVALID_REPLICATION_FACTOR),
        (NewTopic("bad-setting", 1, config={"no.such.setting": "1"}), KafkaError.INVALID_CONFIG),
        (NewTopic("bad-value", 1, config={"cleanup.policy": "sometimes"}), KafkaError.INVALID_CONFIG),
        (NewTopic("bad-number", 1, config={"retention.ms": "long"}), KafkaError.INVALID_CONFIG),
    ],
    ids=lambda value: value.topic[:20] if isinstance(value, NewTopic) else "",
)
def test_a_topic_that_cannot_be_is_refused(clients: Any, topic: NewTopic, code: int):
    assert refusal(clients.admin.create_topics([topic])) == code
    assert topic.topic not in clients.admin.list_topics(timeout=10).topics


def test_a_topic_is_made_once(clients: Any):
    topic = clients.topic()
    assert refusal(clients.admin.create_topics([NewTopic(topic, 1)])) == KafkaError.TOPIC_ALREADY_EXISTS


def test_one_bad_topic_does_not_hold_back_the_others(clients: Any, wait: Any):
    good = clients.name()
    futures = clients.admin.create_topics([NewTopic("bad/name", 1), NewTopic(good, 1)])
    futures[good].result(20)
    with pytest.raises(KafkaException):
        futures["bad/name"].result(20)
    wait(lambda: good in clients.admin.list_topics(timeout=10).topics, "the good topic")


def test_validating_makes_nothing(clients: Any):
    topic = clients.name()
    clients.admin.create_topics([NewTopic(topic, 1)], validate_only=True)[topic].result(20)
    assert topic not in clients.admin.list_topics(timeout=10).topics


def test_an_unknown_topic_is_not_made_by_asking(clients: Any):
    topic = clients.name()
    described = clients.admin.list_topics(topic, timeout=10).topics[topic]
    assert described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert topic not in clients.admin.list_topics(timeout=10).topics


def test_a_deleted_topic_is_gone_and_a_new_one_of_its_name_is_empty(clients: Any, wait: Any):
    topic = clients.topic()
    clients.send(topic, "old")
    old_id = clients.wire.topic_id(topic)
    clients.admin.delete_topics([topic])[topic].result(20)
    wait(lambda: topic not in clients.admin.list_topics(timeout=10).topics, "the deletion")
    clients.admin.create_topics([NewTopic(topic, 1)])[topic].result(20)
    wait(lambda: topic in clients.admin.list_topics(timeout=10).topics, "the new topic")
    assert clients.wire.topic_id(topic) != old_id
    assert clients.list_offset(topic, -1).offset == 0


def test_deleting_an_unknown_topic_is_refused(clients: Any):
    assert refusal(clients.admin.delete_topics([clients.name()])) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_partitions_are_added_and_never_taken(clients: Any, wait: Any):
    topic = clients.topic(partitions=2)
    clients.admin.create_partitions([NewPartitions(topic, 4)])[topic].result(20)
    wait(lambda: len(clients.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4, "four partitions")
    assert refusal(clients.admin.create_partitions([NewPartitions(topic, 3)])) == KafkaError.INVALID_PARTITIONS
    assert refusal(clients.admin.create_partitions([NewPartitions(topic, 4)])) == KafkaError.INVALID_PARTITIONS


def described(clients: Any, topic: str) -> dict[str, ConfigEntry]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return clients.admin.describe_configs([resource])[resource].result(20)


def test_settings_are_described(clients: Any):
    topic = clients.topic(retention_ms=12_345, cleanup_policy="compact")
    entries = described(clients, topic)
    assert (entries["retention.ms"].value, entries["retention.ms"].is_default) == ("12345", False)
    assert entries["cleanup.policy"].value == "compact"
    assert entries["max.message.bytes"].value == "1048588"
    assert entries["max.message.bytes"].is_default


def test_settings_of_an_unknown_topic(clients: Any):
    resource = ConfigResource(ResourceType.TOPIC, clients.name())
    assert refusal(clients.admin.describe_configs([resource])) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_settings_are_changed_and_taken_back(clients: Any, wait: Any):
    topic = clients.topic(retention_ms=12_345)

    def alter(name: str, value: str | None, how: AlterConfigOpType) -> None:
        entry = ConfigEntry(name, value, incremental_operation=how)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        clients.admin.incremental_alter_configs([resource])[resource].result(20)

    alter("max.message.bytes", "2000", AlterConfigOpType.SET)
    wait(lambda: described(clients, topic)["max.message.bytes"].value == "2000", "the new setting")
    assert described(clients, topic)["retention.ms"].value == "12345"
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    wait(lambda: described(clients, topic)["retention.ms"].is_default, "the default")


def test_the_cluster_says_who_it_is(clients: Any):
    described = clients.admin.describe_cluster().result(20)
    assert described.cluster_id
    assert described.controller.id in {node.id for node in described.nodes}


def test_versions_that_a_broker_does_not_know_are_answered_with_those_it_knows(clients: Any):
    connection = clients.wire.any
    answer = connection.ask("api_versions", 3, client_software_name="test", client_software_version="1")
    ranges = {api.api_key: (api.min_version, api.max_version) for api in answer.api_keys}
    # The versions that librdkafka 2.16 and current Java clients both speak.
    wanted = {
        0: 10,
        1: 16,
        2: 7,
        3: 12,
        8: 8,
        9: 8,
        10: 2,
        11: 5,
        12: 3,
        13: 1,
        14: 3,
        19: 4,
        22: 4,
        24: 0,
        26: 1,
        28: 3,
    }
    for key, version in wanted.items():
        lowest, highest = ranges[key]
        assert lowest <= version <= highest, f"API {key}"
