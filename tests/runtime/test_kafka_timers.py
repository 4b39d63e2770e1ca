"""Timers of Kafka handlers, against real brokers: once, in time, whatever dies meanwhile."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.diary import DiaryRig

from millstream.declare import Retry, exponential, stop
from millstream.testing.child import end, wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

Make = Callable[..., DiaryRig]


@pytest.fixture
def make(shared_kafka: LocalKafka) -> Iterator[Make]:
    made: list[DiaryRig] = []

    def make(**options: Any) -> DiaryRig:
        rig = DiaryRig(shared_kafka.bootstrap, shared_kafka.registry, **options)
        rig.make_topics()
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.close()


def test_a_timer_fires_once_when_no_event_comes_and_not_before_its_time(make: Make):
    rig = make()
    with rig.running():
        began = time.time()
        rig.say(("a", 1), wake_in=1.0)
        rig.wait_for_notes({"a": [1]})
        rig.wait_for_notes({"a": [1]}, woken=True)
    (woken,) = [note for note in rig.records(rig.diary.notes.name) if rig_woken(rig, note)]
    assert woken.timestamp()[1] / 1000 >= began + 1.0
    said = dict(woken.headers() or ())
    (saying,) = rig.records(rig.diary.sayings.name)
    assert said["correlationid"] == dict(saying.headers() or ())["correlationid"]


def rig_woken(rig: DiaryRig, note: Any) -> bool:
    return rig.contracts.decoder([rig.diary.notes]).decode(note.value()).woken


def test_setting_it_again_moves_it_and_cancelling_takes_it_back(make: Make):
    rig = make()
    with rig.running():
        rig.say(("a", 1), ("b", 1), wake_in=0.8)
        rig.say(("a", 2), wake_in=1.2)
        rig.say(("b", 2))  # cancels
        rig.say(("c", 1), wake_in=1.6)
        rig.wait_for_notes({"a": [2], "c": [1]}, woken=True)


def test_a_timer_outlives_its_process_and_fires_late_rather_than_never(make: Make, tmp_path: Path):
    rig = make()
    child = rig.child(tmp_path / "output.log")
    rig.say(*((who, 1) for who in "abcdef"), wake_in=3.0)
    rig.wait_for_notes({who: [1] for who in "abcdef"})
    end(child)
    assert rig.notes(woken=True) == {}
    with rig.running():
        rig.wait_for_notes({who: [1] for who in "abcdef"}, woken=True)


def test_killed_again_and_again_every_timer_fires_once(make: Make, tmp_path: Path):
    rig = make()
    names = [f"k{number}" for number in range(200)]
    for number, who in enumerate(names):
        rig.say((who, 1), wake_in=0.5 + number * 0.02)
    for life in range(4):
        child = rig.child(tmp_path / f"output-{life}.log")
        before = sum(map(len, rig.notes(woken=True).values()))
        wait_until(
            lambda before=before: sum(map(len, rig.notes(woken=True).values())) > min(before + 20, 199),
            seconds=120,
            what="some timers to fire",
            every=0.05,
        )
        end(child)
    with rig.running():
        rig.wait_for_notes({who: [1] for who in names}, woken=True)


def test_a_timer_whose_handler_fails_is_tried_again_and_then_set_aside(make: Make):
    rig = make(retry=Retry(attempts=3, backoff=exponential(0.01)))
    met = []
    mended = threading.Event()

    def trouble(said: Any) -> None:
        if isinstance(said, rig.diary.Wake) and not mended.is_set():
            met.append(said)
            raise TimeoutError("in passing")

    rig.diary.trouble = trouble
    with rig.running():
        rig.say(("a", 1), wake_in=0.1)
        letters = f"{rig.service.name}.kafka.timers.dlq"
        wait_until(lambda: len(rig.records(letters)) == 1, seconds=60, what="a dead letter", every=0.1)
        assert len(met) == 3
        mended.set()
        rig.redrive(rig.records(letters)[0])
        rig.wait_for_notes({"a": [1]}, woken=True)


def test_a_timer_waits_with_its_parked_key_which_may_still_cancel_it(make: Make):
    rig, mended = make(), threading.Event()

    def trouble(said: Any) -> None:
        if (said.who, said.number) == ("a", 2) and not mended.is_set():
            raise TimeoutError("in passing")

    rig.diary.trouble = trouble
    with rig.running():
        rig.say(("a", 1), wake_in=0.5)
        rig.say(("a", 2))  # cancels, once it is handled
        rig.say(("b", 1), wake_in=1.0)
        rig.wait_for_notes({"b": [1]}, woken=True)
        mended.set()
        rig.wait_for_notes({"a": [1, 2], "b": [1]})
        rig.say(("c", 1), wake_in=1.5)
        rig.wait_for_notes({"b": [1], "c": [1]}, woken=True)


def test_a_timer_fires_once_its_key_goes_on_without_what_was_parked(make: Make):
    rig = make(retry=Retry(attempts=3, backoff=exponential(0.5, factor=1)))

    def trouble(said: Any) -> None:
        if said.number == 2:
            raise TimeoutError("in passing")

    rig.diary.trouble = trouble
    with rig.running():
        rig.say(("a", 1), wake_in=0.3)
        rig.say(("a", 2))
        rig.wait_for_notes({"a": [1]}, woken=True)
        (letter,) = rig.dead_letters()
    (woken,) = [note for note in rig.records(rig.diary.notes.name) if rig_woken(rig, note)]
    assert woken.timestamp()[1] >= letter.timestamp()[1]


def test_stop_stops_at_the_timer_and_a_later_life_begins_with_it(make: Make):
    rig, mended = make(retry=Retry(attempts=1), on_failure=stop), threading.Event()

    def trouble(said: Any) -> None:
        if isinstance(said, rig.diary.Wake) and said.who == "c" and not mended.is_set():
            raise TimeoutError("in passing")

    rig.diary.trouble = trouble
    rig.say(*((who, 1) for who in "abcd"), wake_in=0.5)
    with rig.running() as running:
        running.wait(20)
        assert isinstance(running.error, TimeoutError)
    mended.set()
    with rig.running():
        rig.wait_for_notes({who: [1] for who in "abcd"}, woken=True)


def test_a_timer_of_another_key_is_refused_with_the_remedy(make: Make):
    rig = make(retry=Retry(attempts=1))
    with rig.running():
        rig.say(("a", 1), wake_in=0.1, wake="b")
        (letter,) = rig.wait_for_letters(1)
    headers = dict(letter.headers() or ())
    assert headers["millstream-dlq-reason"] == b"foreign_key"
    assert b"Send a command with that key" in (headers["millstream-dlq-message"] or b"")
