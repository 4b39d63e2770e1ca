"""Configurations: what is described, what may be changed and how, and what is refused."""

from collections.abc import Iterator
from typing import Any

import pytest

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)
Change = tuple[str, int, str | None]

SINCE_4_4 = {
    "errors.deadletterqueue.group.enable": ("false", 1),
    "max.decompressed.message.bytes": ("2147483639", 3),
    "remote.copy.lag.bytes": ("-1", 5),
    "remote.copy.lag.ms": ("0", 5),
}
# What every topic of Apache Kafka 4.3 can be told, with its default and the protocol's number for its type.
DEFAULTS = {
    "cleanup.policy": ("delete", 7),
    "compression.gzip.level": ("-1", 3),
    "compression.lz4.level": ("9", 3),
    "compression.type": ("producer", 2),
    "compression.zstd.level": ("3", 3),
    "delete.retention.ms": ("86400000", 5),
    "file.delete.delay.ms": ("60000", 5),
    "flush.messages": (str(2**63 - 1), 5),
    "flush.ms": (str(2**63 - 1), 5),
    "follower.replication.throttled.replicas": ("", 7),
    "index.interval.bytes": ("4096", 3),
    "leader.replication.throttled.replicas": ("", 7),
    "local.retention.bytes": ("-2", 5),
    "local.retention.ms": ("-2", 5),
    "max.compaction.lag.ms": (str(2**63 - 1), 5),
    "max.message.bytes": ("1048588", 3),
    "message.timestamp.after.max.ms": ("3600000", 5),
    "message.timestamp.before.max.ms": (str(2**63 - 1), 5),
    "message.timestamp.type": ("CreateTime", 2),
    "min.cleanable.dirty.ratio": ("0.5", 6),
    "min.compaction.lag.ms": ("0", 5),
    "min.insync.replicas": (None, 3),
    "preallocate": ("false", 1),
    "remote.log.copy.disable": ("false", 1),
    "remote.log.delete.on.disable": ("false", 1),
    "remote.storage.enable": ("false", 1),
    "retention.bytes": ("-1", 5),
    "retention.ms": ("604800000", 5),
    "segment.bytes": ("1073741824", 3),
    "segment.index.bytes": ("10485760", 3),
    "segment.jitter.ms": ("0", 5),
    "segment.ms": ("604800000", 5),
    "unclean.leader.election.enable": ("false", 1),
}


def describe(clients: Any, kind: int, name: str, keys: list[str] | None = None, **more: Any) -> Any:
    """One resource's configurations; `more`: include_synonyms, include_documentation."""
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    asked = {"include_synonyms": False, "include_documentation": False, **more}
    return clients.wire.any.ask("describe_configs", 4, resources=[resource], **asked).results[0]


def alter(clients: Any, topic: str, *changes: Change, kind: int = TOPIC, validate_only: bool = False) -> Any:
    configs = [{"name": name, "config_operation": how, "value": value} for name, how, value in changes]
    resource = {"resource_type": kind, "resource_name": topic, "configs": configs}
    answer = clients.wire.any.ask(
        "incremental_alter_configs", 1, resources=[resource], validate_only=validate_only
    ).responses[0]
    assert bool(answer.error_message) == (answer.error_code.name not in ("none", "unknown_server_error"))
    return answer.error_code.name


def alter_whole(clients: Any, topic: str, *configs: tuple[str, str | None], validate_only: bool = False) -> str:
    entries = [{"name": name, "value": value} for name, value in configs]
    resource = {"resource_type": TOPIC, "resource_name": topic, "configs": entries}
    answer = clients.wire.any.ask("alter_configs", 2, resources=[resource], validate_only=validate_only)
    return answer.responses[0].error_code.name


def value_of(clients: Any, topic: str, name: str) -> str | None:
    return describe(clients, TOPIC, topic, [name]).configs[0].value


def test_every_topic_configuration_of_apache_kafka_is_known_by_name_default_and_type(clients: Any):
    described = describe(clients, TOPIC, clients.topic())
    found = {config.name: (config.value, config.config_type) for config in described.configs}
    found["min.insync.replicas"] = (None, found["min.insync.replicas"][1])  # a cluster of three may say 2
    assert found in (DEFAULTS | SINCE_4_4, DEFAULTS if clients.cluster.kind == "apache" else None)
    assert not any(config.read_only or config.is_sensitive for config in described.configs)


def test_a_source_says_who_chose_a_value(clients: Any):
    configs = {c.name: c for c in describe(clients, TOPIC, clients.topic(retention_ms=5_000)).configs}
    assert (configs["retention.ms"].config_source, configs["segment.bytes"].config_source) == (1, 5)


def test_synonyms_are_told_on_request(clients: Any):
    topic = clients.topic(max_message_bytes=5_000)
    (config,) = describe(clients, TOPIC, topic, ["max.message.bytes"], include_synonyms=True).configs
    assert [(s.name, s.value, s.source) for s in config.synonyms] == [
        ("max.message.bytes", "5000", 1),
        ("message.max.bytes", "1048588", 5),
    ]
    (config,) = describe(clients, TOPIC, topic, ["max.message.bytes"]).configs
    assert config.synonyms == ()


def test_documentation_is_told_on_request(clients: Any):
    topic = clients.topic()
    (config,) = describe(clients, TOPIC, topic, ["retention.ms"], include_documentation=True).configs
    assert len(config.documentation or "") > 10
    (config,) = describe(clients, TOPIC, topic, ["retention.ms"]).configs
    assert not config.documentation


def test_only_what_is_asked_for_is_described(clients: Any):
    described = describe(clients, TOPIC, clients.topic(), ["retention.ms", "no.such.setting"])
    assert [config.name for config in described.configs] == ["retention.ms"]
    assert len(describe(clients, TOPIC, clients.topic(), []).configs) >= len(DEFAULTS)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "no-such-topic", "unknown_topic_or_partition"),
        (TOPIC, "a/b", "invalid_topic_exception"),
        (TOPIC, "", "invalid_topic_exception"),
        (BROKER, "99", "invalid_request"),
        (BROKER, "first", "invalid_request"),
        (99, "x", "invalid_request"),
    ],
)
def test_what_is_not_there_is_not_described(clients: Any, kind: int, name: str, code: str):
    assert describe(clients, kind, name).error_code.name == code


def test_the_broker_describes_itself(clients: Any):
    broker = str(clients.wire.any.ask("metadata", 1, topics=[]).brokers[0].node_id)
    configs = {config.name: config for config in describe(clients, BROKER, broker).configs}
    assert configs["node.id"].value == configs["broker.id"].value == broker
    assert configs["auto.create.topics.enable"].value == "false"
    assert configs["message.max.bytes"].value == "1048588"
    assert configs["log.retention.hours"].value == "168"
    assert configs["log.retention.ms"].value is None
    assert configs["log.cleanup.policy"].value == "delete"
    assert configs["broker.id"].read_only
    assert (configs["num.partitions"].value, configs["num.partitions"].config_type) == ("1", 3)


def test_the_defaults_of_the_cluster_are_described_without_an_error(clients: Any):
    assert describe(clients, BROKER, "").error_code.name == "none"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleanup.policy", "sometimes"),
        ("cleanup.policy", "delete,sometimes"),
        ("compression.gzip.level", "99"),
        ("compression.lz4.level", "18"),
        ("compression.type", "best"),
        ("compression.zstd.level", "30"),
        ("delete.retention.ms", "-1"),
        ("file.delete.delay.ms", "-1"),
        ("flush.messages", "0"),
        ("index.interval.bytes", "-1"),
        ("leader.replication.throttled.replicas", "some"),
        ("max.compaction.lag.ms", "0"),
        ("max.message.bytes", "-1"),
        ("message.timestamp.before.max.ms", "-1"),
        ("message.timestamp.type", "Never"),
        ("min.cleanable.dirty.ratio", "2"),
        ("min.insync.replicas", "0"),
        ("preallocate", "maybe"),
        ("remote.storage.enable", "true"),
        ("retention.ms", "-2"),
        ("retention.ms", "1e3"),
        ("retention.ms", "99999999999999999999"),
        ("segment.bytes", "10"),
        ("segment.index.bytes", "2"),
        ("segment.jitter.ms", "-1"),
        ("segment.ms", "0"),
        ("message.format.version", "2.8"),
        ("no.such.setting", "1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(clients: Any, name: str, value: str):
    topic = clients.topic()
    assert alter(clients, topic, (name, SET, value)) == "invalid_config"
    assert alter_whole(clients, topic, (name, value)) == "invalid_config"
    assert all(config.config_source != 1 for config in describe(clients, TOPIC, topic).configs)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cleanup.policy", "compact, delete"),
        ("cleanup.policy", "delete,delete"),
        ("compression.gzip.level", "5"),
        ("leader.replication.throttled.replicas", "0:1,1:1"),
        ("follower.replication.throttled.replicas", "*"),
        ("message.timestamp.after.max.ms", "1000"),
        ("min.insync.replicas", "2"),
        ("preallocate", "TRUE"),
        ("retention.ms", " 5 "),
        ("segment.jitter.ms", "10"),
        ("unclean.leader.election.enable", "true"),
    ],
)
def test_an_unusual_value_is_taken(clients: Any, name: str, value: str):
    assert alter(clients, clients.topic(), (name, SET, value)) == "none"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("cleanup.policy", "delete,delete", "delete"),
        ("cleanup.policy", "compact,delete,compact", "compact,delete"),
        ("cleanup.policy", " compact , delete ", "compact,delete"),
        ("cleanup.policy", "", ""),
        ("compression.type", " zstd", "zstd"),
        ("leader.replication.throttled.replicas", "0:1, 1:1,0:1", "0:1,1:1,0:1"),
        ("min.cleanable.dirty.ratio", ".50", "0.5"),
        ("min.cleanable.dirty.ratio", "1", "1.0"),
        ("preallocate", " TRUE ", "true"),
        ("retention.ms", "+007", "7"),
        ("segment.jitter.ms", " 5 ", "5"),
    ],
)
def test_a_value_is_kept_in_one_form(clients: Any, wait: Any, name: str, value: str, kept: str):
    made = clients.topic(**{name: value})
    assert value_of(clients, made, name) == kept
    changed, whole = clients.topic(), clients.topic()
    assert alter(clients, changed, (name, SET, value)) == "none"
    assert alter_whole(clients, whole, (name, value)) == "none"
    for topic in (changed, whole):
        wait(lambda topic=topic: described_as_set(clients, topic, name) == [kept], f"{name} in {topic}")


def described_as_set(clients: Any, topic: str, name: str) -> list[str | None]:
    (config,) = describe(clients, TOPIC, topic, [name], include_synonyms=True).configs
    return [synonym.value for synonym in config.synonyms if synonym.source == 1]


@pytest.fixture
def min_insync_replicas(clients: Any, wait: Any) -> Iterator[str]:
    """The cluster's default, which is put back."""
    (config,) = describe(clients, BROKER, "", ["min.insync.replicas"]).configs
    yield config.value
    assert alter(clients, "", ("min.insync.replicas", SET, config.value), kind=BROKER) == "none"
    wait(lambda: value_of(clients, clients.topic(), "min.insync.replicas") == config.value, "the default is back")


def test_min_insync_replicas_is_a_default_of_the_cluster(clients: Any, wait: Any, min_insync_replicas: str):
    topic, own = clients.topic(), clients.topic(min_insync_replicas=1)
    assert alter(clients, "", ("min.insync.replicas", SET, "3"), kind=BROKER) == "none"
    for kind, name in ((TOPIC, topic), (BROKER, ""), (BROKER, "1")):

        def described(kind: int = kind, name: str = name) -> Any:
            return describe(clients, kind, name, ["min.insync.replicas"], include_synonyms=True).configs[0]

        wait(lambda described=described: described().value == "3", f"the default in {name}")
        config = described()
        assert (config.config_source, config.read_only) == (3, False)
        first = config.synonyms[0]
        assert (first.name, first.value, first.source) == ("min.insync.replicas", "3", 3)
    assert value_of(clients, own, "min.insync.replicas") == "1"
    assert clients.send(own, "acknowledged by all there are") == [0]


@pytest.mark.parametrize(
    ("broker", "how", "value", "code"),
    [
        ("", SET, "0", "invalid_request"),
        ("", SET, "many", "invalid_request"),
        ("", SET, None, "invalid_request"),
        ("", APPEND, "2", "invalid_config"),
        ("", DELETE, None, "invalid_config"),
        ("1", SET, "2", "invalid_config"),
    ],
)
def test_the_default_of_min_insync_replicas_stays_one(
    clients: Any, min_insync_replicas: str, broker: str, how: int, value: str | None, code: str
):
    assert alter(clients, broker, ("min.insync.replicas", how, value), kind=BROKER) == code
    assert value_of(clients, clients.topic(), "min.insync.replicas") == min_insync_replicas


def test_a_list_gets_what_is_added_once(clients: Any, wait: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("cleanup.policy", APPEND, "compact,compact")) == "none"
    wait(lambda: value_of(clients, topic, "cleanup.policy") == "delete,compact", "the list")


def test_lags_of_compaction_must_not_contradict_each_other(clients: Any):
    changes: list[Change] = [("max.compaction.lag.ms", SET, "5"), ("min.compaction.lag.ms", SET, "10")]
    assert alter(clients, clients.topic(), *changes) == "invalid_config"


def test_a_list_is_added_to_and_taken_from(clients: Any, wait: Any):
    topic = clients.topic()

    def becomes(how: int, what: str, whole: str) -> None:
        assert alter(clients, topic, ("cleanup.policy", how, what)) == "none"
        wait(lambda: value_of(clients, topic, "cleanup.policy") == whole, whole)

    becomes(APPEND, "compact", "delete,compact")
    becomes(APPEND, "compact", "delete,compact")
    becomes(SUBTRACT, "delete", "compact")
    becomes(SUBTRACT, "nothing", "compact")
    becomes(SUBTRACT, "compact", "")


def test_a_number_is_not_added_to(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.ms", APPEND, "5")) == "invalid_config"
    assert alter(clients, topic, ("no.such.setting", SUBTRACT, "5")) == "invalid_config"


def test_to_take_back_what_was_never_set_is_harmless(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.bytes", DELETE, None)) == "none"
    assert alter(clients, topic, ("no.such.setting", DELETE, None)) == "none"


def test_a_value_may_not_be_null(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.ms", SET, None)) == "invalid_request"
    assert alter_whole(clients, topic, ("retention.ms", None)) == "invalid_request"


def test_a_configuration_is_changed_once_in_a_request(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.ms", SET, "1"), ("retention.ms", SET, "2")) == "invalid_request"
    assert alter_whole(clients, topic, ("retention.ms", "1"), ("retention.ms", "2")) == "invalid_request"


def test_a_resource_is_changed_once_in_a_request(clients: Any):
    configs = [{"name": "retention.ms", "config_operation": SET, "value": "1"}]
    resource = {"resource_type": TOPIC, "resource_name": clients.topic(), "configs": configs}
    asked = {"resources": [resource, resource], "validate_only": False}
    answer = clients.wire.any.ask("incremental_alter_configs", 1, **asked)
    assert {response.error_code.name for response in answer.responses} == {"invalid_request"}


def test_one_bad_value_keeps_the_others_out(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.ms", SET, "5"), ("segment.ms", SET, "0")) == "invalid_config"
    assert value_of(clients, topic, "retention.ms") == "604800000"


def test_validating_a_change_changes_nothing(clients: Any):
    topic = clients.topic()
    assert alter(clients, topic, ("retention.ms", SET, "5"), validate_only=True) == "none"
    assert alter(clients, topic, ("retention.ms", SET, "x"), validate_only=True) == "invalid_config"
    assert alter_whole(clients, topic, ("retention.ms", "5"), validate_only=True) == "none"
    assert value_of(clients, topic, "retention.ms") == "604800000"


def test_the_old_way_takes_back_what_it_does_not_name(clients: Any, wait: Any):
    topic = clients.topic(retention_ms=5_000)
    assert alter_whole(clients, topic, ("segment.ms", "6000")) == "none"
    wait(lambda: value_of(clients, topic, "segment.ms") == "6000", "the new value")
    assert value_of(clients, topic, "retention.ms") == "604800000"


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "no-such-topic", "unknown_topic_or_partition"),
        (TOPIC, "a/b", "invalid_topic_exception"),
        (TOPIC, "", "invalid_request"),
        (BROKER, "99", "invalid_request"),
        (BROKER, "first", "invalid_request"),
        (99, "x", "invalid_request"),
    ],
)
def test_what_is_not_there_is_not_changed(clients: Any, kind: int, name: str, code: str):
    assert alter(clients, name, ("retention.ms", SET, "1"), kind=kind) == code


@pytest.mark.parametrize("broker", ["", "1"])
@pytest.mark.parametrize("name", ["broker.id", "num.partitions", "listeners"])
def test_what_a_broker_was_started_with_stays(clients: Any, broker: str, name: str):
    assert alter(clients, broker, (name, SET, "5"), kind=BROKER) == "invalid_request"


def test_topics_are_listed_among_the_resources(clients: Any):
    topic = clients.topic()
    listed = clients.wire.any.ask("list_config_resources", 1, resource_types=[TOPIC]).config_resources
    assert topic in {resource.resource_name for resource in listed}
    assert {resource.resource_type for resource in listed} == {TOPIC}
    everything = clients.wire.any.ask("list_config_resources", 1, resource_types=[]).config_resources
    assert {TOPIC, BROKER} <= {resource.resource_type for resource in everything}
    assert clients.wire.any.ask("list_config_resources", 0).config_resources == ()


def test_a_larger_batch_is_taken_as_soon_as_it_is_allowed(clients: Any, batch: Any, wait: Any):
    topic = clients.topic(max_message_bytes=500)
    assert clients.append(topic, batch("x" * 1_000)).error_code.name == "message_too_large"
    assert alter(clients, topic, ("max.message.bytes", SET, "5000")) == "none"
    wait(lambda: clients.append(topic, batch("x" * 1_000)).error_code.name == "none", "the larger batch")
