"""The worker of Kafka handlers, against real brokers."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.runtime.rig import HEAVY, Parcels, Rig

from millstream.contracts import derived_id
from millstream.declare import stop
from millstream.errors import Fenced, Rejected, Unavailable
from millstream.kafka import connect
from millstream.runtime import outage
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.state import memory
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster


@pytest.fixture
def rig(cluster: Cluster) -> Iterator[Rig]:
    made = Rig(cluster.bootstrap, cluster.registry)
    made.make_topics()
    yield made
    made.close()


def test_events_go_through_with_ids_that_would_be_the_same_again(rig: Rig):
    rig.pay(("o-1", 1), ("o-1", 2), ("o-2", 3))
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2], "o-2": [1]}

    sources = {}
    for message in rig.records(rig.parcels.payments.name):
        sources[dict(message.headers() or ())["ce_id"].decode()] = message.key()
    for message in rig.records(rig.parcels.shipments.name):
        headers = {name: value.decode() for name, value in message.headers() or ()}
        assert sources[headers["causationid"]] == message.key()
        assert headers["ce_id"] == derived_id(headers["causationid"], f"{rig.service.name}.ship", 0)
        assert headers["correlationid"] == headers["causationid"]


def test_a_failing_event_takes_its_writes_with_it_and_is_set_aside(rig: Rig):
    rig.pay(("o-1", 1), ("o-1", -5), ("o-1", 2))
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2]}
    (letter,) = rig.dead_letters()
    headers = dict(letter.headers() or ())
    original = rig.records(rig.parcels.payments.name)[1]
    assert (letter.key(), letter.value()) == (original.key(), original.value())
    assert set(original.headers() or ()) <= set(letter.headers() or ())
    assert headers["millstream-dlq-reason"] == b"weightless"
    assert headers["millstream-dlq-service"] == rig.service.name.encode()
    assert headers["millstream-dlq-handler"] == b"ship"
    assert headers["millstream-dlq-attempts"] == b"1"
    assert headers["millstream-dlq-offset"] == str(original.offset()).encode()


def test_what_is_worth_another_try_is_tried_again(rig: Rig):
    failures = iter(range(2))

    def trouble(paid):
        if next(failures, None) is not None:
            raise TimeoutError("in passing")

    rig.parcels.trouble = trouble
    rig.pay(("o-1", 1), ("o-1", 2))
    with rig.running():
        wait_until(lambda: rig.shipped() == {"o-1": [1, 2]}, seconds=60, what="both shipments", every=0.1)
    assert not rig.dead_letters()


@pytest.mark.scenario(24)
def test_bytes_that_are_no_event_are_set_aside_and_the_next_goes_on(rig: Rig):
    topic, garbage = rig.parcels.payments, random.Random(1).randbytes(40)
    with rig.running():
        rig.pay(("o-1", 1))
        rig.wait_until_caught_up()
        rig.send_raw(topic, garbage, b"o-1", [("x", b"\xff")])
        rig.send_raw(topic, None, b"o-1")
        rig.send_raw(topic, b"\0\x7f\xff\xff\xf0rest", b"o-1")
        rig.pay(("o-1", 2))
        wait_until(lambda: rig.shipped().get("o-1") == [1, 2], seconds=60, what="the next event")
    letters = rig.dead_letters()
    assert [letter.value() for letter in letters] == [garbage, None, b"\0\x7f\xff\xff\xf0rest"]
    assert dict(letters[0].headers() or ())["x"] == b"\xff"
    reasons = [dict(letter.headers() or ())["millstream-dlq-reason"] for letter in letters]
    assert reasons == [b"not_framed", b"empty", b"unknown_schema"]


@pytest.mark.scenario(9)
def test_nothing_is_lost_or_twice_when_the_process_is_killed_over_and_over(rig: Rig, tmp_path: Path):
    orders, chance = [f"o-{number}" for number in range(40)], random.Random(7)
    paid = [(chance.choice(orders), chance.choice((1, 1, 1, -1))) for _ in range(6_000)]
    rig.pay(*paid[:2_000])
    child = rig.child(tmp_path / "child.log")
    try:
        for life in range(4):
            rig.pay(*paid[2_000 + life * 1_000 :][:1_000])
            enough = min(5_900, 1_200 * (life + 1))
            wait_until(
                lambda: sum(map(len, rig.shipped().values())) + len(rig.dead_letters()) > enough,  # noqa: B023
                seconds=120,
                what=f"{enough} events to be done",
            )
            end(child, how=signal.SIGKILL)
            child = rig.child(tmp_path / "child.log")
        rig.wait_until_caught_up()
    finally:
        end(child)
    good = [order for order, grams in paid if grams > 0]
    assert rig.shipped() == {order: list(range(1, good.count(order) + 1)) for order in set(good)}
    assert len(rig.dead_letters()) == len(paid) - len(good)


@pytest.mark.slow
@pytest.mark.scenario(10)
def test_a_second_instance_takes_over_partitions_with_their_state(rig: Rig):
    orders, rounds = [f"o-{number}" for number in range(30)], 0

    def pay_until(ready: Callable[[], bool], what: str) -> None:
        nonlocal rounds

        def paid_and_ready() -> bool:
            nonlocal rounds
            rig.pay(*[(order, 1) for order in orders])
            rounds += 1
            return ready()

        wait_until(paid_and_ready, seconds=60, what=what)

    with rig.running(rig.worker(0)) as first:
        pay_until(lambda: first.worker.partitions == {0, 1}, "the first instance to have both partitions")
        with rig.running(rig.worker(1)) as second:
            both = (first.worker, second.worker)
            pay_until(lambda: all(len(worker.partitions) == 1 for worker in both), "each to have one")
            rig.wait_until_caught_up()
        # A member that stops keeps its place for the session timeout, so that a restart moves nothing.
        pay_until(lambda: first.worker.partitions == {0, 1}, "the first to have both again")
        rig.wait_until_caught_up()
    assert rig.shipped() == {order: list(range(1, rounds + 1)) for order in orders}


def test_a_second_holder_of_the_slot_fences_the_first(rig: Rig):
    rig.pay(("o-1", 1))
    with rig.running() as first:
        rig.wait_until_caught_up()
        with rig.running():
            first.wait(20)
            assert isinstance(first.error, Fenced)
            rig.pay(("o-1", 1))
            rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2]}


@pytest.mark.scenario(7)
def test_a_zombie_that_was_stopped_is_fenced_when_it_goes_on(rig: Rig, tmp_path: Path):
    orders = [f"o-{number}" for number in range(10)]
    zombie = rig.child(tmp_path / "zombie.log")
    try:
        rig.pay(*((order, 1) for order in orders))
        wait_until(lambda: rig.lag() == 0, seconds=120, what="the first payments", every=0.05)
        os.kill(zombie.pid, signal.SIGSTOP)
        rig.pay(*((order, 1) for order in orders))
        with rig.running():
            rig.wait_until_caught_up()
            rig.pay(*((order, 1) for order in orders))
            os.kill(zombie.pid, signal.SIGCONT)
            zombie.wait(120)
            rig.wait_until_caught_up()
    finally:
        end(zombie)
    assert zombie.returncode == 1
    assert "Fenced" in (tmp_path / "zombie.log").read_text()
    assert rig.shipped() == {order: [1, 2, 3] for order in orders}


@pytest.mark.scenario(11)
def test_a_handler_that_outlasts_its_transaction_does_its_event_again(rig: Rig):
    slow = iter([3.0])
    rig.parcels.trouble = lambda paid: time.sleep(next(slow, 0.0))
    rig.pay(("o-1", 1), ("o-1", 1), ("o-2", 1))
    settings = rig.settings(0).model_copy(update={"transaction_timeout_ms": 2_000})
    worker = KafkaWorker(rig.service, settings, rig.contracts, connect(settings, rig.name))
    with rig.running(worker) as running:
        wait_until(lambda: running.error is not None or rig.lag() == 0, seconds=120, what="an end", every=0.05)
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2], "o-2": [1]}


def test_an_output_that_kafka_cannot_take_sets_its_whole_event_aside(rig: Rig):
    rig.pay(("o-1", 1), ("o-1", HEAVY + 1), ("o-1", 2))
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2]}
    (letter,) = rig.dead_letters()
    assert dict(letter.headers() or ())["millstream-dlq-reason"] == b"EncodeError"


def test_a_redrive_whose_output_kafka_cannot_take_is_set_aside_again(rig: Rig):
    rig.pay(("o-1", -1))
    with rig.running():
        wait_until(lambda: len(rig.dead_letters()) == 1, seconds=60, what="a dead letter", every=0.1)
        mended = rig.parcels.Paid(order_id="o-1", grams=HEAVY + 1)
        rig.redrive(rig.dead_letters()[0], rig.contracts.encode(mended))
        wait_until(lambda: len(rig.dead_letters()) == 2, seconds=60, what="another", every=0.1)
        rig.pay(("o-1", 1))
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1]}


def test_state_that_its_changelog_cannot_take_sets_its_event_aside(rig: Rig):
    rig.send(rig.parcels.payments, [rig.parcels.Paid(order_id="o-1", noted=noted) for noted in (5, 1_100_000, 5)])
    with rig.running():
        rig.wait_until_caught_up()
    assert rig.shipped() == {"o-1": [1, 2]}
    (letter,) = rig.dead_letters()
    said = dict(letter.headers() or ())
    assert said["millstream-dlq-reason"] == b"EncodeError"
    assert b"'o-1' has 1,100," in said["millstream-dlq-message"]


def test_a_worker_that_cannot_take_its_partitions_says_why_and_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outage, "OUTAGE_SECONDS", 0.5)
    worker = rig.worker()
    worker._states._transaction_timeout = 0.5
    changelog = rig.parcels.counts.changelog(rig.service.name)
    frozen = rig.kafka.transactional_producer(f"{rig.name}.frozen")
    frozen.begin()
    frozen.produce(changelog, b"", b"o-1", partition=0)
    admin = rig.kafka.admin()
    wait_until(
        lambda: admin.end_offsets([(changelog, 0)], "read_uncommitted")[changelog, 0] > 0,
        seconds=60,
        what="the open transaction",
        every=0.05,
    )
    admin.close()
    with rig.running(worker) as running:
        running.wait(20)
    frozen.close()
    assert isinstance(running.error, Unavailable)
    assert "transaction" in str(running.error)


def test_stop_commits_what_came_before_and_nothing_after(cluster: Cluster):
    rig = Rig(cluster.bootstrap, cluster.registry, on_failure=stop)
    rig.make_topics()
    rig.pay(("o-1", 1), ("o-1", 2), ("o-1", -1), ("o-1", 3))
    with rig.running() as running:
        running.wait()
    assert isinstance(running.error, Rejected)
    assert "at offset 2" in running.error.__notes__[0]
    assert rig.shipped() == {"o-1": [1, 2]}
    assert rig.lag() == 2
    rig.close()


def test_at_least_once_commits_offsets_after_the_records(cluster: Cluster):
    rig = Rig(cluster.bootstrap, cluster.registry, delivery="at_least_once")
    rig.make_topics()
    rig.pay(*[(f"o-{number % 7}", number % 11 - 1) for number in range(500)])
    with rig.running():
        rig.wait_until_caught_up()
    shipped = rig.shipped()
    assert shipped == {order: list(range(1, len(numbers) + 1)) for order, numbers in shipped.items()}
    assert sum(map(len, shipped.values())) + len(rig.dead_letters()) == 500
    # Outside transactions nothing hides: the same records are there for everybody.
    assert len(rig.records(rig.parcels.shipments.name, "read_uncommitted")) == sum(map(len, shipped.values()))
    rig.close()


@pytest.mark.slow
def test_a_broker_that_is_killed_under_load_costs_nothing(kafka: LocalKafka):
    rig, chance = Rig(kafka.bootstrap, kafka.registry), random.Random(3)
    rig.make_topics()
    paid = [(f"o-{chance.randrange(20)}", 1) for _ in range(4_000)]
    with rig.running() as running:
        for turn in range(4):
            rig.pay(*paid[turn * 1_000 :][:1_000])
            wait_until(lambda: rig.lag() < 700, seconds=60, what="some to be done", every=0)
            kafka.kill()
            kafka.restart()
        rig.wait_until_caught_up()
    assert running.error is None
    good = [order for order, _ in paid]
    assert rig.shipped() == {order: list(range(1, good.count(order) + 1)) for order in set(good)}
    rig.close()


def test_a_handler_is_a_function():
    parcels = Parcels("unit")
    counts, paid = memory(parcels.counts), parcels.Paid(order_id="o-1", grams=3)
    assert [shipped.number for _ in range(3) for shipped in parcels.ship(paid, counts)] == [1, 2, 3]
