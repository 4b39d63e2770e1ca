"""Effects that fail in ways that are easily lost: cancelled, with no `Exception`, all of them, or in a pause."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.runtime.effect_rig import PARTITIONS, EffectRig, Payments
from tests.runtime.running import Running
from tests.runtime.sql_rig import running

from millstream.contracts import Contracts
from millstream.declare import Call, Kind, stop
from millstream.errors import Unsettled
from millstream.kafka import TopicSpec
from millstream.runtime.effect.worker import EffectWorker
from millstream.settings import Settings
from millstream.telemetry import Health, metrics
from millstream.testing.plugin import Cluster
from millstream.testing.simulation import CALM, Process, World


class OutOfBand(BaseException):
    """What a library may raise that wants no handler to catch it."""


def reasons(rig: EffectRig) -> dict[bytes, bytes]:
    """Of each dead letter the reason, and how often it was tried."""
    letters = [dict(letter.headers() or ()) for letter in rig.dead_letters()]
    return {letter["millstream-dlq-reason"]: letter["millstream-dlq-attempts"] for letter in letters}  # type: ignore[misc]


def test_what_is_no_exception_is_the_events_failure_and_its_key_goes_on(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path)
    rig.make_topics()

    async def end_it_all(number: int, call: Call) -> None:
        raised = {1: SystemExit(7), 2: KeyboardInterrupt(), 3: OutOfBand(), 4: asyncio.CancelledError()}
        if number in raised:
            raise raised[number]
        if number == 5 and call.attempt < 3:
            raise asyncio.CancelledError
        if number == 6 and (task := asyncio.current_task()) is not None:
            # As a library does that cancels what it runs in.
            task.cancel()
            await asyncio.sleep(0)

    rig.payments.trouble = end_it_all
    rig.charge(*[("a", number) for number in range(8)])
    with running(rig.worker()):
        rig.wait_until_charged(3)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [0, 5, 7]}
    found = reasons(rig)
    assert found.pop(b"CancelledError") == b"3"
    assert found == {b"SystemExit": b"1", b"KeyboardInterrupt": b"1", b"OutOfBand": b"1"}
    assert rig.parked() == []


def test_a_call_that_the_worker_cancels_has_not_failed(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, attempts=1)
    rig.make_topics()
    called, first = threading.Event(), True

    async def hang_in_the_first_life(number: int, call: Call) -> None:
        called.set()
        if first:
            await asyncio.sleep(60)

    rig.payments.trouble = hang_in_the_first_life
    rig.charge(("a", 1))
    with running(rig.worker()):
        assert called.wait(30)
    first = False
    with running(rig.worker()):
        rig.wait_until_charged(1)
        rig.wait_until_caught_up()
    assert rig.charged() == {"a": [1]}
    assert rig.dead_letters() == []
    assert len(set(rig.calls())) == 1


def test_a_worker_whose_policy_is_stop_names_the_event_and_what_was_raised(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path, on_failure=stop)
    rig.make_topics()

    async def leave(number: int, call: Call) -> None:
        raise SystemExit("the client wants no more")

    rig.payments.trouble = leave
    rig.charge(("a", 1))
    stopped = Running(rig.worker())
    stopped.wait(30)
    assert isinstance(stopped.error, RuntimeError)
    assert "SystemExit: the client wants no more" in str(stopped.error)
    assert f"{rig.payments.charges.name}[" in stopped.error.__notes__[0]
    assert rig.lag() == 1


def test_the_time_in_effects_is_that_of_their_calls(cluster: Cluster, tmp_path: Path):
    rig = EffectRig(cluster.bootstrap, tmp_path)
    rig.make_topics()

    async def take_a_while(number: int, call: Call) -> None:
        await asyncio.sleep(0.05)
        if call.attempt == 1:
            raise Unsettled("ask later")

    rig.payments.trouble = take_a_while
    rig.charge(("a", 1), ("b", 2))
    with running(rig.worker()):
        rig.wait_until_charged(2)
        rig.wait_until_caught_up()
    buckets, total = metrics.HANDLER_SECONDS.labels(rig.service.name, "charge").snapshot()
    assert dict(buckets)["+Inf"] == 4  # two attempts of each
    assert total >= 4 * 0.05


# In virtual time


@contextmanager
def till(
    trouble: Callable[[int, Call], Awaitable[None]], **options: Any
) -> Iterator[tuple[World, Payments, Process, Health]]:
    """A service in a world in which nothing goes wrong by itself."""
    with World(1, CALM) as world:
        payments = Payments("till", **options)
        payments.trouble = trouble
        own = (payments.service.parked_topic(Kind.EFFECT), payments.service.redrive_topic(Kind.EFFECT))
        topics = (payments.charges.name, payments.charged.name, *own)
        specs = [TopicSpec(name, PARTITIONS) for name in topics]
        world.kafka().admin().ensure_topics([*specs, TopicSpec(payments.charges.dead_letters, 1)])
        settings, health = Settings(data_dir=world.folder), Health()

        def main() -> None:
            kafka = world.kafka(settings, "till-0")
            EffectWorker(payments.service, settings, Contracts(None), kafka, health=health).run(threading.Event())

        yield world, payments, world.process("till-0", main), health


def order(world: World, payments: Payments, count: int) -> None:
    producer = world.kafka().producer()
    for number in range(count):
        card = f"card-{number}"
        producer.produce(payments.charges.name, msgspec.json.encode({"card": card, "number": number}), card.encode())
    producer.flush(60)
    producer.close()


def read(world: World, topic: str) -> list[dict[str, Any]]:
    records = [message for batch in world.kafka().read_to_end(topic) for message in batch]
    return [msgspec.json.decode(message.value() or b"") for message in records]


@pytest.mark.parametrize("client_within", [None, 4.0], ids=["the effect's time-out", "a time-out of the client"])
def test_a_pause_of_the_process_is_no_attempt(client_within: float | None):
    """Each card has one attempt of at most five seconds; the process is stopped for twelve in the midst of it."""
    called: list[int] = []

    async def answer_in_three_seconds(number: int, call: Call) -> None:
        called.append(call.attempt)
        async with asyncio.timeout(client_within):
            await asyncio.sleep(3)

    with till(answer_in_three_seconds, attempts=1, timeout=5.0) as (world, payments, process, _):
        order(world, payments, 5)
        world.until(lambda: len(called) == 5, 60, "all calls to be under way")
        process.freeze(12)
        world.until(lambda: len(read(world, payments.charged.name)) == 5, 60, "all to be charged", every=0.5)
        assert read(world, payments.charges.dead_letters) == []
    assert set(called) == {1}
    # Where the client gave up because of the pause, the same attempt is made again.
    assert len(called) == 5 if client_within is None else len(called) == 10


def test_retries_do_not_run_out_while_the_process_is_stopped():
    """A machine that is suspended for two minutes wakes up with the retries that it had."""
    attempts: list[int] = []

    async def fail_four_times(number: int, call: Call) -> None:
        attempts.append(call.attempt)
        if call.attempt < 5:
            raise Unsettled("ask later")

    with till(fail_four_times, attempts=None, backoff=10.0, within=60.0) as (world, payments, process, _):
        order(world, payments, 1)
        world.until(lambda: len(attempts) == 2, 60, "two attempts", every=0.1)
        process.freeze(120)
        world.until(lambda: len(read(world, payments.charged.name)) == 1, 300, "the charge", every=0.5)
        assert read(world, payments.charges.dead_letters) == []
    # Its group had given its partitions away meanwhile, so one attempt may have been made twice.
    assert set(attempts) == {1, 2, 3, 4, 5}


def test_an_effect_of_which_nothing_succeeds_shows_and_its_resource_is_made_again():
    failing = metrics.EFFECT_FAILING_SECONDS.labels("till-payment", "charge")
    shown: list[str] = []
    took_part: list[int] = []

    with till(lambda *_: asyncio.sleep(0), attempts=None, backoff=2.0, within=3600.0) as (world, payments, _, health):

        async def fail_until_it_is_opened_again(number: int, call: Call) -> None:
            took_part.append(payments.opened)
            if payments.opened == 1:
                raise TimeoutError("no place in the pool")

        payments.trouble = fail_until_it_is_opened_again
        order(world, payments, 3)

        def shows() -> bool:
            check = health.status()["checks"].get("till-payment.effect.charge")
            if check and failing._value.get() > 0:
                shown.append(check["detail"])
            return bool(shown)

        world.until(shows, 120, "the failing effect to show", every=0.25)
        world.until(lambda: len(read(world, payments.charged.name)) == 3, 120, "all to be charged", every=0.5)
        world.until(lambda: payments.closed == 1, 60, "the former resource to be closed", every=0.5)
        assert payments.opened == 2
        assert "attempts failed, the last with TimeoutError" in shown[0]
        assert "till-payment.effect.charge" not in health.status()["checks"]
        assert failing._value.get() == 0
    assert took_part.count(1) >= 3 * 3  # it is not made again for a few failures


def test_a_few_failures_and_rejections_make_no_effect_a_failing_one():
    with till(lambda *_: asyncio.sleep(0), attempts=2, backoff=0.1) as (world, payments, _, health):

        async def fail_two_of_three(number: int, call: Call) -> None:
            if number % 3:
                raise Unsettled("ask later")

        payments.trouble = fail_two_of_three
        for _ in range(50):
            order(world, payments, 6)
            world.sleep(2)
        assert "till-payment.effect.charge" not in health.status()["checks"]
        assert payments.opened == 1
