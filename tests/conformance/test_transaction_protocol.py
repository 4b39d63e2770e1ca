"""Transactions by hand: states, epochs and the coordinator's error codes."""

from typing import Any

import pytest
from tests.conformance.transactional import fetched_offset


def test_a_transactional_id_keeps_its_producer_id_and_gets_a_new_epoch(transactional: Any):
    first = transactional()
    second = transactional(first.name)
    assert second.pid == first.pid
    assert second.epoch == first.epoch + 1


def test_a_timeout_beyond_the_brokers_limit_is_refused(clients: Any):
    answer = clients.producer_id(clients.name("txn"), timeout_ms=24 * 3600 * 1000)
    assert answer.error_code.name == "invalid_transaction_timeout"


def test_a_transactional_id_may_not_be_empty(clients: Any):
    answer = clients.wire.any.ask("init_producer_id", 4, transactional_id="", transaction_timeout=1_000)
    assert answer.error_code.name == "invalid_request"


def test_a_whole_transaction_by_hand(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    assert one.add_partition(topic) == "none"
    assert one.produce(topic, "a", "b") == "none"
    assert one.end(commit=True) == "none"
    clients.expect(topic, ["a", "b"])


def test_ending_twice_in_the_same_way_is_harmless_and_in_another_way_refused(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    assert one.end(commit=True) == "none"
    assert one.end(commit=True) == "none"
    assert one.end(commit=False) == "invalid_txn_state"


def test_a_transaction_that_never_began_cannot_end(transactional: Any):
    assert transactional().end(commit=True) == "invalid_txn_state"


def test_an_epoch_of_the_past_is_fenced_everywhere(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    old.add_partition(topic)
    old.produce(topic, "a")
    transactional(old.name)
    stale = ("invalid_producer_epoch", "producer_fenced")
    assert old.add_partition(topic) in stale
    assert old.add_offsets("g") in stale
    assert old.end(commit=True) in stale
    assert old.produce(topic, "b") in ("invalid_producer_epoch", "invalid_txn_state")


def test_another_ones_producer_id_is_refused(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    for pid in (one.pid + 1_000_000, 0):
        assert one.add_partition(topic, producer_id=pid) == "invalid_producer_id_mapping"
        assert one.end(commit=True, producer_id=pid) == "invalid_producer_id_mapping"


def test_an_unknown_partition_cannot_join_a_transaction(clients: Any, transactional: Any):
    assert transactional().add_partition(clients.name()) == "unknown_topic_or_partition"


def test_a_partition_that_did_not_join_takes_no_transactional_records(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    assert one.produce(topic, "a") == "invalid_txn_state"
    assert clients.list_offset(topic, -1).offset == 0


def test_adding_a_partition_again_is_harmless(clients: Any, transactional: Any, wait: Any):
    topic, one = clients.topic(), transactional()
    assert [one.add_partition(topic) for _ in range(2)] == ["none", "none"]
    assert one.produce(topic, "a") == "none"
    assert one.end(commit=True) == "none"
    wait(lambda: clients.list_offset(topic, -1).offset == 2, "one marker")


def test_repeated_transactional_batches_are_recognised(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    assert one.produce(topic, "a") == "none"
    assert one.produce(topic, "a", sequence=0) == "none"
    assert one.produce(topic, "c", sequence=5) == "out_of_order_sequence_number"
    one.end(commit=True)
    clients.expect(topic, ["a"])


def test_sequences_go_on_over_transactions(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    for value in ("a", "b"):
        assert one.add_partition(topic) == "none"
        assert one.produce(topic, value) == "none"
        assert one.end(commit=True) == "none"
    clients.expect(topic, ["a", "b"])


def test_an_aborted_transaction_does_not_use_up_the_epoch(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    for commit in (False, True):
        assert one.add_partition(topic) == "none"
        assert one.produce(topic, str(commit)) == "none"
        assert one.end(commit=commit) == "none"
    clients.expect(topic, ["True"])


def test_a_new_holder_finds_the_transaction_aborted_when_it_is_answered(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    old.add_partition(topic)
    old.produce(topic, "left open")
    transactional(old.name)
    assert clients.list_offset(topic, -1, 1).offset == 2
    assert clients.read(topic) == []


def test_the_broker_ends_a_transaction_at_its_timeout(clients: Any, transactional: Any, wait: Any):
    topic, one = clients.topic(), transactional(timeout_ms=1_000)
    one.add_partition(topic)
    one.produce(topic, "a")
    wait(lambda: clients.list_offset(topic, -1, 1).offset == 2, "the broker aborts it")
    assert one.end(commit=True) in ("invalid_producer_epoch", "producer_fenced")
    assert clients.read(topic) == []


def test_pending_offsets_are_not_answered_to_who_asks_for_stable_ones(clients: Any, transactional: Any):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    assert one.add_offsets(group) == "none"
    assert one.commit_offset(group, topic, 5) == "none"
    assert fetched_offset(clients, group, topic, stable=True) == ("unstable_offset_commit", -1)
    assert fetched_offset(clients, group, topic, stable=False) == ("none", -1)
    assert one.end(commit=True) == "none"


@pytest.mark.parametrize(("commit", "offset"), [(True, 5), (False, -1)])
def test_pending_offsets_are_settled_with_the_transaction(
    clients: Any, transactional: Any, wait: Any, commit: bool, offset: int
):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    one.add_offsets(group)
    one.commit_offset(group, topic, 5)
    one.end(commit=commit)
    wait(lambda: fetched_offset(clients, group, topic, stable=True) == ("none", offset), "the offset is settled")


def test_offsets_of_a_timed_out_transaction_are_dropped(clients: Any, transactional: Any, wait: Any):
    topic, group, one = clients.topic(), clients.name("g"), transactional(timeout_ms=1_000)
    one.add_offsets(group)
    one.commit_offset(group, topic, 5)
    wait(lambda: fetched_offset(clients, group, topic, stable=True) == ("none", -1), "the offset is dropped")


def test_offsets_of_strangers_to_the_group_are_refused(clients: Any, transactional: Any):
    """KIP-447: member, generation and instance are checked when a transaction commits offsets."""
    topic, group = clients.topic(partitions=1), clients.name("g")
    consumer = clients.consumer(topic, group_id=group, group_instance_id="slot-0", session_timeout_ms=30_000)
    clients.assigned(consumer, partitions=1)
    member = clients.admin.describe_consumer_groups([group])[group].result(20).members[0].member_id
    one = transactional()
    one.add_offsets(group)
    assert one.commit_offset(group, topic, 1, member_id="stranger", generation_id=1) == "unknown_member_id"
    assert one.commit_offset(group, topic, 1, member_id=member, generation_id=99) == "illegal_generation"
    stranger = {"member_id": "stranger", "group_instance_id": "slot-0", "generation_id": 1}
    assert one.commit_offset(group, topic, 1, **stranger) == "fenced_instance_id"
    assert one.commit_offset(group, topic, 1, member_id=member, generation_id=1) == "none"
    assert one.end(commit=True) == "none"


def test_a_newer_epoch_fences_with_the_codes_of_the_versions(clients: Any, transactional: Any):
    """Newer clients are told PRODUCER_FENCED, older ones INVALID_PRODUCER_EPOCH."""
    topic, old = clients.topic(), transactional()
    transactional(old.name)
    who = {f"v3_and_below_{key}": value for key, value in old.identity().items()}
    topics = [{"name": topic, "partitions": [0]}]
    codes = []
    for version in (0, 2):
        answer = old.broker.ask("add_partitions_to_txn", version, **who, v3_and_below_topics=topics)
        codes.append(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code.name)
    assert codes == ["invalid_producer_epoch", "producer_fenced"]
