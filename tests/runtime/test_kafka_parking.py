"""Parked keys of Kafka handlers, against real brokers: order, other keys, restarts, people."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.runtime.diary import DiaryRig
from tests.runtime.remains import Errors, no_collection
from tests.runtime.running import Running

from millstream.contracts import derived_id
from millstream.declare import Kind, Retry, days, exponential, park_key, seconds, stop
from millstream.errors import Rejected
from millstream.kafka import connect
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.records.redrive import Action
from millstream.testing.child import wait_until
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


class Broken:
    """Trouble with one key until it is mended."""

    def __init__(self, *keys: str, error: Exception | None = None) -> None:
        self.keys = set(keys)
        self.mended = threading.Event()
        self.met = 0
        self._error = error or TimeoutError("in passing")

    def __call__(self, said: Any) -> None:
        if said.who in self.keys and not self.mended.is_set():
            self.met += 1
            raise self._error


def gauge(name: str, service: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, "kind": "kafka", **labels}) or 0.0


def redrives_left(rig: DiaryRig) -> int:
    redrives, admin = rig.service.redrive_topic(Kind.KAFKA), rig.kafka.admin()
    try:
        found = admin.group_lag(rig.service.group(Kind.KAFKA), [redrives])
    finally:
        admin.close()
    return sum(partition.lag for partition in found if partition.topic == redrives)


def test_a_key_that_fails_waits_in_order_while_others_go_on(make: Make):
    rig = make()
    rig.diary.trouble = broken = Broken("a")
    rig.say(("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3))
    with rig.running():
        rig.wait_for_notes({"b": [1, 2]})
        wait_until(lambda: broken.met > 3, seconds=60, what="some tries")
        wait_until(
            lambda: gauge("millstream_parked_events", rig.service.name) == 3, seconds=60, what="the gauge", every=0.1
        )
        assert gauge("millstream_parked_keys", rig.service.name, state="retrying") == 1
        rig.say(("a", 4), ("b", 3))
        broken.mended.set()
        rig.wait_for_notes({"a": [1, 2, 3, 4], "b": [1, 2, 3]})
    assert rig.dead_letters() == []


def test_parked_keys_outlive_the_process_and_count_their_attempts_on(make: Make):
    rig = make(retry=Retry(attempts=6, backoff=exponential(0.3, factor=1)))
    broken = Broken("a")
    rig.diary.trouble = lambda said: broken(said) if said.number == 1 else None
    rig.say(("a", 1), ("a", 2), ("b", 1))
    with rig.running():
        wait_until(lambda: broken.met >= 2, seconds=60, what="two tries")
    before = broken.met
    with rig.running():
        (letter,) = rig.wait_for_letters(1)
        rig.wait_for_notes({"a": [2], "b": [1]})
    said = dict(letter.headers() or ())
    assert broken.met == 6 > before, "every attempt counts, whichever process made it"
    assert said["millstream-dlq-attempts"] == b"6"
    assert said["millstream-dlq-first-failed-at"] < said["millstream-dlq-failed-at"]
    assert said["millstream-dlq-group"] == f"{rig.service.name}.kafka".encode()


def test_another_instance_takes_parked_keys_over_with_their_partition(make: Make):
    rig = make()
    rig.diary.trouble = broken = Broken("a", "c")
    rig.say(*((who, number) for number in (1, 2, 3) for who in ("a", "b", "c", "d")))
    with rig.running(0):
        rig.wait_for_notes({"b": [1, 2, 3], "d": [1, 2, 3]})
        with rig.running(1) as second:
            wait_until(lambda: len(second.worker.partitions) == 1, seconds=60, what="a partition for the second")
            broken.mended.set()
            rig.wait_for_notes({who: [1, 2, 3] for who in "abcd"})


def test_a_held_key_waits_for_a_person_and_goes_on_with_what_was_mended(make: Make):
    rig = make(retry=Retry(attempts=2, backoff=exponential(0.01)), on_failure=park_key)
    rig.diary.trouble = broken = Broken("a")
    rig.say(("a", 1), ("a", 2), ("b", 1))
    with rig.running():
        (letter,) = rig.wait_for_letters(1)
        rig.wait_for_notes({"b": [1]})
        assert dict(letter.headers() or ())["millstream-dlq-state"] == b"parked"
    with rig.running():
        rig.say(("a", 3), ("b", 2))
        rig.wait_for_notes({"b": [1, 2]})
        met = broken.met
        broken.mended.set()
        edited = rig.contracts.encode(rig.diary.Said(who="a", number=10))
        rig.redrive(letter, value=edited)
        rig.wait_for_notes({"a": [10, 2, 3], "b": [1, 2]})
    assert met == broken.met == 2, "nothing but a person tries a held key"
    assert len(rig.dead_letters()) == 1


def test_a_held_event_that_a_person_discards_lets_its_key_go_on(make: Make):
    rig = make(retry=Retry(attempts=1), on_failure=park_key)
    rig.diary.trouble = lambda said: Broken("a")(said) if said.number == 1 else None
    rig.say(("a", 1), ("a", 2))
    with rig.running():
        (letter,) = rig.wait_for_letters(1)
        rig.redrive(letter, Action.DISCARD)
        rig.wait_for_notes({"a": [2]})


@pytest.mark.parametrize(("action", "wanted"), [(Action.HANDLE, [0, 1, 2]), (Action.DISCARD, [0, 2])])
def test_a_held_event_obeys_a_person_behind_an_older_one_that_was_handed_in_before(
    make: Make, action: Action, wanted: list[int]
):
    rig = make(on_failure=park_key)
    older, held = Broken("a"), Broken("a", error=Rejected("odd", "for now"))
    rig.diary.trouble = lambda said: held(said) if said.number == 1 else older(said) if said.number == 0 else None
    producer = rig.kafka.producer()
    producer.produce(rig.diary.sayings.name, b"junk", b"a")
    producer.flush()
    producer.close()
    rig.say(("a", 1), ("a", 2))
    with rig.running():
        unreadable, parked = rig.wait_for_letters(2)
        assert dict(parked.headers() or ())["millstream-dlq-state"] == b"parked"
        rig.redrive(unreadable, value=rig.contracts.encode(rig.diary.Said(who="a", number=0)))
        wait_until(lambda: older.met > 0, seconds=60, what="the older event to be the first of its key")
        rig.redrive(parked, action)
        wait_until(lambda: redrives_left(rig) == 0, seconds=60, what="the redrive to be taken", every=0.1)
        held.mended.set()
        older.mended.set()
        rig.wait_for_notes({"a": wanted})
        rig.say(("a", 3))
        rig.wait_for_notes({"a": [*wanted, 3]})
        wait_until(
            lambda: gauge("millstream_parked_events", rig.service.name) == 0, seconds=60, what="the gauge", every=0.1
        )
    assert (held.met, len(rig.dead_letters())) == (1, 2)


def test_a_dead_letter_that_is_redriven_comes_of_the_same_event(make: Make):
    rig = make(retry=Retry(attempts=1))
    rig.diary.trouble = broken = Broken("a", error=Rejected("odd", "for now"))
    rig.say(("a", 1), ("a", 2))
    with rig.running():
        first, second = rig.wait_for_letters(2)
        rig.redrive(first)
        again = rig.wait_for_letters(3)[2]
        assert dict(again.headers() or ())["millstream-dlq-redrives"] == b"1"
        assert (
            dict(again.headers() or ())["millstream-dlq-offset"] == dict(first.headers() or ())["millstream-dlq-offset"]
        )
        broken.mended.set()
        rig.redrive(second)
        rig.redrive(first)
        rig.wait_for_notes({"a": [2, 1]})
    ids = [dict(note.headers() or ())["ce_id"].decode() for note in rig.records(rig.diary.notes.name)]
    causes = [dict(letter.headers() or ())["ce_id"].decode() for letter in (second, first)]
    assert ids == [derived_id(cause, f"{rig.service.name}.note", 0) for cause in causes]


def test_a_partition_with_too_much_parked_pauses_until_there_is_room(make: Make):
    rig = make(retry=Retry(attempts=1), on_failure=park_key, max_parked=5)
    rig.diary.trouble = broken = Broken("a")
    others = "bcdefghijklm"
    rig.say(*(("a", number) for number in range(5)))
    with rig.running():
        (letter,) = rig.wait_for_letters(1)
        wait_until(
            lambda: gauge("millstream_partitions_paused", rig.service.name) == 1, seconds=60, what="a pause", every=0.1
        )
        rig.say(*((who, 1) for who in others))
        partitions = {message.key(): message.partition() for message in rig.records(rig.diary.sayings.name)}
        free = {who: [1] for who in others if partitions[who.encode()] != partitions[b"a"]}
        rig.wait_for_notes(free)
        broken.mended.set()
        rig.redrive(letter)
        rig.wait_for_notes({"a": [0, 1, 2, 3, 4]} | {who: [1] for who in others})
    assert 0 < len(free) < len(others), "both partitions have some of the other keys"


def test_stop_stops_at_the_event_and_a_later_life_begins_with_it(make: Make):
    rig = make(retry=Retry(attempts=2, backoff=exponential(0.01)), on_failure=stop)
    rig.diary.trouble = broken = Broken("a")
    rig.say(("b", 1), ("a", 1), ("a", 2))
    with rig.running() as running:
        running.wait(20)
        assert isinstance(running.error, TimeoutError)
    broken.mended.set()
    with rig.running():
        rig.wait_for_notes({"a": [1, 2], "b": [1]})


def test_a_dead_letter_that_kafka_cannot_take_leaves_out_what_it_must(make: Make):
    rig = make(retry=Retry(attempts=2, backoff=exponential(0.5)))
    # Both are due within one transaction.
    narrow = rig.settings(0).model_copy(update={"commit_interval_ms": 2_000, "kafka": {"message.max.bytes": "2900"}})
    met: list[str] = []

    def trouble(said: Any) -> None:
        met.append(said.who)
        if said.who == "a" or met.count("b") == 1:
            raise TimeoutError("in passing")

    rig.diary.trouble = trouble
    rig.say(("b", 1))
    rig.say(("a", 1), wake="z" * 1_900)

    running = Running(KafkaWorker(rig.service, narrow, rig.contracts, connect(narrow, rig.name)))
    (letter,) = rig.wait_for_letters(1)
    rig.wait_for_notes({"b": [1]})
    running.stop()
    assert running.error is None
    told = dict(letter.headers() or ())
    assert (letter.key(), told["millstream-dlq-error"]) == (b"a", b"builtins.TimeoutError")
    assert "millstream-dlq-stacktrace" not in told


def test_without_a_key_an_event_is_tried_in_place_and_set_aside(make: Make):
    rig = make(retry=Retry(attempts=3, backoff=exponential(0.01)), on_failure=park_key, foreign_keys="accept")
    rig.diary.trouble = broken = Broken("a")
    rig.say(("a", 1), key=False)
    with rig.running():
        (letter,) = rig.wait_for_letters(1)
    assert broken.met == 3
    assert "millstream-dlq-state" not in dict(letter.headers() or ())


@pytest.mark.scenario(15)
def test_an_id_that_was_handled_is_passed_over_within_its_window(make: Make):
    rig = make(inbox=days(1))
    for number in (1, 2, 3):
        rig.say(("a", number), id="from-elsewhere")
    with rig.running():
        rig.wait_for_notes({"a": [1]})
    rig.say(("a", 4), id="from-elsewhere")
    rig.say(("a", 5))
    with rig.running():
        rig.wait_for_notes({"a": [1, 5]})


@pytest.mark.scenario(15)
def test_one_id_of_two_sources_is_two_events(make: Make, caplog: pytest.LogCaptureFixture):
    rig = make(inbox=days(1))
    for number, source in ((1, b"/shops/north"), (2, b"/shops/south"), (3, b"/shops/north")):
        rig.say(("a", number), id="1", source=source)
    rig.say(("a", 4), id="2", source=b"/shops/south")
    with rig.running():
        rig.wait_for_notes({"a": [1, 2, 4]})
    assert "inbox_unlike_duplicate" in caplog.text, "the third has the identity of the first and other bytes"
    ids = [dict(message.headers() or ())["ce_id"] for message in rig.records(rig.diary.notes.name)]
    assert len(set(ids)) == 3


def test_ids_whose_window_has_passed_are_forgotten(make: Make):
    rig = make(inbox=seconds(0.5))

    def kept() -> set[str]:
        found: dict[bytes | None, bytes | None] = {
            message.key(): message.value() for message in rig.records(rig.service.inbox_topic(Kind.KAFKA))
        }
        return {(key or b"").decode().rpartition("\n")[2] for key, value in found.items() if value is not None}

    with rig.running():
        for number in range(1, 6):
            rig.say(("a", number), id=f"old-{number}")
        rig.wait_for_notes({"a": [1, 2, 3, 4, 5]})
        passed = time.time() + 0.5
        wait_until(lambda: time.time() > passed, seconds=120, what="the window to pass")
        rig.say(("a", 6), id="new")
        wait_until(lambda: kept() == {"new"}, seconds=60, what="the others to be forgotten", every=0.1)


@pytest.mark.parametrize("key", [True, False])
def test_an_error_that_was_dealt_with_keeps_no_frames_and_their_records(make: Make, key: bool):
    rig = make(retry=Retry(attempts=3, backoff=exponential(0.01)), foreign_keys="accept")
    errors = Errors()

    def trouble(said: Any) -> None:
        if said.who == "a":
            raise errors.make()

    rig.diary.trouble = trouble
    rig.say(("a", 1), ("b", 1), key=key)
    with no_collection(), rig.running():
        rig.wait_for_letters(1)
        errors.wait_until_gone()
    assert errors.count == 3
