"""What a handler raises is its event's failure, also what is no `Exception`: policy, dead letter, on with the next."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.silent_faults.house import House
from tests.silent_faults.test_workers import said

from millstream.declare import Retry, exponential, park_key, stop
from millstream.operate.run import Exit
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

Make = Callable[..., House]


class Panic(BaseException):
    """What a library's native code may raise."""


@pytest.fixture
def make(shared_kafka: LocalKafka, tmp_path: Path) -> Make:
    return lambda kind, **policy: House(kind, shared_kafka.bootstrap, shared_kafka.registry, tmp_path, **policy)


def bad(error: BaseException) -> Callable[[str], None]:
    def trouble(id: str) -> None:
        if id == "bad":
            raise error

    return trouble


def keys(house: House, topic: str) -> list[bytes | None]:
    return [message.key() for message in house.records(topic)]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("kafka", SystemExit(3)),
        ("sql", Panic("native")),
        *(pytest.param(kind, SystemExit(3), marks=pytest.mark.slow) for kind in ("timer", "aggregate", "view", "sink")),
        pytest.param("kafka", KeyboardInterrupt(), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_it_is_set_aside_and_the_next_goes_on(make: Make, kind: str, error: BaseException):
    house = make(kind)
    house.trouble = bad(error)
    failed, done = house.asked.name, house.done.name
    if kind == "timer":
        failed = house.service.timers_topic(house.service.kinds()[0])
    elif kind in ("view", "sink"):
        done = f"{house.name}.rows"
        failed = done if kind == "sink" else failed
    with house.running():
        house.ask("bad", "good")
        wait_until(lambda: b"good" in keys(house, done), seconds=60, what="the next is done", every=0.1)
        wait_until(lambda: len(house.records(f"{failed}.dlq")) == 1, seconds=60, what="the dead letter", every=0.1)
    (letter,) = house.records(f"{failed}.dlq")
    headers: dict[str, Any] = dict(letter.headers() or ())
    assert letter.key() == b"bad"
    assert headers["millstream-dlq-reason"] == type(error).__name__.encode()
    assert b"house.py" in headers["millstream-dlq-stacktrace"]
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize("kind", ["kafka", "sql"])
def test_an_event_without_a_key_is_set_aside_too(make: Make, kind: str):
    house = make(kind, retry=Retry(on=(Panic,), attempts=2, backoff=exponential(0.01)))  # type: ignore[arg-type]
    house.trouble = bad(Panic("native"))
    with house.running():
        house.ask("bad", "good", key=False)
        wait_until(lambda: len(house.records(house.done.name)) == 1, seconds=60, what="the next is done", every=0.1)
    (letter,) = house.records(house.asked.dead_letters)
    assert dict(letter.headers() or ())["millstream-dlq-attempts"] == b"2"


@pytest.mark.parametrize("kind", ["kafka", "sql"])
def test_a_parked_key_waits_for_a_person(make: Make, kind: str):
    house = make(kind, on_failure=park_key)
    house.trouble = bad(SystemExit())
    with house.running():
        house.ask("bad", "bad", "good")
        wait_until(lambda: keys(house, house.done.name) == [b"good"], seconds=60, what="others go on", every=0.1)
        wait_until(lambda: keys(house, house.asked.dead_letters) == [b"bad"], seconds=60, what="it is told", every=0.1)
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize("kind", ["kafka", "sql"])
def test_stop_stops_with_its_reason(make: Make, kind: str, caplog: pytest.LogCaptureFixture):
    house = make(kind, on_failure=stop)
    house.trouble = bad(SystemExit("no"))
    with house.running():
        house.ask("bad")
        assert house.stop.wait(30)
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "worker_failed")
    assert line["error"] == "no"
    assert house.records(house.asked.dead_letters) == []
