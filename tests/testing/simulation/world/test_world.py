"""Worlds: the same seed, the same timeline; time and chance; how processes die."""

import hashlib
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from tests.testing.simulation.parcels import timeline

from millstream.errors import Fenced, TransactionAborted, Unavailable
from millstream.kafka import TopicSpec
from millstream.testing.simulation import ROUGH, Faults, World
from millstream.testing.simulation.scheduler import scheduler

ROOT = Path(__file__).parents[4]
TELL = f"""
import hashlib, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.testing.simulation.parcels import timeline
for seed in range(3):
    print(hashlib.sha256(timeline(seed).encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_seed_makes_the_same_timeline():
    timelines = [timeline(seed) for seed in range(25)]
    assert [timeline(seed) for seed in range(25)] == timelines
    assert len(set(timelines)) == 25


def test_the_same_seed_makes_the_same_timeline_in_another_process():
    def told(hash_seed: str) -> list[str]:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.check_output([sys.executable, "-c", TELL], env=environment, text=True, timeout=100).split()

    here = [hashlib.sha256(timeline(seed).encode()).hexdigest() for seed in range(3)]
    assert told("1") == told("2") == here


def test_hours_pass_at_once_and_only_inside():
    seen: list[float] = []

    def wait() -> None:
        seen.append(time.time())
        time.sleep(3_600)
        seen.append(time.time())

    began = time.monotonic()
    with World(seed=1) as world:
        process = world.process("waiting", wait)
        world.until(lambda: not process.running, seconds=4_000, every=10)
        assert time.monotonic() - began < 30
    assert seen == [1_767_225_600, 1_767_225_600 + 3_600]


def test_chance_comes_from_the_seed_and_only_inside():
    def drawn(seed: int) -> list[str]:
        found: list[str] = []
        with World(seed) as world:
            process = world.process("drawing", lambda: found.append(str(uuid.uuid4())))
            world.until(lambda: not process.running)
            assert str(uuid.uuid4()) not in found
        return found

    assert drawn(1) == drawn(1) != drawn(2)


def test_an_event_wakes_who_waits_for_it():
    with World(seed=1) as world:
        event, woken = threading.Event(), list[tuple[bool, float]]()
        world.process("waiting", lambda: woken.append((event.wait(10), time.monotonic())))
        world.process("impatient", lambda: woken.append((event.wait(1), time.monotonic())))
        world.sleep(2)
        event.set()
        world.sleep(1)
    assert woken == [(False, 1.0), (True, 2.0)]


def test_a_killed_process_has_no_last_words_and_comes_back():
    with World(seed=1) as world:
        world.kafka().admin().ensure_topics([TopicSpec("words", 1)])

        def speak() -> None:
            producer = world.kafka().producer()
            try:
                producer.produce("words", b"hello")
                producer.flush()
                threading.Event().wait()
            finally:
                producer.produce("words", b"last")
                producer.flush()

        process = world.process("speaking", speak)
        world.sleep(1)
        process.kill()
        world.until(lambda: process.incarnations == 2)
        world.sleep(1)
        words = [message.value() for batch in world.kafka().read_to_end("words") for message in batch]
        assert words == [b"hello", b"hello"]


def test_a_process_that_fails_says_why_and_comes_back_unless_it_is_not_to():
    def fail() -> None:
        raise ValueError("odd")

    with World(seed=1) as world:
        stubborn = world.process("stubborn", fail)
        finished = world.process("finished", fail, restart=False)
        world.until(lambda: stubborn.incarnations > 3)
        assert finished.incarnations == 1
        assert str(finished.error) == "odd"
        assert "finished             ends: ValueError: odd" in world.timeline


def test_a_thread_dies_with_its_process():
    with World(seed=1) as world:
        ticks: list[float] = []

        def tick() -> None:
            while True:
                time.sleep(1)
                ticks.append(time.monotonic())

        def main() -> None:
            threading.Thread(target=tick).start()
            time.sleep(3.5)
            raise ValueError("the whole process ends")

        world.process("main", main, restart=False)
        world.sleep(10)
    assert ticks == [1.0, 2.0, 3.0]


def test_a_frozen_holder_of_a_transactional_id_is_fenced_when_it_wakes():
    with World(seed=1) as world:
        world.kafka().admin().ensure_topics([TopicSpec("slots", 1)])

        def hold() -> None:
            producer = world.kafka().transactional_producer("slot-0")
            producer.begin()
            producer.produce("slots", b"old")
            time.sleep(1)
            producer.commit()

        old = world.process("old", hold, restart=False)
        world.sleep(0.5)
        old.freeze(5)
        world.sleep(1)
        world.kafka().transactional_producer("slot-0").init()
        world.until(lambda: not old.running)
        assert isinstance(old.error, Fenced)
        assert list(world.kafka().read_to_end("slots")) == []


def test_a_connection_that_always_breaks_is_no_answer():
    with World(seed=1, faults=Faults(disconnect=1.0)) as world:
        with pytest.raises(Unavailable, match="simulated:9092"):
            world.kafka().admin().topics(timeout=5)
        with pytest.raises((Unavailable, TransactionAborted)):
            world.kafka().transactional_producer("slot-0").init(timeout=5)
        assert "an answer is lost" in world.timeline


def test_what_is_raised_carries_the_seed_and_the_timeline():
    def tell() -> None:
        with World(seed=41) as world:
            world.kafka().admin().ensure_topics([TopicSpec("told", 1)])
            world.until(lambda: False, seconds=1, what="nothing")

    with pytest.raises(TimeoutError, match="nothing: not within 1 s") as raised:
        tell()
    (note,) = raised.value.__notes__
    assert "World(seed=41)" in note
    assert "creates topic told" in note


def test_a_wait_for_something_outside_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scheduler, "REAL_TIMEOUT", 0.2)
    outside = threading.Lock()
    outside.acquire()

    def lose() -> None:
        with World(seed=1) as world:
            world.process("lost", lambda: outside.acquire(timeout=2) and None)
            world.sleep(1)

    with pytest.raises(RuntimeError, match="lost waits for something outside its world"):
        lose()


def test_trouble_in_the_middle_of_everything_is_raised_in_the_test():
    def divide() -> None:
        with World(seed=1) as world:
            world.process("innocent", lambda: time.sleep(10))
            world.after(1, lambda: print(1 / 0))
            world.sleep(5)

    with pytest.raises(ZeroDivisionError):
        divide()


def test_every_fault_happens():
    told = timeline(1, ROUGH._replace(crash=1.0, freeze=2.0, broker_crash=3.0, disconnect=0.05), payments=100)
    for what in ("is killed", "starts again", "is frozen", "broker", "an answer is lost", "a late request arrives"):
        assert what in told


def test_faults_that_are_set_count_at_once_and_those_of_before_no_longer():
    with World(seed=3, faults=Faults(crash=1_000.0)) as world:
        process = world.process("worker", lambda: world.sleep(1_000_000))
        world.faults = Faults(crash=1.0)
        world.sleep(60)
        assert process.incarnations > 10
        world.faults = Faults()
        world.sleep(5)
        incarnations = process.incarnations
        world.sleep(60)
        assert process.incarnations == incarnations
