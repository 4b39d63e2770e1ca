"""Transactions seen by an administrator: DescribeTransactions, ListTransactions, DescribeProducers."""

from datetime import UTC, datetime
from typing import Any

import pytest


def describe(clients: Any, transactional_id: str) -> Any:
    coordinator = clients.wire.coordinator_of_transactions(transactional_id)
    (found,) = coordinator.ask("describe_transactions", 0, transactional_ids=[transactional_id]).transaction_states
    return found


def listed(clients: Any, transactional_id: str, version: int = 2, **filters: Any) -> Any:
    """What a list says of the transactional id; None if it is left out."""
    asked = {"state_filters": [], "producer_id_filters": [], **filters}
    answers = [broker.ask("list_transactions", version, **asked) for broker in clients.wire.brokers()]
    assert {answer.error_code.name for answer in answers} == {"none"}
    states = [state for answer in answers for state in answer.transaction_states]
    return next((state for state in states if state.transactional_id == transactional_id), None)


def producers(clients: Any, topic: str, partition: int = 0) -> Any:
    asked = [{"name": topic, "partition_indexes": [partition]}]
    return clients.wire.leader_of(topic).ask("describe_producers", 0, topics=asked).topics[0].partitions[0]


def test_an_open_transaction_is_described(clients: Any, transactional: Any):
    first, second, one = clients.topic(), clients.topic(partitions=2), transactional(timeout_ms=9_000)
    one.add_partition(first)
    one.add_partition(second)
    found = describe(clients, one.name)
    assert (found.error_code.name, found.transactional_id, found.transaction_state) == ("none", one.name, "Ongoing")
    assert (found.producer_id, found.producer_epoch) == (one.pid, one.epoch)
    assert found.transaction_timeout.total_seconds() == 9
    assert 0 <= (datetime.now(UTC) - found.transaction_start_time).total_seconds() < 60
    assert {(t.topic, tuple(t.partitions)) for t in found.topics} == {(first, (0,)), (second, (0,))}


@pytest.mark.parametrize(("commit", "state"), [(True, "CompleteCommit"), (False, "CompleteAbort")])
def test_an_ended_transaction_is_described_without_partitions(
    clients: Any, transactional: Any, wait: Any, commit: bool, state: str
):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.end(commit=commit)
    wait(lambda: describe(clients, one.name).transaction_state == state, state)
    assert describe(clients, one.name).topics == ()


def test_offsets_in_a_transaction_are_seen_as_a_partition_of_their_topic(clients: Any, transactional: Any):
    one = transactional()
    one.add_offsets(clients.name("g"))
    (topic,) = describe(clients, one.name).topics
    assert topic.topic == "__consumer_offsets"
    assert len(topic.partitions) == 1


def test_unknown_and_empty_ids_are_not_described(clients: Any):
    unknown = clients.name("txn")
    assert describe(clients, unknown).error_code.name == "transactional_id_not_found"
    answer = clients.wire.any.ask("describe_transactions", 0, transactional_ids=[""])
    assert answer.transaction_states[0].error_code.name == "invalid_request"


def test_a_transactional_id_is_listed(clients: Any, transactional: Any):
    one = transactional()
    found = listed(clients, one.name)
    assert (found.producer_id, found.transaction_state) == (one.pid, "Empty")


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"state_filters": ["Ongoing"]}, True),
        ({"state_filters": ["Empty", "Ongoing"]}, True),
        ({"state_filters": ["Empty"]}, False),
        ({"state_filters": ["NoSuchState"]}, False),
        ({"state_filters": ["NoSuchState", "Ongoing"]}, True),
        ({"producer_id_filters": [2**60]}, False),
        ({"duration_filter": 0}, True),
        ({"duration_filter": 3_600_000}, False),
        ({"transactional_id_pattern": "txn-.*"}, True),
        ({"transactional_id_pattern": "xn-.*"}, False),
        ({"transactional_id_pattern": "txn"}, False),
        ({"transactional_id_pattern": ""}, True),
        ({"state_filters": ["Ongoing"], "transactional_id_pattern": "other-.*"}, False),
    ],
)
def test_a_list_of_transactions_is_filtered(
    clients: Any, transactional: Any, wait: Any, filters: dict[str, Any], found: bool
):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    if filters.get("duration_filter") == 0:
        wait(lambda: listed(clients, one.name, **filters) is not None, "it has lasted for longer")
    assert (listed(clients, one.name, **filters) is not None) == found


def test_a_list_is_filtered_by_producer(clients: Any, transactional: Any):
    one, other = transactional(), transactional()
    assert listed(clients, one.name, producer_id_filters=[one.pid]) is not None
    assert listed(clients, other.name, producer_id_filters=[one.pid]) is None


def test_states_that_do_not_exist_are_named(clients: Any):
    asked = {"state_filters": ["NoSuchState", "Ongoing", "ongoing"], "producer_id_filters": []}
    answer = clients.wire.any.ask("list_transactions", 0, **asked)
    assert answer.unknown_state_filters == ("NoSuchState", "ongoing")


def test_a_pattern_that_is_none_is_refused(clients: Any):
    asked = {"state_filters": [], "producer_id_filters": [], "transactional_id_pattern": "["}
    answer = clients.wire.any.ask("list_transactions", 2, **asked)
    assert answer.error_code.name == "invalid_regular_expression"


def test_the_producers_of_a_partition_are_described(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a", "b")
    found = producers(clients, topic)
    assert found.error_code.name == "none"
    (producer,) = found.active_producers
    assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (one.pid, one.epoch, 1)
    assert (producer.current_txn_start_offset, producer.coordinator_epoch) == (0, -1)
    assert abs(producer.last_timestamp / 1000 - datetime.now(UTC).timestamp()) < 60


def test_a_producer_without_a_transaction_has_no_start_of_one(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    clients.append(topic, batch("a", producer_id=pid, epoch=0, sequence=0))
    (producer,) = producers(clients, topic).active_producers
    assert (producer.producer_id, producer.last_sequence, producer.current_txn_start_offset) == (pid, 0, -1)


def test_after_its_end_a_transaction_has_no_start(clients: Any, transactional: Any, wait: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    one.end(commit=True)
    wait(lambda: producers(clients, topic).active_producers[0].current_txn_start_offset == -1, "the marker")
    (producer,) = producers(clients, topic).active_producers
    assert (producer.last_sequence, producer.coordinator_epoch >= 0) == (0, True)


def test_a_partition_nobody_writes_to_has_no_producers(clients: Any):
    topic = clients.topic()
    clients.send(topic, "plain", producer=clients.producer(enable_idempotence=False))
    found = producers(clients, topic)
    assert (found.error_code.name, found.active_producers) == ("none", ())


def test_producers_of_unknown_partitions_are_not_described(clients: Any):
    topic = clients.topic()
    assert producers(clients, topic, partition=9).error_code.name == "unknown_topic_or_partition"
    asked = [{"name": clients.name(), "partition_indexes": [0]}]
    answer = clients.wire.any.ask("describe_producers", 0, topics=asked)
    assert answer.topics[0].partitions[0].error_code.name == "unknown_topic_or_partition"


def write_marker(broker: Any, topic: str, one: Any, *, epoch: int | None = None) -> str:
    """Abort the transaction in this partition alone, as an administrator frees one that hangs."""
    marker = {
        "producer_id": one.pid,
        "producer_epoch": one.epoch if epoch is None else epoch,
        "transaction_result": False,
        "coordinator_epoch": 0,
        "topics": [{"name": topic, "partition_indexes": [0]}],
    }
    answer = broker.ask("write_txn_markers", 1, markers=[marker])
    return answer.markers[0].topics[0].partitions[0].error_code.name


def test_an_administrator_frees_a_partition_from_a_transaction(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    clients.send(topic, "behind it")
    assert write_marker(clients.wire.leader_of(topic), topic, one) == "none"
    clients.expect(topic, ["behind it"])


def test_a_marker_of_the_past_is_refused(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    one = transactional(old.name)
    one.add_partition(topic)
    one.produce(topic, "a")
    assert write_marker(clients.wire.leader_of(topic), topic, one, epoch=old.epoch) == "invalid_producer_epoch"
    assert one.end(commit=True) == "none"
    clients.expect(topic, ["a"])


def test_no_marker_is_written_to_an_unknown_partition(clients: Any, transactional: Any):
    assert write_marker(clients.wire.any, clients.name(), transactional()) == "unknown_topic_or_partition"
