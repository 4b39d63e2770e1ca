"""Pauses of the process (SIGSTOP, a suspended machine): they are no attempts of Kafka and SQL handlers, and no part of
`Retry.within`. Those of effects are in `test_effect_failures.py`. In virtual time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import MetaData
from sqlalchemy.orm import Session

from millstream.contracts import Contracts
from millstream.declare import Event, Kind, Retry, Service, Topic, exponential, seconds
from millstream.errors import Rejected, Unavailable
from millstream.operate.assembly import topics_of
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.sql.database import open_database
from millstream.runtime.sql.relay import Relay
from millstream.runtime.sql.worker import SqlWorker
from millstream.settings import Settings
from millstream.testing.simulation import CALM, Process, World

KINDS = [Kind.KAFKA, Kind.SQL]


class Desk:
    """A service that answers what is asked, after `trouble`."""

    def __init__(self, world: World, kind: Kind, trouble: Callable[[str], None], retry: Retry) -> None:
        self.world, self.kind = world, kind

        class Asked(Event, key="who"):
            who: str

        class Answered(Event, key="who"):
            who: str

        self.asked = Topic("desk.asked", Asked, partitions=1, format="json")
        self.answered = Topic("desk.answered", Answered, partitions=1, format="json")
        self.service = Service("desk", tables=MetaData())

        if kind is Kind.KAFKA:

            @self.service.on(Asked, retry=retry)
            def answer(asked: Asked) -> Answered:
                trouble(asked.who)
                return Answered(who=asked.who)

        else:

            @self.service.on(Asked, retry=retry)
            def write(asked: Asked, db: Session) -> Answered:
                trouble(asked.who)
                return Answered(who=asked.who)

        world.kafka().admin().ensure_topics(topics_of(self.service))
        self.process: Process = world.process("desk-0", self._main)

    def _main(self) -> None:
        settings = Settings(  # type: ignore[call-arg]
            data_dir=self.world.folder, session_timeout_ms=300_000, heartbeat_interval_ms=300, commit_interval_ms=20
        )
        kafka, stop = self.world.kafka(settings, "desk-0"), threading.Event()
        if self.kind is Kind.KAFKA:
            KafkaWorker(self.service, settings, Contracts(None), kafka).run(stop)
            return
        engine, wake = open_database(self.service, settings), threading.Event()
        try:
            relay = Relay(self.service, kafka, engine, wake)
            threading.Thread(target=relay.run, args=(stop,), name="desk.relay").start()
            SqlWorker(self.service, settings, Contracts(None), kafka, engine, wake).run(stop)
        finally:
            engine.dispose()

    def ask(self, who: str, key: bytes | None) -> None:
        producer = self.world.kafka().producer()
        producer.produce(self.asked.name, msgspec.json.encode({"who": who}), key)
        producer.flush(60)
        producer.close()

    def count(self, topic: str) -> int:
        try:
            return sum(map(len, self.world.kafka().read_to_end(topic)))
        except Unavailable:  # a process that is frozen may have a transaction open
            return 0

    def wait_for(self, topic: str) -> None:
        self.world.until(lambda: self.count(topic) == 1, 120, f"a record in {topic}", every=0.5)


@contextmanager
def desk(kind: Kind, trouble: Callable[[str], None], **retry: Any) -> Iterator[Desk]:
    with World(1, CALM) as world:
        yield Desk(world, kind, trouble, Retry(**retry))


@pytest.mark.parametrize("key", [b"a", None], ids=["keyed", "without a key"])
@pytest.mark.parametrize("kind", KINDS)
def test_retries_do_not_run_out_while_the_process_is_stopped(kind: Kind, key: bytes | None):
    """Twenty seconds of retries within thirty; the process is stopped for sixty in the midst of them."""
    calls: list[float] = []

    def fail_four_times(who: str) -> None:
        calls.append(time.time())
        if len(calls) < 5:
            raise TimeoutError("in passing")

    within = {"attempts": None, "backoff": exponential(5.0, factor=1), "within": seconds(30)}
    with desk(kind, fail_four_times, **within) as made:
        made.ask("a", key)
        made.world.until(lambda: len(calls) == 2, 60, "two attempts", every=0.1)
        made.process.freeze(60)
        made.wait_for(made.answered.name)
        assert made.count(made.asked.dead_letters) == 0
    assert len(calls) == 5
    assert calls[-1] - calls[0] > 60


@pytest.mark.parametrize("kind", KINDS)
def test_retries_end_when_their_time_is_over(kind: Kind):
    calls: list[float] = []

    def fail(who: str) -> None:
        calls.append(time.time())
        raise TimeoutError("never passes")

    within = {"attempts": None, "backoff": exponential(5.0, factor=1), "within": seconds(30)}
    with desk(kind, fail, **within) as made:
        made.ask("a", b"a")
        made.wait_for(made.asked.dead_letters)
    assert 5 <= len(calls) <= 7
    assert calls[-1] - calls[0] <= 31


@pytest.mark.parametrize("key", [b"a", None], ids=["keyed", "without a key"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_that_a_pause_makes_fail_counts_for_nothing(kind: Kind, key: bytes | None):
    """The one attempt that is allowed has four seconds, takes three, and is stopped for twelve in its midst."""
    calls: list[float] = []

    def answer_in_three_seconds(who: str) -> None:
        calls.append(began := time.monotonic())
        time.sleep(3)
        if time.monotonic() - began > 4:
            raise TimeoutError("the client's own bound")

    with desk(kind, answer_in_three_seconds, attempts=1) as made:
        made.ask("a", key)
        made.world.until(lambda: len(calls) == 1, 60, "the call to be under way")
        made.process.freeze(12)
        made.wait_for(made.answered.name)
        assert made.count(made.asked.dead_letters) == 0
    assert len(calls) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_is_busy_for_long_is_not_taken_for_a_pause(kind: Kind):
    calls: list[str] = []

    def fail_late(who: str) -> None:
        calls.append(who)
        time.sleep(10)
        raise TimeoutError("in passing")

    with desk(kind, fail_late, attempts=1) as made:
        made.ask("a", b"a")
        made.wait_for(made.asked.dead_letters)
    assert calls == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_decision_stands_whatever_pause_was_in_its_midst(kind: Kind):
    calls: list[str] = []

    def reject(who: str) -> None:
        calls.append(who)
        time.sleep(3)
        raise Rejected("closed", "come back tomorrow")

    with desk(kind, reject) as made:
        made.ask("a", b"a")
        made.world.until(lambda: len(calls) == 1, 60, "the call to be under way")
        made.process.freeze(12)
        made.wait_for(made.asked.dead_letters)
    assert calls == ["a"]
