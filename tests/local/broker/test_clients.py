"""Real clients against the broker in its own process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from tests.local.broker.conftest import PATIENCE, BrokerProcess, send, take, until, values


def test_what_is_produced_is_consumed_and_committed(broker: BrokerProcess):
    topic = broker.create("t", partitions=2)
    producer = broker.producer()
    assert [m.offset() for m in send(producer, topic, "a", "b", partition=1)] == [0, 1]
    consumer = broker.consumer("g")
    consumer.subscribe([topic])
    assert values(take(consumer, 2)) == ["a", "b"]
    consumer.commit(asynchronous=False)
    consumer.close()
    send(producer, topic, "c", partition=1)
    consumer = broker.consumer("g")
    consumer.subscribe([topic])
    assert values(take(consumer, 1)) == ["c"]
    consumer.close()


@pytest.mark.parametrize("assignor", ["range", "cooperative-sticky"])
def test_a_group_shares_its_partitions_and_takes_over_those_of_who_leaves(broker: BrokerProcess, assignor: str):
    topic = broker.create("t", partitions=4)
    first, second = (broker.consumer("g", partition_assignment_strategy=assignor) for _ in range(2))
    for consumer in (first, second):
        consumer.subscribe([topic])

    def poll_until_owned(one: int, other: int) -> None:
        def owned() -> bool:
            first.poll(0.01)
            if other:
                second.poll(0.01)
            return len(first.assignment()) == one and (not other or len(second.assignment()) == other)

        until(owned, f"{one} and {other} partitions")

    poll_until_owned(2, 2)
    second.close()
    poll_until_owned(4, 0)
    first.close()


def test_a_static_member_comes_back_without_a_rebalance(broker: BrokerProcess):
    topic = broker.create("t", partitions=2)
    revoked: list[TopicPartition] = []
    stays, leaves = (broker.consumer("g", group_instance_id=f"slot-{i}") for i in range(2))
    stays.subscribe([topic], on_revoke=lambda _, partitions: revoked.extend(partitions))
    leaves.subscribe([topic])

    def both_assigned() -> bool:
        stays.poll(0.01)
        leaves.poll(0.01)
        return len(stays.assignment()) == 1 and len(leaves.assignment()) == 1

    until(both_assigned)
    before = leaves.assignment()
    revoked.clear()
    leaves.close()  # a static member says nothing when it goes
    returned = broker.consumer("g", group_instance_id="slot-1")
    returned.subscribe([topic])

    def has_returned() -> bool:
        stays.poll(0.01)
        returned.poll(0.01)
        return bool(returned.assignment())

    until(has_returned)
    assert returned.assignment() == before
    assert not revoked
    stays.close()
    returned.close()


def test_a_twin_of_a_static_member_fences_the_elder(broker: BrokerProcess):
    topic = broker.create("t")
    elder = broker.consumer("g", group_instance_id="slot")
    elder.subscribe([topic])
    until(lambda: elder.poll(0.01) is None and elder.assignment())
    younger = broker.consumer("g", group_instance_id="slot")
    younger.subscribe([topic])
    until(lambda: younger.poll(0.01) is None and younger.assignment())

    def told() -> bool:
        message = elder.poll(0.05)
        error = message.error() if message is not None else None
        return error is not None and error.code() == KafkaError._FATAL

    until(told, "the elder was never told")
    younger.close()


def test_committed_transactions_are_seen_whole_and_aborted_ones_not(broker: BrokerProcess):
    topic = broker.create("t", partitions=2)
    producer = broker.transactional("x")
    for round_, commit in enumerate([True, False, True, False]):
        producer.begin_transaction()
        for partition in range(2):
            producer.produce(topic, f"{round_}".encode(), partition=partition)
        if commit:
            producer.commit_transaction(PATIENCE)
        else:
            producer.flush(PATIENCE)
            producer.abort_transaction(PATIENCE)
    assert sorted(values(broker.read_all(topic, 2))) == ["0", "0", "2", "2"]
    assert len(broker.read_all(topic, 2, "read_uncommitted")) == 8


def test_an_open_transaction_holds_committed_readers_back_and_its_end_wakes_them(broker: BrokerProcess):
    topic = broker.create("t")
    producer = broker.transactional("x")
    reader = broker.consumer("g", isolation_level="read_committed", fetch_wait_max_ms=30_000, fetch_error_backoff_ms=1)
    reader.assign([TopicPartition(topic, 0, 0)])
    producer.begin_transaction()
    producer.produce(topic, b"in", partition=0)
    producer.flush(PATIENCE)
    send(broker.producer(), topic, "after")
    assert reader.poll(0.3) is None
    started = time.monotonic()
    producer.commit_transaction(PATIENCE)
    assert values(take(reader, 2)) == ["in", "after"]
    assert time.monotonic() - started < 30
    reader.close()


def test_a_new_holder_fences_the_old_and_aborts_what_it_left(broker: BrokerProcess):
    topic = broker.create("t")
    old = broker.transactional("x")
    old.begin_transaction()
    old.produce(topic, b"left", partition=0)
    old.flush(PATIENCE)
    new = broker.transactional("x")
    new.begin_transaction()
    new.produce(topic, b"new", partition=0)
    new.commit_transaction(PATIENCE)
    with pytest.raises(KafkaException) as failure:
        old.commit_transaction(PATIENCE)
    assert failure.value.args[0].fatal()
    assert values(broker.read_all(topic)) == ["new"]


def test_offsets_of_a_transaction_take_effect_with_it(broker: BrokerProcess):
    source, target = broker.create("source"), broker.create("target")
    send(broker.producer(), source, "a", "b")
    consumer = broker.consumer("g", isolation_level="read_committed")
    consumer.subscribe([source])
    take(consumer, 2)
    producer = broker.transactional("x")
    for offset, commit in ((1, False), (2, True)):
        producer.begin_transaction()
        producer.produce(target, b"out", partition=0)
        producer.send_offsets_to_transaction(
            [TopicPartition(source, 0, offset)], consumer.consumer_group_metadata(), PATIENCE
        )
        if commit:
            producer.commit_transaction(PATIENCE)
        else:
            producer.abort_transaction(PATIENCE)
        (committed,) = consumer.committed([TopicPartition(source, 0)], PATIENCE)
        assert committed.offset == (2 if commit else -1001)
    assert values(broker.read_all(target)) == ["out"]
    consumer.close()


def test_a_member_of_an_old_generation_cannot_commit_in_a_transaction(broker: BrokerProcess):
    topic = broker.create("t", partitions=2)
    old = broker.consumer("g")
    old.subscribe([topic])
    until(lambda: old.poll(0.01) is None and len(old.assignment()) == 2)
    stale = old.consumer_group_metadata()
    other = broker.consumer("g")
    other.subscribe([topic])

    def rebalanced() -> bool:
        old.poll(0.01)
        other.poll(0.01)
        return len(other.assignment()) == 1

    until(rebalanced)
    producer = broker.transactional("x")
    producer.begin_transaction()
    producer.produce(topic, b"v", partition=0)
    with pytest.raises(KafkaException) as failure:
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 5)], stale, PATIENCE)
    assert failure.value.args[0].txn_requires_abort()
    producer.abort_transaction(PATIENCE)
    old.close()
    other.close()


def test_kill_dash_9_amid_a_stream_loses_nothing_and_doubles_nothing(broker: BrokerProcess):
    topic = broker.create("t")
    producer = broker.producer(enable_idempotence=True, linger_ms=1, message_timeout_ms=60_000)
    acknowledged: list[int] = []
    sent = 0
    give_up = time.monotonic() + 30
    for kill in range(2):
        target = sent + 3000
        killer = threading.Timer(0.15, broker.kill)
        killer.start()
        while sent < target or killer.is_alive():
            assert time.monotonic() < give_up
            if len(producer) < 1000:
                producer.produce(
                    topic, str(sent).encode(), partition=0,
                    on_delivery=lambda error, m: acknowledged.append(int(m.value() or b"")) if error is None else None,
                )  # fmt: skip
                sent += 1
            producer.poll(0.001 if len(producer) >= 1000 else 0)
            if not killer.is_alive() and len(producer) >= 1000:
                break
        killer.join()
        broker.start()
        until(lambda: producer.poll(0.05) is not None and len(producer) < 100, f"drained after kill {kill}")
    assert producer.flush(30) == 0
    found = [int(value) for value in values(broker.read_all(topic))]
    assert found == list(range(sent))
    assert acknowledged == found


def test_an_unfinished_transaction_is_not_seen_after_recovery_and_ends_at_its_timeout(broker: BrokerProcess):
    topic = broker.create("t")
    producer = broker.producer(transactional_id="x", transaction_timeout_ms=2000, message_timeout_ms=1000)
    producer.init_transactions(PATIENCE)
    producer.begin_transaction()
    producer.produce(topic, b"unfinished", partition=0)
    producer.flush(PATIENCE)
    broker.kill()
    broker.start()
    assert broker.read_all(topic) == []
    assert values(broker.read_all(topic, isolation="read_uncommitted")) == ["unfinished"]
    send(broker.producer(), topic, "later")
    until(lambda: values(broker.read_all(topic)) == ["later"])


def test_a_transaction_goes_on_across_a_restart(broker: BrokerProcess):
    topic = broker.create("t")
    producer = broker.transactional("x")
    producer.begin_transaction()
    producer.produce(topic, b"before", partition=0)
    producer.flush(PATIENCE)
    broker.kill()
    broker.start()
    producer.produce(topic, b"after", partition=0)
    producer.commit_transaction(30)
    assert values(broker.read_all(topic)) == ["before", "after"]


def test_a_group_goes_on_across_a_restart_without_a_rebalance(broker: BrokerProcess):
    topic = broker.create("t")
    changes: list[str] = []
    consumer = broker.consumer("g")
    consumer.subscribe(
        [topic], on_assign=lambda *_: changes.append("assigned"), on_revoke=lambda *_: changes.append("revoked")
    )
    producer = broker.producer()
    send(producer, topic, "a")
    take(consumer, 1)
    broker.kill()
    broker.start()
    send(producer, topic, "b")
    assert values(take(consumer, 1)) == ["b"]
    until(lambda: _committed(consumer), "the member was forgotten")
    assert changes == ["assigned"]
    consumer.close()


def _committed(consumer: object) -> bool:
    try:
        consumer.commit(asynchronous=False)  # type: ignore[attr-defined]
    except KafkaException:
        return False
    return True


def test_two_brokers_never_share_their_data(broker: BrokerProcess):
    second = subprocess.run(
        [sys.executable, "-m", "millstream.local", "--data", str(broker.data), "--listen", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert second.returncode == 3
    assert f"pid {broker.pid}" in second.stderr


def test_a_broker_stops_within_a_second_of_being_asked_and_keeps_what_it_had(broker: BrokerProcess):
    topic = broker.create("t", retention_ms="-1")
    send(broker.producer(), topic, "kept")
    reader = broker.consumer("g", fetch_wait_max_ms=30_000)
    reader.assign([TopicPartition(topic, 0, 0)])
    take(reader, 1)
    started = time.monotonic()
    assert broker.stop() == 0
    assert time.monotonic() - started < 25
    broker.start()
    assert values(broker.read_all(topic)) == ["kept"]
    reader.close()


def test_a_broker_goes_with_its_parent(tmp_path: Path):
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'millstream.local', '--exit-with-parent',"
        " '--listen', '127.0.0.1:0', '--data', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "data")], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait(PATIENCE)
    parent.stdout.close()
    until(lambda: not _runs(pid), "the broker outlives its parent")


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
