"""Topic administration and its error codes."""

from typing import Any
from uuid import UUID

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


# By hand: what no client lets one ask for.


def create(clients: Any, *topics: dict[str, Any], validate_only: bool = False) -> dict[str, Any]:
    asked = [
        {"num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": [], **topic} for topic in topics
    ]
    answer = clients.wire.any.ask("create_topics", 7, topics=asked, timeout=10_000, validate_only=validate_only)
    return {topic.name: topic for topic in answer.topics}


def assigned(*brokers: list[int], first: int = 0) -> dict[str, Any]:
    assignments = [{"partition_index": first + index, "broker_ids": ids} for index, ids in enumerate(brokers)]
    return {"assignments": assignments, "num_partitions": -1, "replication_factor": -1}


@pytest.mark.parametrize("validate_only", [False, True])
def test_a_created_topic_is_described_in_the_answer(clients: Any, validate_only: bool):
    name = clients.name()
    wanted = {"name": name, "num_partitions": 3, "configs": [{"name": "retention.ms", "value": "5000"}]}
    made = create(clients, wanted, validate_only=validate_only)[name]
    assert (made.error_code.name, made.num_partitions) == ("none", 3)
    assert made.replication_factor == 1
    configs = {config.name: (config.value, config.config_source) for config in made.configs}
    assert configs["retention.ms"] == ("5000", 1)
    assert configs["segment.bytes"] == ("1073741824", 5)


def test_partitions_and_replicas_may_be_left_to_the_broker(clients: Any):
    name = clients.name()
    made = create(clients, {"name": name, "num_partitions": -1, "replication_factor": -1}, validate_only=True)[name]
    assert (made.error_code.name, made.num_partitions) == ("none", 1)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"name": "a b"}, "invalid_topic_exception"),
        ({"name": ""}, "invalid_topic_exception"),
        ({"name": "."}, "invalid_topic_exception"),
        ({"name": "__cluster_metadata"}, "invalid_request"),
        ({"num_partitions": -5}, "invalid_partitions"),
        ({"replication_factor": 0}, "invalid_replication_factor"),
        ({"replication_factor": -3}, "invalid_replication_factor"),
        ({"configs": [{"name": "retention.ms", "value": None}]}, "invalid_config"),
        (assigned([99]), "invalid_replica_assignment"),
        (assigned([]), "invalid_replica_assignment"),
        (assigned([1, 1]), "invalid_replica_assignment"),
        (assigned([1], first=1), "invalid_replica_assignment"),
        ({**assigned([1]), "num_partitions": 1}, "invalid_request"),
        ({**assigned([1]), "replication_factor": 1}, "invalid_request"),
    ],
)
def test_a_topic_that_cannot_be_says_why(clients: Any, wanted: dict[str, Any], code: str):
    wanted = {"name": clients.name(), **wanted}
    refused = create(clients, wanted)[wanted["name"]]
    assert (refused.error_code.name, refused.num_partitions, refused.replication_factor) == (code, -1, -1)
    assert refused.error_message
    assert wanted["name"] not in clients.admin.list_topics(timeout=10).topics


def test_a_topic_is_made_with_the_partitions_that_are_assigned(clients: Any, wait: Any):
    name = clients.name()
    assert create(clients, {"name": name, **assigned([1], [1])})[name].num_partitions == 2
    wait(lambda: len(clients.admin.list_topics(name, timeout=10).topics[name].partitions) == 2, "two partitions")


def test_names_that_would_share_their_metrics_collide(clients: Any):
    name = clients.name()
    assert create(clients, {"name": f"{name}.a"})[f"{name}.a"].error_code.name == "none"
    assert create(clients, {"name": f"{name}_a"})[f"{name}_a"].error_code.name == "invalid_topic_exception"


def test_a_name_is_free_again_after_the_deletion(clients: Any, wait: Any):
    name = clients.name()
    create(clients, {"name": f"{name}.a"})
    wait(lambda: f"{name}.a" in clients.admin.list_topics(timeout=10).topics, "the first topic")
    assert delete(clients, {"name": f"{name}.a"}) == [(f"{name}.a", "none")]
    wait(lambda: create(clients, {"name": f"{name}_a"})[f"{name}_a"].error_code.name == "none", "the second topic")


def test_a_topic_is_named_once_in_a_request(clients: Any):
    name, other = clients.name(), clients.name()
    answers = create(clients, {"name": name}, {"name": name}, {"name": other})
    assert {topic: answer.error_code.name for topic, answer in answers.items()} == {
        name: "invalid_request",
        other: "none",
    }


def test_the_last_of_two_values_for_a_configuration_counts(clients: Any):
    name = clients.name()
    configs = [{"name": "retention.ms", "value": value} for value in ("1000", "2000")]
    made = create(clients, {"name": name, "configs": configs})[name]
    assert {c.name: c.value for c in made.configs}["retention.ms"] == "2000"


@pytest.mark.parametrize("version", range(2, 8))
def test_every_version_makes_a_topic(clients: Any, version: int):
    topic = {"name": clients.name(), "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
    answer = clients.wire.any.ask("create_topics", version, topics=[topic], timeout=10_000, validate_only=False)
    assert [topic.error_code.name for topic in answer.topics] == ["none"]


def delete(clients: Any, *topics: dict[str, Any]) -> list[tuple[str | None, str]]:
    asked = [{"name": None, "topic_id": UUID(int=0), **topic} for topic in topics]
    answer = clients.wire.any.ask("delete_topics", 6, topics=asked, timeout=10_000)
    assert all(bool(topic.error_message) == (topic.error_code.name != "none") for topic in answer.responses)
    return [(topic.name, topic.error_code.name) for topic in answer.responses]


def test_a_topic_is_deleted_by_its_id(clients: Any, wait: Any):
    topic = clients.topic()
    assert delete(clients, {"topic_id": clients.wire.topic_id(topic)}) == [(topic, "none")]
    wait(lambda: topic not in clients.admin.list_topics(timeout=10).topics, "the deletion")


def test_a_topic_that_is_not_there_is_not_deleted(clients: Any):
    assert delete(clients, {"name": "no-such-topic"}) == [("no-such-topic", "unknown_topic_or_partition")]
    assert delete(clients, {"topic_id": UUID(int=7)}) == [(None, "unknown_topic_id")]


def test_a_topic_to_delete_has_a_name_or_an_id(clients: Any):
    topic = clients.topic()
    assert delete(clients, {}) == [(None, "invalid_request")]
    assert delete(clients, {"name": topic, "topic_id": clients.wire.topic_id(topic)}) == [(topic, "invalid_request")]


def test_a_topic_that_is_named_twice_is_not_deleted(clients: Any):
    topic = clients.topic()
    by_id = {"topic_id": clients.wire.topic_id(topic)}
    assert delete(clients, {"name": topic}, {"name": topic}) == [(topic, "invalid_request")]
    assert [code for _, code in delete(clients, by_id, by_id)] == ["invalid_request"]
    assert [code for _, code in delete(clients, {"name": topic}, by_id)] == ["invalid_request"]
    assert topic in clients.admin.list_topics(timeout=10).topics


@pytest.mark.parametrize("version", range(1, 6))
def test_older_versions_delete_by_name(clients: Any, version: int):
    topic = clients.topic()
    answer = clients.wire.any.ask("delete_topics", version, topic_names=[topic, "no-such-topic"], timeout=10_000)
    assert {found.name: found.error_code.name for found in answer.responses} == {
        topic: "none",
        "no-such-topic": "unknown_topic_or_partition",
    }


def add_partitions(clients: Any, *topics: tuple[str, int, list[list[int]] | None], validate_only: bool = False) -> Any:
    asked = [
        {"name": name, "count": count, "assignments": brokers and [{"broker_ids": ids} for ids in brokers]}
        for name, count, brokers in topics
    ]
    answer = clients.wire.any.ask("create_partitions", 3, topics=asked, timeout=10_000, validate_only=validate_only)
    return [found.error_code.name for found in answer.results]


@pytest.mark.parametrize(
    ("count", "brokers", "code"),
    [
        (2, None, "invalid_partitions"),
        (0, None, "invalid_partitions"),
        (-1, None, "invalid_partitions"),
        (3, [[99]], "invalid_replica_assignment"),
        (3, [[]], "invalid_replica_assignment"),
        (3, [[1], [1]], "invalid_replica_assignment"),
        (4, [[1]], "invalid_replica_assignment"),
    ],
)
def test_partitions_that_cannot_be_are_not_added(clients: Any, count: int, brokers: Any, code: str):
    topic = clients.topic(partitions=2)
    assert add_partitions(clients, (topic, count, brokers)) == [code]
    assert len(clients.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 2


def test_partitions_are_added_where_they_are_assigned(clients: Any, wait: Any):
    topic = clients.topic(one_leader=True)
    assert add_partitions(clients, (topic, 3, [[1], [1]]), validate_only=True) == ["none"]
    assert len(clients.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 1
    assert add_partitions(clients, (topic, 3, [[1], [1]])) == ["none"]
    wait(lambda: len(clients.admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3, "the partitions")


def test_partitions_are_added_to_a_topic_that_is_there_and_once(clients: Any):
    topic = clients.topic()
    assert add_partitions(clients, (clients.name(), 3, None)) == ["unknown_topic_or_partition"]
    assert add_partitions(clients, (topic, 2, None), (topic, 2, None)) == ["invalid_request"]
