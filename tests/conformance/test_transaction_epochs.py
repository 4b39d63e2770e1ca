"""Who holds a transactional id: InitProducerId with and without the holder's own epoch (KIP-360), and fencing."""

from typing import Any

import pytest


def init(clients: Any, one: Any, version: int = 4, **changed: Any) -> Any:
    """Ask for the next epoch as the holder of the present one."""
    who = {"producer_id": one.pid, "producer_epoch": one.epoch, **changed}
    if version >= 4:
        return clients.producer_id(one.name, **who)
    asked = {"transactional_id": one.name, "transaction_timeout": 10_000}
    return one.broker.ask("init_producer_id", version, **asked)


def test_a_holder_is_given_its_next_epoch(clients: Any, transactional: Any):
    one = transactional()
    answer = init(clients, one)
    assert (answer.error_code.name, answer.producer_id, answer.producer_epoch) == ("none", one.pid, one.epoch + 1)


def test_a_holder_that_missed_the_answer_is_given_it_again(clients: Any, transactional: Any):
    one = transactional()
    epochs = [init(clients, one).producer_epoch for _ in range(3)]
    assert epochs == [one.epoch + 1] * 3


def test_a_holder_of_the_past_is_fenced(clients: Any, transactional: Any):
    old = transactional()
    transactional(old.name)
    assert init(clients, old).error_code.name == "producer_fenced"


def test_an_epoch_of_the_future_is_fenced(clients: Any, transactional: Any):
    one = transactional()
    assert init(clients, one, producer_epoch=one.epoch + 1).error_code.name == "producer_fenced"


def test_a_producer_id_that_is_not_the_holders_is_fenced(clients: Any, transactional: Any):
    one = transactional()
    assert init(clients, one, producer_id=one.pid + 1_000_000).error_code.name == "producer_fenced"


@pytest.mark.parametrize("who", [{"producer_id": -1, "producer_epoch": 3}, {"producer_id": 3, "producer_epoch": -1}])
def test_a_producer_id_needs_an_epoch_and_the_other_way_round(clients: Any, who: dict[str, int]):
    answer = clients.producer_id(clients.name("txn"), **who)
    assert (answer.error_code.name, answer.producer_id, answer.producer_epoch) == ("invalid_request", -1, -1)


def test_an_id_that_the_coordinator_forgot_is_given_to_its_holder_anew(clients: Any):
    answer = clients.producer_id(clients.name("txn"), producer_id=2**60, producer_epoch=5)
    assert (answer.error_code.name, answer.producer_epoch) == ("none", 0)
    assert answer.producer_id != 2**60


def test_a_producer_that_only_counts_its_batches_is_given_a_new_id(clients: Any):
    first = clients.producer_id()
    second = clients.producer_id(None, producer_id=first.producer_id, producer_epoch=0)
    assert second.producer_id != first.producer_id
    assert second.producer_epoch == 0


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_has_to_be_positive(clients: Any, timeout: int):
    answer = clients.producer_id(clients.name("txn"), timeout_ms=timeout)
    assert answer.error_code.name == "invalid_transaction_timeout"


def test_a_holder_amid_a_transaction_is_given_its_next_epoch_and_the_transaction_is_aborted(
    clients: Any, transactional: Any
):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    epochs = [init(clients, one).producer_epoch for _ in range(2)]
    assert epochs == [one.epoch + 1] * 2
    clients.expect(topic, [])


def test_a_new_holder_after_an_open_transaction_is_two_epochs_on(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    old.add_partition(topic)
    assert transactional(old.name).epoch == old.epoch + 2


def test_a_new_holder_may_have_another_timeout(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    new = transactional(old.name, timeout_ms=7_000)
    new.add_partition(topic)
    (found,) = old.broker.ask("describe_transactions", 0, transactional_ids=[old.name]).transaction_states
    assert found.transaction_timeout.total_seconds() == 7


def test_older_versions_hide_the_word_fenced(clients: Any, transactional: Any):
    old = transactional()
    transactional(old.name)
    asked = {"transactional_id": old.name, "transaction_timeout": 10_000}
    answer = old.broker.ask("init_producer_id", 3, **asked, producer_id=old.pid, producer_epoch=old.epoch)
    assert answer.error_code.name == "invalid_producer_epoch"


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 5])
def test_every_version_gives_an_epoch(clients: Any, transactional: Any, version: int):
    one = transactional()
    asked = {"transactional_id": one.name, "transaction_timeout": 10_000}
    answer = one.broker.ask("init_producer_id", version, **asked)
    assert (answer.error_code.name, answer.producer_id, answer.producer_epoch) == ("none", one.pid, one.epoch + 1)


@pytest.mark.parametrize("version", [0, 2, 3, 4])
def test_every_version_ends_a_transaction(clients: Any, transactional: Any, version: int):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    one.produce(topic, "a")
    answer = one.broker.ask("end_txn", version, **one.identity(), committed=True)
    assert answer.error_code.name == "none"
    clients.expect(topic, ["a"])


def test_the_last_transaction_may_still_be_ending_when_the_next_begins(clients: Any, transactional: Any):
    topic, one = clients.topic(partitions=3), transactional()
    for value in "abc":
        assert one.add_partition(topic) == "none"
        assert one.produce(topic, value) == "none"
        assert one.end(commit=True) == "none"
    clients.expect(topic, ["a", "b", "c"], partitions=3)


def test_an_empty_transactional_id_is_refused_everywhere(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    nobody = {"transactional_id": ""}
    assert one.add_partition(topic, **nobody) == "invalid_request"
    assert one.add_offsets("g", **nobody) == "invalid_request"
    assert one.end(commit=True, **nobody) == "invalid_request"


def test_an_unknown_transactional_id_has_no_producer(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    name = clients.name_at(one.broker, clients.wire.coordinator_of_transactions)
    stranger = {"transactional_id": name}
    assert one.add_partition(topic, **stranger) == "invalid_producer_id_mapping"
    assert one.add_offsets("g", **stranger) == "invalid_producer_id_mapping"
    assert one.end(commit=True, **stranger) == "invalid_producer_id_mapping"


def test_an_epoch_of_the_future_cannot_end_a_transaction(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    assert one.end(commit=True, producer_epoch=one.epoch + 1) == "invalid_producer_epoch"
    assert one.end(commit=True) == "none"


def test_one_unknown_partition_keeps_the_others_out_of_the_transaction(clients: Any, transactional: Any):
    topic, unknown, one = clients.topic(), clients.name(), transactional()
    who = {f"v3_and_below_{key}": value for key, value in one.identity().items()}
    topics = [{"name": topic, "partitions": [0, 9]}, {"name": unknown, "partitions": [0]}]
    answer = one.broker.ask("add_partitions_to_txn", 3, **who, v3_and_below_topics=topics)
    found = {
        (t.name, p.partition_index): p.partition_error_code.name
        for t in answer.results_by_topic_v3_and_below
        for p in t.results_by_partition
    }
    assert found == {
        (topic, 0): "operation_not_attempted",
        (topic, 9): "unknown_topic_or_partition",
        (unknown, 0): "unknown_topic_or_partition",
    }
    assert one.end(commit=True) == "invalid_txn_state"


def test_offsets_are_taken_only_for_a_group_in_the_transaction(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    assert one.commit_offset(clients.name("g"), topic, 1) == "invalid_txn_state"


def test_offsets_of_a_holder_of_the_past_are_refused(clients: Any, transactional: Any):
    topic, group, old = clients.topic(), clients.name("g"), transactional()
    old.add_offsets(group)
    transactional(old.name)
    assert old.commit_offset(group, topic, 1) == "invalid_producer_epoch"


def test_offsets_of_a_foreign_producer_id_are_refused(clients: Any, transactional: Any):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    one.add_offsets(group)
    assert one.commit_offset(group, topic, 1, producer_id=one.pid + 1_000_000) == "invalid_producer_id_mapping"


def test_offsets_for_a_group_without_a_name_are_refused(clients: Any, transactional: Any):
    topic, one = clients.topic(), transactional()
    assert one.commit_offset("", topic, 1) == "invalid_group_id"


def test_metadata_too_large_is_refused_in_a_transaction_too(clients: Any, transactional: Any):
    topic, group, one = clients.topic(), clients.name("g"), transactional()
    one.add_offsets(group)
    partition = {"partition_index": 0, "committed_offset": 1, "committed_metadata": "x" * 4097}
    answer = clients.wire.coordinator_of_group(group).ask(
        "txn_offset_commit", 3, **one.identity(), group_id=group, topics=[{"name": topic, "partitions": [partition]}]
    )
    assert answer.topics[0].partitions[0].error_code.name == "offset_metadata_too_large"


def test_a_later_commit_without_a_transaction_wins(clients: Any, transactional: Any, member: Any, wait: Any):
    topic, outsider, one = clients.topic(), member(), transactional()
    group = outsider.group["group_id"]
    one.add_offsets(group)
    one.commit_offset(group, topic, 5)
    assert outsider.commit(topic, 3) == "none"
    assert one.end(commit=True) == "none"
    groups = [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [0]}]}]

    def found() -> Any:
        answer = outsider.broker.ask("offset_fetch", 8, groups=groups, require_stable=True)
        return answer.groups[0].topics[0].partitions[0]

    wait(lambda: found().error_code.name == "none", "the transaction has ended")
    assert found().committed_offset == 3


def test_an_offset_of_an_open_transaction_can_be_deleted(clients: Any, transactional: Any, member: Any):
    topic, outsider, one = clients.topic(), member(), transactional()
    group = outsider.group["group_id"]
    one.add_offsets(group)
    one.commit_offset(group, topic, 5)
    topics = [{"name": topic, "partitions": [{"partition_index": 0}]}]
    outsider.broker.ask("offset_delete", 0, group_id=group, topics=topics)
    groups = [{"group_id": group, "topics": None}]
    one.end(commit=True)
    answer = outsider.broker.ask("offset_fetch", 8, groups=groups, require_stable=True)
    assert answer.groups[0].topics == ()
