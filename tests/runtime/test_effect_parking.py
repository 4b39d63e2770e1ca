"""Effects that fail: what is parked with its key, what is tried again, and what waits for a person."""

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.effect_rig import EffectRig
from tests.runtime.remains import Errors, no_collection
from tests.runtime.running import Running
from tests.runtime.sql_rig import running

from millstream.declare import Call, park_key, stop
from millstream.errors import Rejected, Unsettled
from millstream.kafka import Message, connect
from millstream.runtime.effect.worker import EffectWorker
from millstream.runtime.records.redrive import Action
from millstream.runtime.task.parked import ParkedEvent
from millstream.telemetry import metrics
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow


def rig_on(cluster: Cluster | LocalKafka, folder: Path, **options: Any) -> EffectRig:
    rig = EffectRig(cluster.bootstrap, folder, **options)
    rig.make_topics()
    return rig


class Trouble:
    """Charges with some numbers fail until they are mended; `None`: all do."""

    def __init__(self, rig: EffectRig, *numbers: int, error: Exception | None = None) -> None:
        self.numbers: set[int] | None = set(numbers) or None
        self.error = error or Unsettled("ask later")
        self.attempts: list[tuple[int, int]] = []
        """Number and attempt of every call that failed."""
        self._mended = threading.Event()
        rig.payments.trouble = self

    async def __call__(self, number: int, call: Call) -> None:
        await asyncio.sleep(0)
        if not self._mended.is_set() and (self.numbers is None or number in self.numbers):
            self.attempts.append((number, call.attempt))
            raise self.error

    def mend(self) -> None:
        self._mended.set()


def wait_until_parked(rig: EffectRig, count: int, attempts: int = 1) -> list[ParkedEvent]:
    """What is parked, once so many are, the first of which has failed so often."""
    found: list[ParkedEvent] = []

    def parked() -> bool:
        found[:] = rig.parked()
        return len(found) == count and (not count or max(event.attempts for event in found) >= attempts)

    wait_until(parked, seconds=120, what=f"{count} parked events", every=0.05)
    return found


def wait_for_letters(rig: EffectRig, count: int) -> list[Message]:
    wait_until(lambda: len(rig.dead_letters()) >= count, seconds=120, what=f"{count} dead letters", every=0.05)
    return rig.dead_letters()


def said_of(letter: Message) -> dict[str, bytes]:
    headers = letter.headers() or []
    return {name.removeprefix("millstream-dlq-"): value for name, value in headers}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_key_that_fails_waits_in_order_while_the_position_and_the_others_go_on(
    cluster: Cluster, tmp_path: Path, delivery: Any
):
    rig = rig_on(cluster, tmp_path, delivery=delivery, attempts=None, backoff=0.05)
    trouble = Trouble(rig, 0)
    rig.charge(*[("bad", number) for number in range(5)], *[(f"card-{n}", n) for n in range(100, 300)])
    with running(rig.worker()):
        rig.wait_until_charged(200)
        rig.wait_until_caught_up()
        assert "bad" not in rig.charged()
        parked = wait_until_parked(rig, 5, attempts=2)
        assert [event.attempts > 0 for event in parked] == [True, False, False, False, False]
        trouble.mend()
        rig.wait_until_charged(205)
        wait_until_parked(rig, 0)
    assert rig.charged()["bad"] == [0, 1, 2, 3, 4]
    assert [attempt for _, attempt in trouble.attempts] == list(range(1, len(trouble.attempts) + 1))
    assert {number for number, _ in trouble.attempts} == {0}
    assert len({key for card, number, key in rig.calls() if (card, number) == ("bad", 0)}) == 1


def test_attempts_are_counted_on_after_a_restart(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=3, backoff=2)
    trouble = Trouble(rig, 7)
    rig.charge(("a", 7), ("a", 8))
    with running(rig.worker()):
        (first, second) = wait_until_parked(rig, 2)
    assert (first.attempts, second.attempts) == (len(trouble.attempts), 0)
    with running(rig.worker()):
        rig.wait_until_charged(1)
        (letter,) = wait_for_letters(rig, 1)
        wait_until_parked(rig, 0)
    assert trouble.attempts == [(7, 1), (7, 2), (7, 3)]
    assert said_of(letter)["attempts"] == b"3"
    assert said_of(letter)["group"] == rig.service.name.encode() + b".effect"
    assert rig.charged() == {"a": [8]}


def test_what_is_parked_and_read_again_is_parked_once(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=0.05)
    trouble = Trouble(rig)
    rig.charge(("a", 1), ("a", 2), ("a", 3))
    with running(rig.worker()):
        wait_until_parked(rig, 3)
    rig.forget_positions()
    with running(rig.worker()):
        rig.wait_until_caught_up()
        trouble.mend()
        rig.wait_until_charged(3)
        wait_until_parked(rig, 0)
    assert rig.charged() == {"a": [1, 2, 3]}


def test_an_event_that_stops_the_worker_stays_parked_for_the_next_life(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=2, on_failure=stop)
    trouble = Trouble(rig, 1)
    rig.charge(("a", 1), ("a", 2))
    for _ in range(2):
        stopped = Running(rig.worker())
        stopped.wait()
        assert isinstance(stopped.error, Unsettled)
    assert (rig.charged(), rig.dead_letters()) == ({}, [])
    trouble.mend()
    with running(rig.worker()):
        rig.wait_until_charged(2)
        wait_until_parked(rig, 0)
    assert trouble.attempts == [(1, 1), (1, 2), (1, 2)]


def test_the_time_within_which_to_try_again_passes_while_nothing_runs(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=5, within=6)
    trouble = Trouble(rig, 7)
    rig.charge(("a", 7))
    with running(rig.worker()):
        (parked,) = wait_until_parked(rig, 1)
    wait_until(lambda: time.time() > parked.first_failed_at + 6, seconds=60, what="the time to pass")
    tried = len(trouble.attempts)
    with running(rig.worker()):
        wait_for_letters(rig, 1)
        wait_until_parked(rig, 0)
    assert len(trouble.attempts) == tried + 1


def test_a_killed_instance_leaves_its_parked_keys_to_the_next_life(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=0.05)
    rig.down.touch()
    rig.charge(*[(card, number) for number in range(1, 4) for card in "abc"])
    child = rig.child(tmp_path / "child.log")
    try:
        before = wait_until_parked(rig, 9, attempts=3)
        end(child, how=signal.SIGKILL)
        child = rig.child(tmp_path / "child.log")
        most = max(event.attempts for event in before)
        after = wait_until_parked(rig, 9, attempts=most + 3)
        rig.down.unlink()
        rig.wait_until_charged(9)
        wait_until_parked(rig, 0)
    finally:
        end(child, how=signal.SIGKILL)
    first_failed = {event.at: event.first_failed_at for event in before if event.attempts}
    assert {event.at: event.first_failed_at for event in after if event.attempts} == first_failed
    assert rig.charged() == {card: [1, 2, 3] for card in "abc"}
    assert len({key for card, number, key in rig.calls() if (card, number) == ("a", 1)}) == 1


def test_a_crash_between_the_outcome_and_its_commit_repeats_the_call_with_its_key(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=0.05)
    rig.down.touch()
    rig.charge(("a", 1), ("a", 2))
    child = rig.child(tmp_path / "child.log")
    try:
        wait_until_parked(rig, 2, attempts=2)
        rig.fatal.touch()
        rig.down.unlink()
        assert child.wait(20) == 1
        assert rig.charged() == {}
        child = rig.child(tmp_path / "child.log")
        rig.wait_until_charged(2)
        wait_until_parked(rig, 0)
    finally:
        end(child, how=signal.SIGKILL)
    assert rig.charged() == {"a": [1, 2]}
    ended = [(number, key) for _, number, key in rig.calls("end")]
    assert [number for number, _ in ended] == [1, 1, 2]
    assert len(set(ended)) == 2


def test_parked_keys_go_with_their_partition_to_another_instance(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=0.05)
    trouble = Trouble(rig)
    cards = [f"card-{n}" for n in range(20)]
    rig.charge(*[(card, number) for number in range(3) for card in cards])
    first, second = rig.worker(0), rig.worker(1)
    with running(first):
        wait_until_parked(rig, 60)
        with running(second):
            wait_until(
                lambda: any(partition.parked for partition in list(second._partitions.values())),
                seconds=120,
                what="parked keys at the second instance",
            )
            trouble.mend()
            rig.wait_until_charged(60)
            wait_until_parked(rig, 0)
    assert rig.charged() == {card: [0, 1, 2] for card in cards}


def test_a_gateway_that_was_down_for_every_key_is_caught_up_with_in_order(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=None, backoff=0.5)
    trouble = Trouble(rig)
    cards = [f"card-{n}" for n in range(300)]
    rig.charge(*[(card, number) for number in range(3) for card in cards])
    with running(rig.worker()):
        wait_until_parked(rig, 900, attempts=3)
        rig.wait_until_caught_up()
        trouble.mend()
        rig.wait_until_charged(900, seconds=60)
        wait_until_parked(rig, 0)
    assert rig.charged() == {card: [0, 1, 2] for card in cards}


def test_a_parked_key_waits_for_a_person_over_restarts_and_goes_on_with_what_was_mended(
    cluster: Cluster, tmp_path: Path
):
    rig = rig_on(cluster, tmp_path, on_failure=park_key)
    trouble = Trouble(rig, 1, error=Rejected("card_unknown"))
    rig.charge(("a", 1), ("a", 2), ("b", 1), ("b", 2))
    with running(rig.worker()):
        letters = {letter.key(): letter for letter in wait_for_letters(rig, 2)}
        wait_until_parked(rig, 4)
        rig.wait_until_caught_up()
    assert {said_of(letter)["state"] for letter in letters.values()} == {b"parked"}
    with running(rig.worker()):
        rig.charge(("a", 3), ("b", 3))
        wait_until_parked(rig, 6)
    assert len(trouble.attempts) == 2
    rig.redrive(letters[b"a"], number=10)
    with running(rig.worker()):
        rig.wait_until_charged(3)
        rig.redrive(letters[b"b"], Action.DISCARD)
        rig.wait_until_charged(5)
        wait_until_parked(rig, 0)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [10, 2, 3], "b": [2, 3]}
    assert len(rig.dead_letters()) == 2
    keys = {number: key for card, number, key in rig.calls() if card == "a"}
    assert keys[1] == keys[10]


def test_a_redrive_that_fails_again_says_how_often_it_was_handed_in(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, on_failure=park_key, attempts=2)
    trouble = Trouble(rig, 1)
    rig.charge(("a", 1))
    with running(rig.worker()):
        (letter,) = wait_for_letters(rig, 1)
        rig.redrive(letter)
        _, again = wait_for_letters(rig, 2)
        rig.redrive(again)
        *_, last = wait_for_letters(rig, 3)
        wait_until_parked(rig, 1)
        trouble.mend()
        rig.redrive(last)
        rig.wait_until_charged(1)
        wait_until_parked(rig, 0)
    assert [said_of(each).get("redrives") for each in (letter, again, last)] == [None, b"1", b"2"]
    assert [attempt for _, attempt in trouble.attempts] == [1, 2, 1, 2, 1, 2]


def test_a_dead_letter_whose_key_went_on_is_handled_at_once_when_it_is_redriven(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, attempts=1)
    trouble = Trouble(rig, 1)
    rig.charge(("a", 1), ("a", 2))
    with running(rig.worker()):
        (letter,) = wait_for_letters(rig, 1)
        rig.wait_until_charged(1)
        trouble.mend()
        rig.redrive(letter)
        rig.wait_until_charged(2)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [2, 1]}
    assert len({key for _, number, key in rig.calls() if number == 1}) == 1


def test_what_is_no_redrive_is_passed_over(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path)
    producer = rig.kafka.producer()
    producer.produce(rig.redrive_topic, b"{}", b"a", partition=0)
    producer.flush()
    producer.close()
    rig.charge(("a", 1))
    with running(rig.worker()):
        rig.wait_until_charged(1)
        rig.wait_until_caught_up()
    assert metrics.EVENTS.labels(rig.service.name, "", rig.redrive_topic, "skipped")._value.get() == 1


def test_a_partition_with_too_much_parked_pauses_and_a_redrive_lets_it_go_on(cluster: Cluster, tmp_path: Path):
    rig = rig_on(cluster, tmp_path, on_failure=park_key, max_parked=50)
    trouble = Trouble(rig, 0, error=Rejected("card_unknown"))
    rig.charge(*[("bad", number) for number in range(300)])
    worker = rig.worker()
    with running(worker):
        wait_until(lambda: worker._partition_pauses.full == 1, seconds=60, what="the partition to pause")
        paused = metrics.PARTITIONS_PAUSED.labels(rig.service.name, "effect")._value
        wait_until(lambda: paused.get() == 1, seconds=60, what="the pause to be told of")
        assert metrics.PARKED_KEYS.labels(rig.service.name, "effect", "held")._value.get() == 1
        rig.charge(*[("bad", number) for number in range(300, 2_000)])
        (letter,) = wait_for_letters(rig, 1)
        assert len(rig.parked()) < 50 + 300
        trouble.mend()
        rig.redrive(letter)
        rig.wait_until_charged(2_000, seconds=60)
        wait_until_parked(rig, 0)
        wait_until(lambda: paused.get() == 0, seconds=60, what="the end of the pause to be told of")
    assert rig.charged() == {"bad": list(range(2_000))}


def test_an_error_that_was_dealt_with_keeps_no_frames_and_their_records(cluster: Cluster, tmp_path: Path):
    rig, errors = rig_on(cluster, tmp_path, attempts=3, backoff=0.01), Errors()

    async def trouble(number: int, call: Call) -> None:
        raise errors.make()

    rig.payments.trouble = trouble
    rig.charge(("a", 1))
    with no_collection(), running(rig.worker()):
        wait_for_letters(rig, 1)
        errors.wait_until_gone()
    assert errors.count == 3


@pytest.mark.parametrize("error", [Unsettled("ask later"), Rejected("card_unknown")], ids=["tried_on", "set_aside"])
def test_an_event_too_large_to_be_kept_holds_up_no_other(cluster: Cluster, tmp_path: Path, error: Exception):
    rig = rig_on(cluster, tmp_path, attempts=None)
    trouble = Trouble(rig, 1, error=error)
    rig.send(("a", b'{"card":"a","number":1}' + b" " * 2_460), partition=1)
    rig.send(("b", b'{"card":"b","number":2}'), partition=1)
    narrow = rig.settings(0).model_copy(update={"kafka": {"message.max.bytes": "2500"}})
    with running(EffectWorker(rig.service, narrow, rig.contracts, connect(narrow, rig.name))):
        rig.wait_until_charged(1)
        assert rig.parked() == []
        trouble.mend()
        rig.wait_until_caught_up()
    if isinstance(error, Rejected):
        (letter,) = rig.dead_letters()
        told = dict(letter.headers() or ())
        assert (letter.key(), letter.value(), told["millstream-dlq-reason"]) == (b"a", None, b"card_unknown")
        assert rig.charged() == {"b": [2]}
    else:
        assert rig.charged() == {"a": [1], "b": [2]}
