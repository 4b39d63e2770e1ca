"""Idempotent producers: what a partition accepts, in which order, and how often."""

from typing import Any


def test_every_producer_id_is_new(clients: Any):
    found = [clients.producer_id() for _ in range(3)]
    assert len({answer.producer_id for answer in found}) == 3
    assert {answer.producer_epoch for answer in found} == {0}


def test_a_repeated_batch_is_answered_with_its_first_offset_and_not_written_again(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    first = batch("a", "b", producer_id=pid, epoch=0, sequence=0)
    second = batch("c", producer_id=pid, epoch=0, sequence=2)
    assert [clients.append(topic, sent).base_offset for sent in (first, second, first, second)] == [0, 2, 0, 2]
    assert clients.read(topic) == ["a", "b", "c"]


def test_five_batches_are_remembered(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    sent = [batch(str(i), producer_id=pid, epoch=0, sequence=i) for i in range(6)]
    for one in sent:
        clients.append(topic, one)
    assert [clients.append(topic, one).base_offset for one in sent[1:]] == [1, 2, 3, 4, 5]
    assert clients.append(topic, sent[0]).error_code.name != "none"
    assert clients.list_offset(topic, -1).offset == 6


def test_a_gap_in_the_sequence_is_refused(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    clients.append(topic, batch("a", producer_id=pid, epoch=0, sequence=0))
    refused = clients.append(topic, batch("c", producer_id=pid, epoch=0, sequence=2))
    assert refused.error_code.name == "out_of_order_sequence_number"
    assert clients.append(topic, batch("b", producer_id=pid, epoch=0, sequence=1)).base_offset == 1


def test_a_producer_that_the_partition_does_not_know_may_begin_anywhere(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    assert clients.append(topic, batch("a", producer_id=pid, epoch=0, sequence=7)).error_code.name == "none"
    assert clients.append(topic, batch("b", producer_id=pid, epoch=0, sequence=8)).base_offset == 1


def test_a_new_epoch_begins_at_zero_and_ends_the_old_one(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    clients.append(topic, batch("a", producer_id=pid, epoch=0, sequence=0))
    jumped = clients.append(topic, batch("x", producer_id=pid, epoch=1, sequence=5))
    assert jumped.error_code.name == "out_of_order_sequence_number"
    assert clients.append(topic, batch("b", producer_id=pid, epoch=1, sequence=0)).base_offset == 1
    stale = clients.append(topic, batch("y", producer_id=pid, epoch=0, sequence=1))
    assert stale.error_code.name == "invalid_producer_epoch"
    assert clients.read(topic) == ["a", "b"]


def test_sequences_of_partitions_are_counted_apart(clients: Any):
    topic = clients.topic(partitions=3)
    producer = clients.producer(enable_idempotence=True)
    for partition in (0, 1, 2, 0, 1, 2):
        clients.send(topic, "a", "b", partition=partition, producer=producer)
    assert len(clients.read(topic, partitions=3)) == 12


def test_a_sequence_goes_on_at_zero_after_its_greatest_number(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    last = 2**31 - 1
    assert clients.append(topic, batch("a", "b", producer_id=pid, epoch=0, sequence=last - 1)).base_offset == 0
    assert clients.append(topic, batch("c", producer_id=pid, epoch=0, sequence=0)).base_offset == 2
    assert clients.append(topic, batch("c", producer_id=pid, epoch=0, sequence=0)).base_offset == 2


def test_a_batch_may_wrap_around_inside(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    last = 2**31 - 1
    assert clients.append(topic, batch("a", "b", "c", producer_id=pid, epoch=0, sequence=last)).base_offset == 0
    assert clients.append(topic, batch("d", producer_id=pid, epoch=0, sequence=2)).base_offset == 3


def test_producers_do_not_disturb_each_other(clients: Any, batch: Any):
    topic = clients.topic()
    pids = [clients.producer_id().producer_id for _ in range(3)]
    for sequence in range(3):
        for pid in pids:
            answer = clients.append(topic, batch("v", producer_id=pid, epoch=0, sequence=sequence))
            assert answer.error_code.name == "none"
    assert clients.list_offset(topic, -1).offset == 9


def test_a_thousand_small_batches_arrive_once_and_in_order(clients: Any):
    topic = clients.topic()
    producer = clients.producer(enable_idempotence=True, batch_num_messages=10)
    values = [str(i) for i in range(5_000)]
    clients.send(topic, *values, producer=producer)
    assert clients.read(topic) == values


def test_a_batch_outside_of_the_open_transaction_of_its_producer_is_refused(
    clients: Any, transactional: Any, batch: Any
):
    topic, one = clients.topic(), transactional()
    one.add_partition(topic)
    assert one.produce(topic, "a") == "none"
    plain = batch("b", producer_id=one.pid, epoch=one.epoch, sequence=1)
    assert clients.append(topic, plain).error_code.name == "invalid_txn_state"
    assert one.end(commit=True) == "none"
    clients.expect(topic, ["a"])


def test_a_transactional_batch_needs_a_transaction_and_not_only_a_producer_id(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    sent = batch("a", producer_id=pid, epoch=0, sequence=0, transactional=True)
    answer = clients.append(topic, sent, transactional_id=clients.name("txn"))
    assert answer.error_code.name == "invalid_producer_id_mapping"
    assert clients.list_offset(topic, -1).offset == 0


def test_a_new_holder_fences_the_batches_of_the_old_one(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    old.add_partition(topic)
    assert old.produce(topic, "a") == "none"
    new = transactional(old.name)
    assert old.produce(topic, "b") == "invalid_producer_epoch"
    assert new.add_partition(topic) == "none"
    assert old.produce(topic, "c") == "invalid_producer_epoch"
    assert new.produce(topic, "d") == "none"
    assert new.end(commit=True) == "none"
    clients.expect(topic, ["d"])


def test_sequences_begin_anew_for_a_new_holder(clients: Any, transactional: Any):
    topic, old = clients.topic(), transactional()
    old.add_partition(topic)
    old.produce(topic, "a", "b", "c")
    assert old.end(commit=True) == "none"
    new = transactional(old.name)
    new.add_partition(topic)
    assert new.produce(topic, "x", sequence=3) == "out_of_order_sequence_number"
    assert new.produce(topic, "d") == "none"
    assert new.end(commit=True) == "none"
    clients.expect(topic, ["a", "b", "c", "d"])


def test_a_batch_that_overlaps_with_what_was_written_is_refused(clients: Any, batch: Any):
    topic, pid = clients.topic(), clients.producer_id().producer_id
    clients.append(topic, batch("a", "b", producer_id=pid, epoch=0, sequence=0))
    for sequence in (0, 1):
        overlapping = batch("b", producer_id=pid, epoch=0, sequence=sequence)
        assert clients.append(topic, overlapping).error_code.name == "out_of_order_sequence_number"
    assert clients.read(topic) == ["a", "b"]


def test_a_repeated_batch_is_recognised_beside_a_transaction_of_another(clients: Any, transactional: Any, batch: Any):
    topic, one, pid = clients.topic(), transactional(), clients.producer_id().producer_id
    one.add_partition(topic)
    one.produce(topic, "open")
    sent = batch("a", producer_id=pid, epoch=0, sequence=0)
    assert [clients.append(topic, sent).base_offset for _ in range(2)] == [1, 1]
    one.end(commit=False)
    clients.expect(topic, ["a"])
