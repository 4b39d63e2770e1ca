"""The cluster, its log directories, replicas and leaders."""

from typing import Any
from uuid import UUID

import pytest

NOT_ASKED = -(2**31)
EVERYTHING_WITH_A_TOPIC = 3576
EVERYTHING_WITH_THE_CLUSTER = 8096


def test_the_cluster_is_described(clients: Any):
    asked = {"include_cluster_authorized_operations": False, "endpoint_type": 1, "include_fenced_brokers": False}
    answer = clients.wire.any.ask("describe_cluster", 2, **asked)
    metadata = clients.wire.any.ask("metadata", 2, topics=None)
    assert (answer.error_code.name, answer.cluster_id) == ("none", metadata.cluster_id)
    assert {(b.broker_id, b.host, b.port) for b in answer.brokers} == {
        (b.node_id, b.host, b.port) for b in metadata.brokers
    }
    assert not any(broker.is_fenced for broker in answer.brokers)
    assert answer.cluster_authorized_operations == NOT_ASKED


@pytest.mark.parametrize(("kind", "code"), [(2, "mismatched_endpoint_type"), (7, "unsupported_endpoint_type")])
def test_controllers_are_not_asked_here(clients: Any, kind: int, code: str):
    asked = {"include_cluster_authorized_operations": False, "endpoint_type": kind}
    answer = clients.wire.any.ask("describe_cluster", 1, **asked)
    assert (answer.error_code.name, answer.brokers) == (code, ())
    assert answer.error_message


def test_a_client_learns_what_it_may_do(clients: Any):
    topic = clients.topic()
    wanted = {"topics": [{"topic_id": UUID(int=0), "name": topic}], "allow_auto_topic_creation": False}
    asked = {"include_topic_authorized_operations": True, "include_cluster_authorized_operations": True}
    answer = clients.wire.any.ask("metadata", 10, **wanted, **asked)
    assert answer.cluster_authorized_operations == EVERYTHING_WITH_THE_CLUSTER
    assert answer.topics[0].topic_authorized_operations == EVERYTHING_WITH_A_TOPIC
    answer = clients.wire.any.ask("metadata", 10, **wanted, **dict.fromkeys(asked, False))
    assert answer.cluster_authorized_operations == answer.topics[0].topic_authorized_operations == NOT_ASKED


@pytest.mark.parametrize("version", range(14))
def test_every_version_of_metadata_names_the_topic(clients: Any, version: int):
    topic = clients.topic(partitions=2)
    wanted = {"name": topic} | ({"topic_id": UUID(int=0)} if version >= 10 else {})
    asked: dict[str, Any] = {"topics": [wanted]}
    if version >= 4:
        asked["allow_auto_topic_creation"] = False
    if version >= 8:
        asked["include_topic_authorized_operations"] = False
    if 8 <= version <= 10:
        asked["include_cluster_authorized_operations"] = False
    (found,) = clients.wire.any.ask("metadata", version, **asked).topics
    assert (found.error_code.name, found.name) == ("none", topic)
    assert sorted(partition.partition_index for partition in found.partitions) == [0, 1]


def ask_for(clients: Any, **topic: Any) -> Any:
    asked = {"allow_auto_topic_creation": True, "include_topic_authorized_operations": False}
    wanted = {"topic_id": UUID(int=0), "name": None, **topic}
    return clients.wire.any.ask("metadata", 13, topics=[wanted], **asked).topics[0]


def test_a_topic_is_found_by_its_id(clients: Any):
    topic = clients.topic()
    assert ask_for(clients, topic_id=clients.wire.topic_id(topic)).name == topic


def test_topics_that_are_not_there_are_told_apart(clients: Any):
    assert ask_for(clients, topic_id=UUID(int=7)).error_code.name == "unknown_topic_id"
    assert ask_for(clients, name=clients.name()).error_code.name == "unknown_topic_or_partition"
    assert ask_for(clients, name="a/b").error_code.name == "invalid_topic_exception"


def describe_partitions(clients: Any, *topics: str, limit: int = 2000, cursor: Any = None) -> Any:
    return clients.wire.any.ask(
        "describe_topic_partitions",
        0,
        topics=[{"name": topic} for topic in topics],
        response_partition_limit=limit,
        cursor=cursor,
    )


def test_partitions_are_described(clients: Any):
    topic = clients.topic(partitions=2)
    answer = describe_partitions(clients, topic)
    (found,) = answer.topics
    assert (found.name, found.topic_id, found.is_internal) == (topic, clients.wire.topic_id(topic), False)
    assert [partition.partition_index for partition in found.partitions] == [0, 1]
    assert all(p.leader_id in p.isr_nodes and not p.offline_replicas for p in found.partitions)
    assert found.topic_authorized_operations == EVERYTHING_WITH_A_TOPIC
    assert answer.next_cursor is None


def test_topics_are_described_in_the_order_of_their_names_with_their_errors(clients: Any):
    topic = clients.topic()
    answer = describe_partitions(clients, topic, "a/b", "no-such-topic")
    assert {found.name: found.error_code.name for found in answer.topics} == {
        "a/b": "invalid_topic_exception",
        "no-such-topic": "unknown_topic_or_partition",
        topic: "none",
    }
    names = [found.name for found in answer.topics]
    assert names == sorted(names)


def test_partitions_are_described_in_pages(clients: Any):
    topics = sorted([clients.topic(partitions=3), clients.topic(partitions=2)])
    pages, cursor = [], None
    for _ in range(10):
        answer = describe_partitions(clients, *topics, limit=2, cursor=cursor)
        pages.append([(topic.name, p.partition_index) for topic in answer.topics for p in topic.partitions])
        if answer.next_cursor is None:
            break
        cursor = answer.next_cursor
    everything = [(found.name, p.partition_index) for found in describe_partitions(clients, *topics).topics
                  for p in found.partitions]  # fmt: skip
    assert [place for page in pages for place in page] == everything
    assert all(len(page) <= 2 for page in pages)


# Log directories


def log_dirs(clients: Any, topic: str, partitions: list[int]) -> Any:
    asked = {"topics": [{"topic": topic, "partitions": partitions}]}
    return clients.wire.leader_of(topic).ask("describe_log_dirs", 4, **asked).results


def test_log_dirs_say_how_large_a_partition_is(clients: Any, batch: Any):
    topic = clients.topic()
    sent = batch("x" * 1_000)
    clients.append(topic, sent)
    (folder,) = log_dirs(clients, topic, [0])
    assert (folder.error_code.name, folder.topics[0].name) == ("none", topic)
    (partition,) = folder.topics[0].partitions
    assert (partition.partition_size, partition.offset_lag, partition.is_future_key) == (len(sent), 0, False)
    assert folder.total_bytes >= folder.usable_bytes > 0


def test_log_dirs_leave_out_what_is_not_there(clients: Any):
    topic = clients.topic()
    assert [p.partition_index for f in log_dirs(clients, topic, [0, 7]) for t in f.topics for p in t.partitions] == [0]
    assert [folder.topics for folder in log_dirs(clients, topic, [])] == [()]


def test_all_log_dirs_have_all_topics(clients: Any):
    topic = clients.topic(partitions=2, one_leader=True)
    (folder,) = clients.wire.leader_of(topic).ask("describe_log_dirs", 4, topics=None).results
    found = next(entry for entry in folder.topics if entry.name == topic)
    assert sorted(partition.partition_index for partition in found.partitions) == [0, 1]


def test_a_replica_cannot_move_to_a_folder_that_is_not_there(clients: Any):
    topic = clients.topic()
    wanted = [{"path": "/no/such/folder", "topics": [{"name": topic, "partitions": [0]}]}]
    answer = clients.wire.leader_of(topic).ask("alter_replica_log_dirs", 2, dirs=wanted)
    assert answer.results[0].partitions[0].error_code.name == "log_dir_not_found"


# Reassignments and elections


def reassign(clients: Any, topic: str, **replicas: list[int] | None) -> dict[int, str]:
    partitions = [{"partition_index": int(index[1:]), "replicas": wanted} for index, wanted in replicas.items()]
    asked = {"timeout": 5_000, "topics": [{"name": topic, "partitions": partitions}]}
    answer = clients.wire.any.ask("alter_partition_reassignments", 0, **asked)
    assert answer.error_code.name == "none"
    return {p.partition_index: p.error_code.name for p in answer.responses[0].partitions}


def test_replicas_on_brokers_that_are_not_there_are_refused(clients: Any):
    topic = clients.topic(partitions=2)
    assert reassign(clients, topic, p0=[99], p1=[]) == dict.fromkeys((0, 1), "invalid_replica_assignment")


def test_a_replica_is_on_a_broker_once(clients: Any):
    assert reassign(clients, clients.topic(), p0=[1, 1]) == {0: "invalid_replica_assignment"}


def test_there_is_no_reassignment_to_cancel(clients: Any):
    assert reassign(clients, clients.topic(), p0=None) == {0: "no_reassignment_in_progress"}


def test_a_partition_that_is_not_there_cannot_be_reassigned(clients: Any):
    assert reassign(clients, clients.topic(), p7=[1]) == {7: "unknown_topic_or_partition"}
    assert reassign(clients, clients.name(), p0=[1]) == {0: "unknown_topic_or_partition"}


def test_no_reassignment_goes_on(clients: Any):
    topic = clients.topic()
    wanted = [{"name": topic, "partition_indexes": [0, 9]}, {"name": clients.name(), "partition_indexes": [0]}]
    answer = clients.wire.any.ask("list_partition_reassignments", 0, timeout=5_000, topics=wanted)
    assert (answer.error_code.name, answer.topics) == ("none", ())


def elect(clients: Any, topic: str, partitions: list[int], kind: int = 0) -> Any:
    wanted = [{"topic": topic, "partitions": partitions}]
    return clients.wire.any.ask("elect_leaders", 2, election_type=kind, topic_partitions=wanted, timeout=5_000)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_leader_that_leads_need_not_be_elected(clients: Any, kind: int):
    answer = elect(clients, clients.topic(), [0], kind)
    assert answer.error_code.name == "none"
    assert answer.replica_election_results[0].partition_result[0].error_code.name == "election_not_needed"


def test_a_partition_that_is_not_there_gets_no_leader(clients: Any):
    answer = elect(clients, clients.topic(), [9])
    assert answer.replica_election_results[0].partition_result[0].error_code.name == "unknown_topic_or_partition"
    answer = elect(clients, clients.name(), [0])
    assert answer.replica_election_results[0].partition_result[0].error_code.name == "unknown_topic_or_partition"


def test_an_election_of_an_unknown_kind_is_refused(clients: Any):
    answer = elect(clients, clients.topic(), [0], kind=5)
    assert answer.error_code.name == "invalid_request"
    assert answer.replica_election_results[0].partition_result[0].error_code.name == "invalid_request"


# Coordinators and features


def test_coordinators_are_found_many_at_a_time(clients: Any):
    clients.wire.coordinator_of_group("g")
    answer = clients.wire.any.ask("find_coordinator", 6, key_type=0, coordinator_keys=["g", "h"])
    assert [(c.key, c.error_code.name) for c in answer.coordinators] == [("g", "none"), ("h", "none")]


def test_nothing_else_has_a_coordinator(clients: Any):
    (answer,) = clients.wire.any.ask("find_coordinator", 6, key_type=7, coordinator_keys=["x"]).coordinators
    assert (answer.error_code.name, answer.node_id, answer.port) == ("invalid_request", -1, -1)


@pytest.mark.parametrize("feature", ["no.such.feature", "metadata.version"])
def test_a_feature_that_cannot_be_is_refused(clients: Any, feature: str):
    update = {"feature": feature, "max_version_level": 99, "upgrade_type": 1}
    asked = {"timeout": 5_000, "feature_updates": [update], "validate_only": False}
    assert clients.wire.any.ask("update_features", 1, **asked).error_code.name == "invalid_update_version"
