"""Outputs, state and dead letters that their topic does not take: the one event is set aside, and others go on."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from tests.runtime.effect_rig import EffectRig
from tests.runtime.limits import noise, set_limit
from tests.runtime.running import Running
from tests.runtime.sql_rig import running

from millstream.contracts import Contracts, Registry
from millstream.declare import (
    Call,
    Delivery,
    Event,
    Kind,
    Retry,
    Service,
    State,
    Store,
    Topic,
    Value,
    dead_letter,
    exponential,
    park_key,
)
from millstream.errors import Unsettled
from millstream.kafka import Message, connect, headers_of
from millstream.operate.assembly import topics_of
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster

LIMIT = 20_000
LARGE = 30_000


class Echoes:
    """A service that answers with as many bytes as it is asked for, and keeps as many."""

    def __init__(self, cluster: Cluster, registry: Any, delivery: Delivery = "exactly_once") -> None:
        name = f"t{uuid.uuid4().hex[:8]}"

        class Asked(Event, key="who"):
            who: str
            number: int
            answer: int = 0
            keep: int = 0
            fail: int = 0
            padding: str = ""

        class Answered(Event, key="who"):
            who: str
            number: int
            text: str

        class Note(Value, namespace="test"):
            text: str

        self.asked = Topic(f"{name}.asked", Asked, partitions=2, format="json")
        self.answered = Topic(f"{name}.answered", Answered, partitions=2, format="json")
        self.notes = Store("notes", Note)
        self.service = Service(name, delivery=delivery)
        self.failures = 0

        @self.service.on(Asked, retry=Retry(attempts=3, backoff=exponential(0.01)), on_failure=dead_letter)
        def answer(asked: Asked, notes: Annotated[State[Note], self.notes]) -> Answered:
            if asked.keep:
                notes.put(asked.who, Note(text="x" * asked.keep))
            if asked.fail:
                self.failures += 1
                raise TimeoutError("in passing")
            return Answered(who=asked.who, number=asked.number, text="x" * asked.answer)

        self.bootstrap = cluster.bootstrap
        self.settings = Settings(  # type: ignore[call-arg]
            bootstrap_servers=cluster.bootstrap,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            kafka={"compression.type": "none"},
        )
        self.kafka = connect(self.settings, name)
        self.contracts = Contracts(registry)
        self._producer = self.kafka.producer()
        admin = self.kafka.admin()
        admin.ensure_topics(topics_of(self.service))
        admin.close()

    def limit(self, topic: str, limit: int = LIMIT) -> None:
        set_limit(self.bootstrap, topic, limit)

    def ask(self, who: str, number: int, **wanted: Any) -> None:
        value = msgspec.json.encode({"who": who, "number": number, **wanted})
        self._producer.produce(self.asked.name, value, who.encode())

    def worker(self) -> KafkaWorker:
        return KafkaWorker(self.service, self.settings, self.contracts, self.kafka)

    def run(self, *, until: int) -> None:
        """Let a worker answer what is asked, until there are so many answers."""
        self._producer.flush()
        at_work = Running(self.worker())
        try:
            self.wait(until, at_work)
        finally:
            at_work.stop()
        assert at_work.error is None

    def wait(self, count: int, at_work: Running[KafkaWorker]) -> None:
        wait_until(
            lambda: at_work.error is not None or (len(self.answers()) >= count and self.lag() == 0),
            seconds=60,
            what=f"{count} answers",
            every=0.1,
        )
        assert at_work.error is None

    def lag(self) -> int:
        admin = self.kafka.admin()
        try:
            return sum(each.lag for each in admin.group_lag(self.service.group(Kind.KAFKA), [self.asked.name]))
        finally:
            admin.close()

    def records(self, topic: str) -> list[Message]:
        return [message for batch in self.kafka.read_to_end(topic, timeout=20) for message in batch]

    def answers(self) -> list[tuple[str, int]]:
        found = [msgspec.json.decode(message.value() or b"") for message in self.records(self.answered.name)]
        return sorted((each["who"], each["number"]) for each in found)

    def letters(self) -> list[tuple[Message, dict[str, str]]]:
        return [
            (
                letter,
                {name.removeprefix("millstream-dlq-"): (value or b"").decode() for name, value in headers_of(letter)},
            )
            for letter in self.records(self.asked.dead_letters)
        ]

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def echoes(cluster: Cluster) -> Iterator[Echoes]:
    made = Echoes(cluster, Registry(cluster.registry))
    yield made
    made.close()


def test_a_limit_that_is_known_costs_no_transaction(echoes: Echoes):
    echoes.limit(echoes.answered.name)
    for number in range(3):
        echoes.ask("a", number, answer=LARGE if number == 1 else 10)
    echoes.run(until=2)
    assert echoes.answers() == [("a", 0), ("a", 2)]
    ((letter, told),) = echoes.letters()
    assert (letter.key(), told["reason"], told["offset"]) == (b"a", "EncodeError", "1")
    assert echoes.answered.name in told["message"]
    assert "max.message.bytes" in told["message"]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_record_that_only_the_broker_finds_too_large_is_found_among_others(cluster: Cluster, delivery: Delivery):
    echoes = Echoes(cluster, Registry(cluster.registry), delivery)
    echoes.limit(echoes.answered.name)
    # Its value alone would fit; with its key it does not.
    long = "k" * 3_000
    others = [(f"o-{number % 7}", number) for number in range(60)]
    for who, number in others[:30]:
        echoes.ask(who, number)
    echoes.ask(long, 1, answer=LIMIT - 3_000 - 1_200)
    for who, number in others[30:]:
        echoes.ask(who, number)
    echoes.run(until=60)
    assert sorted(set(echoes.answers())) == sorted(others)
    if delivery == "exactly_once":
        assert len(echoes.answers()) == 60
    ((letter, told),) = echoes.letters()
    assert (letter.key(), told["reason"]) == (long.encode(), "RecordsRefused")
    assert echoes.answered.name in told["message"]
    echoes.close()


@pytest.mark.slow
def test_a_limit_that_is_lowered_or_raised_while_it_runs_is_noticed(echoes: Echoes):
    echoes.ask("a", 0)
    echoes._producer.flush()
    at_work = Running(echoes.worker())
    echoes.wait(1, at_work)
    echoes.limit(echoes.answered.name)
    for number in range(1, 6):
        echoes.ask("a", number, answer=LARGE if number == 3 else 10)
    echoes._producer.flush()
    echoes.wait(5, at_work)
    assert len(echoes.letters()) == 1
    echoes.limit(echoes.answered.name, 100_000)

    def taken() -> bool:
        echoes.ask("b", 0, answer=LARGE)
        echoes._producer.flush()
        return ("b", 0) in echoes.answers()

    wait_until(taken, seconds=60, what="the topic's new limit to be known", every=0.5)
    at_work.stop()
    assert at_work.error is None


def test_state_that_its_changelog_does_not_take_sets_its_event_aside(echoes: Echoes):
    echoes.limit(echoes.notes.changelog(echoes.service.name))
    for number in range(3):
        echoes.ask("a", number, keep=LARGE if number == 1 else 10)
    echoes.run(until=2)
    ((_, told),) = echoes.letters()
    assert (told["reason"], told["offset"]) == ("EncodeError", "1")


def test_a_dead_letter_without_room_for_its_value_says_where_it_lies(echoes: Echoes):
    echoes.limit(echoes.asked.dead_letters, 5_000)
    echoes.ask("a", 0)
    echoes.ask("a", 1, fail=1, padding="x" * 10_000)
    echoes.ask("a", 2)
    echoes.run(until=2)
    wait_until(lambda: len(echoes.letters()) == 1, seconds=60, what="the dead letter", every=0.1)
    ((letter, told),) = echoes.letters()
    assert (letter.key(), letter.value()) == (b"a", None)
    assert told["value"].startswith("left out: 100")
    assert (told["topic"], told["offset"], told["error"]) == (echoes.asked.name, "1", "builtins.TimeoutError")


def test_an_event_that_cannot_be_parked_is_set_aside_at_once(echoes: Echoes):
    echoes.limit(echoes.service.parked_topic(Kind.KAFKA), 5_000)
    echoes.ask("a", 0, fail=1, padding="x" * 10_000)
    echoes.ask("a", 1)
    echoes.run(until=1)
    ((letter, told),) = echoes.letters()
    assert (letter.key(), told["reason"], told["offset"]) == (b"a", "EncodeError", "0")
    assert echoes.failures == 1


@pytest.mark.parametrize("known", [True, False], ids=["known", "lowered"])
def test_an_effect_whose_outcome_is_refused_is_called_once_and_set_aside(cluster: Cluster, tmp_path: Path, known: bool):
    rig = EffectRig(cluster.bootstrap, tmp_path)
    rig.make_topics()
    large = noise(LARGE // 2).hex()
    if known:
        set_limit(cluster.bootstrap, rig.payments.charged.name, LIMIT)
    with running(rig.worker()):
        rig.charge(("first", 1))
        rig.wait_until_charged(1)
        set_limit(cluster.bootstrap, rig.payments.charged.name, LIMIT)
        rig.charge(*[(f"c-{number}", number) for number in range(10)], (large, 1), ("last", 1))
        rig.wait_until_charged(12)
        rig.wait_until_caught_up()
    (letter,) = rig.dead_letters()
    assert letter.key() == large.encode()
    # A broker of three that has not heard of the limit yet names the former one: then the batch is refused.
    reasons = {b"EncodeError", b"RecordsRefused"} if known else {b"RecordsRefused"}
    assert dict(headers_of(letter))["millstream-dlq-reason"] in reasons
    cards = [card for card, _, _ in rig.calls()]
    assert sorted(cards) == sorted({*cards}), "nothing is called twice"
    assert len(cards) == 13


def charge(card: str, number: int, size: int = 0) -> tuple[str, bytes]:
    """The record of a charge, with so many bytes beside it that nobody reads."""
    return card, msgspec.json.encode({"card": card, "number": number, "padding": noise(size).hex()})


class Lowered:
    """A worker of effects whose calls fail while it is down, and a topic whose limit is lowered meanwhile."""

    def __init__(self, cluster: Cluster, folder: Path, delivery: Delivery = "exactly_once", **options: Any) -> None:
        self.delivery = delivery
        self.rig = EffectRig(cluster.bootstrap, folder, attempts=None, backoff=0.2, delivery=delivery, **options)
        self.rig.make_topics()
        self.down = True
        self.rig.payments.trouble = self._trouble

    async def _trouble(self, number: int, call: Call) -> None:
        if self.down and number >= 0:
            raise Unsettled("ask later")

    def wait_for_letters(self, count: int) -> list[dict[str, bytes | None]]:
        wait_until(lambda: len(self.letters()) >= count, seconds=120, what=f"{count} dead letters", every=0.1)
        return self.letters()

    def letters(self) -> list[dict[str, bytes | None]]:
        """The headers of dead letters, of each event once: at least once, some are written twice."""
        found = [dict(headers_of(letter)) for letter in self.rig.dead_letters()]
        events = {(headers["millstream-dlq-partition"], headers["millstream-dlq-offset"]): headers for headers in found}
        assert len(events) == len(found) or self.delivery == "at_least_once"
        return list(events.values())

    def charged(self) -> dict[str, list[int]]:
        """The numbers of each card's outcomes, in order; each once, where at least once allows more."""
        found = self.rig.charged()
        assert self.delivery == "at_least_once" or all(len({*numbers}) == len(numbers) for numbers in found.values())
        return {card: list(dict.fromkeys(numbers)) for card, numbers in found.items()}


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_an_effect_that_can_be_parked_no_more_is_set_aside_and_others_go_on(
    cluster: Cluster, tmp_path: Path, delivery: Delivery
):
    lowered = Lowered(cluster, tmp_path, delivery=delivery)
    rig = lowered.rig
    with running(rig.worker()):
        rig.send(charge("first", -1))
        rig.wait_until_charged(1)
        set_limit(cluster.bootstrap, rig.parked_topic, LIMIT)
        # As the first of its key, in the midst of it, and not at all.
        rig.send(charge("a", 1, LARGE), charge("a", 2), charge("b", 3), charge("b", 4, LARGE), charge("b", 5))
        rig.send(charge("c", 6), charge("d", -7, LARGE))
        letters = lowered.wait_for_letters(2)
        lowered.down = False
        rig.wait_until_charged(6)
        rig.wait_until_caught_up()
        assert lowered.charged() == {"first": [-1], "a": [2], "b": [3, 5], "c": [6], "d": [-7]}
        # Those that come later are known to be too large.
        lowered.down = True
        rig.send(charge("e", 8, LARGE))
        wait_until(lambda: ("e", 8) in [call[:2] for call in rig.calls()], seconds=60, what="a call", every=0.1)
        lowered.down = False
        rig.wait_until_charged(7)
        rig.wait_until_caught_up()
    assert {headers["millstream-dlq-reason"] for headers in letters} == {b"RecordsRefused"}
    assert all(rig.parked_topic.encode() in (headers["millstream-dlq-message"] or b"") for headers in letters)
    assert len(lowered.letters()) == 2
    assert not rig.parked()


def test_an_effect_that_cannot_wait_for_a_person_any_more_is_set_aside(cluster: Cluster, tmp_path: Path):
    lowered = Lowered(cluster, tmp_path, on_failure=park_key, within=0.0)
    rig = lowered.rig
    with running(rig.worker()):
        rig.send(charge("first", -1))
        rig.wait_until_charged(1)
        set_limit(cluster.bootstrap, rig.parked_topic, LIMIT)
        rig.send(charge("a", 1, LARGE), charge("a", -2))
        (headers,) = lowered.wait_for_letters(1)
        rig.wait_until_charged(2)
        rig.wait_until_caught_up()
    assert headers["millstream-dlq-reason"] == b"RecordsRefused"
    assert "millstream-dlq-state" not in headers
    assert len(rig.dead_letters()) == 1
    assert not rig.parked()


def test_a_dead_letter_of_an_effect_goes_without_its_value_where_that_is_refused(cluster: Cluster, tmp_path: Path):
    lowered = Lowered(cluster, tmp_path, within=0.0)
    rig = lowered.rig
    with running(rig.worker()):
        rig.send(charge("first", -1))
        rig.wait_until_charged(1)
        set_limit(cluster.bootstrap, rig.payments.charges.dead_letters, LIMIT)
        rig.send(charge("a", 1, LARGE), charge("b", -2))
        (headers,) = lowered.wait_for_letters(1)
        rig.wait_until_charged(2)
        rig.wait_until_caught_up()
    assert headers["millstream-dlq-reason"] == b"Unsettled"
    assert (headers["millstream-dlq-value"] or b"").startswith(b"left out")
