"""The worker of effects, against real brokers."""

import asyncio
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.runtime.effect_rig import EffectRig
from tests.runtime.running import Running
from tests.runtime.sql_rig import running

from millstream.declare import Call, stop
from millstream.errors import Rejected, Unsettled
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path) -> EffectRig:
    made = EffectRig(cluster.bootstrap, tmp_path)
    made.make_topics()
    return made


def test_outcomes_of_one_key_come_in_order_and_resources_are_opened_and_closed_once(rig: EffectRig):
    rig.charge(*[(card, number) for number in range(5) for card in ("a", "b", "c")])
    with running(rig.worker()):
        rig.wait_until_charged(15)
        rig.wait_until_caught_up()
    assert rig.charged() == {card: [0, 1, 2, 3, 4] for card in "abc"}
    assert (rig.payments.opened, rig.payments.closed) == (1, 1)


def test_one_key_is_served_in_order_and_others_at_the_same_time(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, concurrency=3)
    rig.make_topics()
    running_now, most = 0, 0
    let_go = asyncio.Event()

    async def watch(number: int, call: Call) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        if running_now == 3:
            let_go.set()
        await asyncio.wait_for(let_go.wait(), 10)
        await asyncio.sleep(0.01)
        running_now -= 1

    rig.payments.trouble = watch
    rig.charge(*[(card, number) for number in range(3) for card in "abcdef"])
    with running(rig.worker()):
        rig.wait_until_charged(18)
    assert most == 3
    assert [number for card, number, _ in rig.calls() if card == "a"] == [0, 1, 2]
    assert rig.charged() == {card: [0, 1, 2] for card in "abcdef"}


def test_an_attempt_that_takes_too_long_is_made_again_with_the_same_key(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, timeout=0.2)
    rig.make_topics()

    async def hang_once(number: int, call: Call) -> None:
        if call.attempt == 1:
            await asyncio.sleep(30)

    rig.payments.trouble = hang_once
    rig.charge(("a", 1))
    with running(rig.worker()):
        rig.wait_until_charged(1)
    (first, second) = rig.calls()
    assert first == second


def test_a_long_retry_of_one_key_holds_up_no_other(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, concurrency=1, backoff=0.2, attempts=None, within=600)
    rig.make_topics()
    settled = threading.Event()

    async def unsettled(number: int, call: Call) -> None:
        if number == 0 and not settled.is_set():
            raise Unsettled("ask later")

    rig.payments.trouble = unsettled
    rig.charge(("slow", 0), ("slow", 1), *[(f"card-{n}", n) for n in range(2, 30)])
    with running(rig.worker()):
        rig.wait_until_charged(28)
        assert "slow" not in rig.charged()
        settled.set()
        rig.wait_until_charged(30)
        rig.wait_until_caught_up()
    assert rig.charged()["slow"] == [0, 1]


def test_what_was_rejected_or_is_unreadable_is_set_aside_and_its_key_goes_on(rig: EffectRig):
    async def reject(number: int, call: Call) -> None:
        if number == 1:
            raise Rejected("card_unknown", "no such card")
        if number == 2:
            raise Unsettled("never")

    rig.payments.trouble = reject
    rig.charge(("a", 1), ("a", 2), ("a", 3))
    rig.send(("a", b"not json"))
    with running(rig.worker()):
        rig.wait_until_charged(1)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [3]}
    letters = [dict(letter.headers() or ()) for letter in rig.dead_letters()]
    found = {letter["millstream-dlq-reason"]: letter["millstream-dlq-attempts"] for letter in letters}
    assert found.pop(b"card_unknown") == b"1"
    assert found.pop(b"Unsettled") == b"3"
    assert list(found.values()) == [b"0"]
    assert b"not json" in [letter.value() for letter in rig.dead_letters()]


def test_stop_means_that_the_event_is_not_passed(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, on_failure=stop)
    rig.make_topics()

    async def reject(number: int, call: Call) -> None:
        if number == 1:
            raise Rejected("card_unknown", "no such card")

    rig.payments.trouble = reject
    rig.charge(("a", 0), ("a", 1), ("a", 2))
    stopped = Running(rig.worker())
    stopped.wait()
    assert isinstance(stopped.error, Rejected)
    # Apache Kafka says that a transaction is committed before its markers let readers see it.
    rig.wait_until_charged(1)
    wait_until(lambda: rig.lag() <= 2, seconds=60, what="the position to be seen")
    assert rig.charged() == {"a": [0]}
    assert rig.lag() == 2


@pytest.mark.slow
def test_what_is_finished_beyond_an_unfinished_call_is_not_repeated(rig: EffectRig):
    """The first call never ends in the first life; the second life must repeat it alone."""
    first_life = True

    async def hang(number: int, call: Call) -> None:
        if first_life and number in (0, 5):
            await asyncio.sleep(60)

    rig.payments.trouble = hang
    charges = [(f"card-{number}", b'{"card":"card-%d","number":%d}' % (number, number)) for number in range(10)]
    rig.send(*charges, partition=0)
    began = time.monotonic()
    with running(rig.worker()):
        rig.wait_until_charged(8)
    assert time.monotonic() - began < 20
    first_life = False
    with running(rig.worker()):
        rig.wait_until_charged(10)
        rig.wait_until_caught_up()
    assert rig.charged() == {f"card-{number}": [number] for number in range(10)}
    calls = Counter(rig.calls())
    assert sorted(number for (_, number, _), times in calls.items() if times == 2) == [0, 5]
    assert len(calls) == 10


def test_much_in_hand_pauses_the_partition_and_all_is_done_in_the_end(rig: EffectRig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("millstream.runtime.effect.in_flight.MAX_IN_HAND", 20)
    most = 0
    open_gate = threading.Event()

    async def hold(number: int, call: Call) -> None:
        if not open_gate.is_set():
            await asyncio.to_thread(open_gate.wait, 20)

    rig.payments.trouble = hold
    rig.charge(*[(f"card-{number % 400}", number) for number in range(2_000)])
    worker = rig.worker()
    with running(worker):
        wait_until(lambda: len(worker._partition_pauses.paused) == 2, seconds=60, what="both partitions paused")
        most = max(partition.in_hand for partition in worker._partitions.values())
        open_gate.set()
        rig.wait_until_charged(2_000)
        rig.wait_until_caught_up()
    assert most < 20 + 100
    found = [number for numbers in rig.charged().values() for number in numbers]
    assert sorted(found) == list(range(2_000))


def test_at_least_once_publishes_outcomes_without_transactions(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, delivery="at_least_once")
    rig.make_topics()
    rig.charge(("a", 1), ("b", 2))
    with running(rig.worker()):
        rig.wait_until_charged(2)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [1], "b": [2]}


@pytest.mark.slow
def test_killed_again_and_again_no_outcome_is_lost_or_doubled_and_keys_stay(rig: EffectRig, tmp_path: Path):
    random_ = random.Random(7)
    children = [rig.child(tmp_path / f"{slot}.log", slot) for slot in range(2)]
    expected: dict[str, list[int]] = {}
    total = 0
    try:
        for _ in range(6):
            charges = [(f"card-{random_.randrange(40)}", number) for number in range(total, total + 150)]
            total += 150
            for card, number in charges:
                expected.setdefault(card, []).append(number)
            rig.charge(*charges)
            time.sleep(random_.uniform(0.1, 0.9))
            victim = random_.randrange(2)
            end(children[victim], how=signal.SIGKILL)
            children[victim] = rig.child(tmp_path / f"{victim}.log", victim)
        rig.wait_until_charged(total, seconds=60)
        rig.wait_until_caught_up()
    finally:
        for child in children:
            end(child, how=signal.SIGKILL)
    assert rig.charged() == expected
    keys: dict[int, set[str]] = {}
    for _, number, key in rig.calls():
        keys.setdefault(number, set()).add(key)
    assert len(keys) == total
    assert all(len(used) == 1 for used in keys.values())
    assert rig.parked() == []


@pytest.mark.slow
def test_a_broker_that_dies_again_and_again_repeats_no_call_and_doubles_no_outcome(kafka: LocalKafka, tmp_path: Path):
    rig = EffectRig(kafka.bootstrap, tmp_path)
    rig.make_topics()

    async def unsettled_at_first(number: int, call: Call) -> None:
        if number % 9 == 0 and call.attempt == 1:
            raise Unsettled("ask later")

    rig.payments.trouble = unsettled_at_first
    with running(rig.worker()):
        for life in range(4):
            rig.charge(*[(f"card-{number % 40}", number) for number in range(life * 200, life * 200 + 200)])
            wait_until(lambda seen=life * 200: len(rig.calls()) > seen, seconds=120, what="some calls")
            kafka.kill()
            kafka.restart()
        rig.wait_until_charged(800, seconds=60)
        rig.wait_until_caught_up()
    assert rig.charged() == {f"card-{card}": list(range(card, 800, 40)) for card in range(40)}
    assert len(rig.calls("end")) == 800
    assert rig.parked() == []
