"""What newer clients are told in place of INVALID_TXN_STATE (KIP-890): abort, and go on."""

from typing import Any

import pytest


@pytest.mark.parametrize(("version", "error"), [(10, "invalid_txn_state"), (11, "transaction_abortable")])
def test_records_for_a_partition_that_is_not_in_the_transaction(
    clients: Any, transactional: Any, batch: Any, version: int, error: str
):
    topic, other, one = clients.topic(), clients.topic(), transactional()
    one.add_partition(other)
    sent = batch("a", producer_id=one.pid, epoch=one.epoch, sequence=0, transactional=True)
    data = [{"name": topic, "partition_data": [{"index": 0, "records": sent}]}]
    asked = {"transactional_id": one.name, "acks": -1, "timeout": 10_000, "topic_data": data}
    answer = clients.wire.leader_of(topic).ask("produce", version, **asked)
    assert answer.responses[0].partition_responses[0].error_code.name == error
    assert one.end(commit=False) == "none"


@pytest.mark.parametrize(("version", "error"), [(3, "invalid_txn_state"), (4, "transaction_abortable")])
def test_offsets_of_a_group_that_is_not_in_the_transaction(clients: Any, transactional: Any, version: int, error: str):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    one.add_partition(topic)
    partition = {"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}
    topics = [{"name": topic, "partitions": [partition]}]
    coordinator = clients.wire.coordinator_of_group(group)
    answer = coordinator.ask("txn_offset_commit", version, **one.identity(), group_id=group, topics=topics)
    assert answer.topics[0].partitions[0].error_code.name == error
    assert one.end(commit=False) == "none"


@pytest.mark.parametrize("version", [3, 4])
def test_offsets_outside_of_any_transaction(clients: Any, transactional: Any, version: int):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    partition = {"partition_index": 0, "committed_offset": 1, "committed_metadata": ""}
    topics = [{"name": topic, "partitions": [partition]}]
    coordinator = clients.wire.coordinator_of_group(group)
    answer = coordinator.ask("txn_offset_commit", version, **one.identity(), group_id=group, topics=topics)
    assert answer.topics[0].partitions[0].error_code.name == (
        "invalid_txn_state" if version < 4 else "transaction_abortable"
    )


def test_an_end_that_is_not_possible_is_an_invalid_state_also_for_newer_clients(transactional: Any):
    one = transactional()
    answer = one.broker.ask("end_txn", 4, **one.identity(), committed=True)
    assert answer.error_code.name == "invalid_txn_state"
