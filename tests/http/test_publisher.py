"""The publisher against a real broker, which dies while it publishes."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.patterns.accounts import Accounts
from tests.runtime.limits import noise, set_limit

from millstream import Event, Service, Topic
from millstream.contracts import Contracts, Registry, derived_id
from millstream.errors import (
    CommitUnknown,
    DeclarationError,
    DecodeError,
    EncodeError,
    Fenced,
    KafkaFault,
    MillstreamError,
    TransactionAborted,
    Unavailable,
)
from millstream.http import publisher as module
from millstream.http.publisher import Publisher
from millstream.http.settle import settle
from millstream.kafka import Kafka, Message, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.anyio


class Ordered(Event, key="order_id", namespace="publishing"):
    order_id: str
    number: int


class Noted(Event, key="order_id", namespace="publishing"):
    order_id: str


class Foreign(Event, key="order_id", namespace="publishing"):
    order_id: str


ordered = Topic("publishing.orders", Ordered, partitions=3)
noted = Topic("publishing.notes", Noted, Foreign, partitions=3)
shop = Service("shop", publishes=[Ordered, Noted])


class Bench:
    """A publisher on its thread, and what the topics hold."""

    def __init__(self, broker: LocalKafka, transaction_timeout_ms: int = 15_000, **options: Any) -> None:
        self.settings = Settings(
            bootstrap_servers=broker.bootstrap,
            registry_url=broker.registry,
            transaction_timeout_ms=transaction_timeout_ms,
        )
        self.kafka = connect(self.settings, "test")
        self.contracts = Contracts(Registry(broker.registry))
        self.publisher = self.make(self.kafka, **options)
        admin = self.kafka.admin()
        admin.ensure_topics([TopicSpec(topic.name, topic.partitions) for topic in (ordered, noted)])
        admin.close()

    def make(self, kafka: Kafka, **options: Any) -> Publisher:
        return Publisher(shop, self.contracts, kafka, self.settings, **options)

    @contextmanager
    def running(self) -> Iterator[Publisher]:
        stop = threading.Event()
        thread = threading.Thread(target=self.publisher.run, args=(stop,))
        thread.start()
        try:
            yield self.publisher
        finally:
            stop.set()
            thread.join(15)
            assert not thread.is_alive()

    def records(self, topic: Topic) -> list[Message]:
        return [message for batch in self.kafka.read_to_end(topic.name) for message in batch]

    def ids(self, topic: Topic) -> Counter[str]:
        return Counter(header(message, "ce_id") for message in self.records(topic))


class Spoiling:
    """A cluster whose transactional producer is a real one, with `spoil` called before each commit, with its number."""

    def __init__(self, kafka: Kafka, spoil: Callable[[int], object]) -> None:
        self.kafka, self.spoil, self.commits = kafka, spoil, 0

    def transactional_producer(self, transactional_id: str) -> Any:
        self.real = self.kafka.transactional_producer(transactional_id)
        return self

    def commit(self, timeout: float | None = None) -> None:
        self.commits += 1
        try:
            self.spoil(self.commits)
        except MillstreamError:
            self.real.abort()
            raise
        self.real.commit(timeout)

    def admin(self) -> Any:
        return self.kafka.admin()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def header(message: Message, name: str) -> str:
    return dict(message.headers() or [])[name].decode()


@pytest.fixture
def bench(kafka: LocalKafka) -> Bench:
    return Bench(kafka)


@pytest.fixture
def impatient(kafka: LocalKafka) -> Bench:
    """Its records can be delivered for four seconds, and its requests wait for three."""
    return Bench(kafka, transaction_timeout_ms=6_000, timeout=3.0)


async def connected(publisher: Publisher) -> None:
    await asyncio.to_thread(wait_until, lambda: publisher._able, seconds=20, what="transactions are possible")


def order(number: int = 1, order_id: str | None = None) -> Ordered:
    return Ordered(order_id=order_id or f"o-{number}", number=number)


async def test_one_request_is_committed_with_ids_that_tell_the_story(bench: Bench):
    with bench.running() as publisher:
        id = await publisher.publish(order(), Noted(order_id="o-1"), id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
    (first,), (second,) = bench.records(ordered), bench.records(noted)
    assert (header(first, "ce_id"), header(first, "correlationid")) == (id, id)
    assert header(second, "ce_id") == derived_id(id, "publish", 1)
    assert (header(second, "correlationid"), header(second, "causationid")) == (id, id)
    assert "causationid" not in dict(first.headers() or [])
    assert first.key() == b"o-1"
    assert bench.contracts.decoder([ordered]).decode(first.value() or b"") == order()


async def test_many_requests_share_transactions(bench: Bench):
    with bench.running() as publisher:
        await asyncio.gather(*(publisher.publish(order(n), Noted(order_id=f"o-{n}")) for n in range(1000)))
    assert sum(bench.ids(ordered).values()) == sum(bench.ids(noted).values()) == 1000
    assert publisher._batch_size._sum.get() >= 1000


async def test_what_does_not_fit_fails_its_own_request(bench: Bench):
    with bench.running() as publisher:
        outcomes = await asyncio.gather(
            publisher.publish(order(1)),
            publisher.publish(order(2), Ordered(order_id="o-2", number="many")),  # pyright: ignore[reportArgumentType]
            publisher.publish(Foreign(order_id="o-3")),
            publisher.publish(order(4)),
            return_exceptions=True,
        )
    assert [type(outcome) for outcome in outcomes] == [str, EncodeError, DeclarationError, str]
    assert {message.key() for message in bench.records(ordered)} == {b"o-1", b"o-4"}


async def test_a_record_that_its_topic_does_not_take_fails_its_own_request(bench: Bench):
    large = Ordered(order_id=noise(15_000).hex(), number=1)
    try:
        with bench.running() as publisher:
            await publisher.publish(order(1))
            set_limit(bench.settings.bootstrap_servers, ordered.name, 20_000)
            # The limit is news to the publisher, and only the broker refuses; then it is known.
            for number in (10, 20):
                outcomes = await asyncio.gather(
                    *(publisher.publish(order(number + n)) for n in range(3)),
                    publisher.publish(large),
                    publisher.publish(order(number + 3)),
                    return_exceptions=True,
                )
                assert [isinstance(outcome, EncodeError) for outcome in outcomes] == [False] * 3 + [True, False]
                assert ordered.name in str(outcomes[3])
    finally:
        set_limit(bench.settings.bootstrap_servers, ordered.name, 1_048_588)
    expected = {f"o-{number}".encode() for number in (1, 10, 11, 12, 13, 20, 21, 22, 23)}
    assert {message.key() for message in bench.records(ordered)} == expected


async def test_what_an_aggregate_evolves_is_not_for_web_handlers_to_publish(bench: Bench):
    of = Accounts("publishing")
    publisher = Publisher(of.service, bench.contracts, bench.kafka, bench.settings)
    with pytest.raises(DeclarationError, match=r"publishing-bank publishes Deposited past .* send the aggregate"):
        await publisher.publish(of.Deposited(account_id="a", amount=1))


async def test_a_record_that_the_cluster_refuses_fails_its_own_request(bench: Bench):
    with bench.running() as publisher:
        requests = [publisher.publish(order(n, "x" * 2_000_000 if n == 3 else None)) for n in range(6)]
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
    failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
    assert failed == [3]
    assert isinstance(outcomes[3], MillstreamError)
    assert len(bench.records(ordered)) == 5


async def test_a_record_that_is_refused_on_delivery_is_found_among_many(kafka: LocalKafka, bench: Bench):
    joined = [asyncio.ensure_future(bench.publisher.publish(order(n))) for n in range(63)]
    refused = asyncio.ensure_future(bench.publisher.publish(Noted(order_id="o-x")))
    await asyncio.sleep(0)
    refusing = kafka.faults.error("Produce", "TOPIC_AUTHORIZATION_FAILED", topic=noted.name)
    with refusing, kafka.faults.observe("EndTxn") as transactions, bench.running() as publisher:
        ids = await asyncio.wait_for(asyncio.gather(*joined), 60)
        with pytest.raises(KafkaFault, match=r"Refused while writing to 'publishing\.notes'"):
            await refused
        assert publisher.probe() is None
        assert transactions.hits < 32  # halves, not each of the 64 alone
    assert bench.ids(ordered) == Counter(ids)
    assert not bench.records(noted)


def aborting(times: int) -> Callable[[int], None]:
    def spoil(commit: int) -> None:
        if commit <= times:
            raise TransactionAborted("spoiled")

    return spoil


async def test_an_aborted_group_has_one_more_turn(bench: Bench):
    spoiling: Any = Spoiling(bench.kafka, aborting(1))
    bench.publisher = bench.make(spoiling)
    joined = [asyncio.ensure_future(bench.publisher.publish(order(n))) for n in range(5)]
    await asyncio.sleep(0)
    with bench.running() as publisher:
        ids = await asyncio.wait_for(asyncio.gather(*joined), 30)
        assert publisher.probe() is None
    assert bench.ids(ordered) == Counter(ids)
    assert spoiling.commits == 2


async def test_a_group_that_is_aborted_twice_is_told_together(bench: Bench):
    spoiling: Any = Spoiling(bench.kafka, aborting(2))
    bench.publisher = bench.make(spoiling, timeout=60.0)
    joined = [asyncio.ensure_future(bench.publisher.publish(order(n))) for n in range(5)]
    await asyncio.sleep(0)
    with bench.running() as publisher:
        outcomes = await asyncio.wait_for(asyncio.gather(*joined, return_exceptions=True), 30)
        assert {type(outcome) for outcome in outcomes} == {TransactionAborted}
        assert spoiling.commits == 2
        assert "spoiled" in str(publisher.probe())
        id = await publisher.publish(order(5))
        assert publisher.probe() is None
    assert bench.ids(ordered) == Counter([id])


async def test_trouble_is_not_told_for_ever_where_nobody_asks(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TROUBLE_SECONDS", 0.1)
    spoiling: Any = Spoiling(bench.kafka, aborting(2))
    bench.publisher = bench.make(spoiling, timeout=60.0)
    with bench.running() as publisher:
        with pytest.raises(TransactionAborted):
            await publisher.publish(order())
        await asyncio.to_thread(wait_until, lambda: publisher.probe() is None, seconds=20, what="it is well again")


async def test_everybody_is_told_when_another_process_takes_over_between_halves(bench: Bench):
    def spoil(commit: int) -> None:
        if commit == 1:
            raise EncodeError("refused")
        bench.kafka.transactional_producer("shop.publisher.0").init()

    spoiling: Any = Spoiling(bench.kafka, spoil)
    publisher = bench.make(spoiling)
    joined = [asyncio.ensure_future(publisher.publish(order(n))) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Fenced):
        await asyncio.to_thread(publisher.run, threading.Event())
    outcomes = await asyncio.wait_for(asyncio.gather(*joined, return_exceptions=True), 5)
    assert [type(outcome) for outcome in outcomes] == [CommitUnknown, CommitUnknown, Unavailable, Unavailable]
    assert publisher.probe() is not None
    assert not bench.records(ordered)


async def test_everybody_is_told_when_the_publisher_itself_fails(bench: Bench):
    def spoil(commit: int) -> None:
        raise RuntimeError("a bug")

    spoiling: Any = Spoiling(bench.kafka, spoil)
    publisher = bench.make(spoiling)
    joined = [asyncio.ensure_future(publisher.publish(order(n))) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.to_thread(publisher.run, threading.Event())
    outcomes = await asyncio.wait_for(asyncio.gather(*joined, return_exceptions=True), 5)
    assert {type(outcome) for outcome in outcomes} == {CommitUnknown}


@pytest.mark.slow
async def test_a_stuck_partition_is_told_to_all_in_bounded_time_and_to_health(kafka: LocalKafka, impatient: Bench):
    with impatient.running() as publisher:
        await connected(publisher)
        await publisher.publish(order(0), Noted(order_id="o-0"))
        with kafka.faults.error("Produce", "NOT_ENOUGH_REPLICAS", topic=noted.name):
            began = time.monotonic()
            asked = [asyncio.ensure_future(publisher.publish(Noted(order_id=f"o-{n}"))) for n in range(20)]
            asked.append(asyncio.ensure_future(publisher.publish(order(21))))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            # One by one they would take four seconds each.
            assert time.monotonic() - began < 40
            assert {type(outcome) for outcome in outcomes} <= {Unavailable, TransactionAborted}
            assert "publishing.notes" in str(publisher.probe())
        await connected(publisher)
        await publisher.publish(order(22), Noted(order_id="o-22"))
        assert publisher.probe() is None
    assert {message.key() for message in impatient.records(noted)} == {b"o-0", b"o-22"}
    assert {message.key() for message in impatient.records(ordered)} == {b"o-0", b"o-22"}


@pytest.mark.slow
async def test_a_hung_broker_is_told_to_all_in_bounded_time_and_to_health(kafka: LocalKafka, impatient: Bench):
    with impatient.running() as publisher:
        await connected(publisher)
        await publisher.publish(order(0))
        os.kill(kafka.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            asked = [asyncio.ensure_future(publisher.publish(order(n))) for n in range(1, 31)]
            await asyncio.to_thread(
                wait_until, lambda: publisher.probe() is not None, seconds=15, what="health tells of it"
            )
            assert not any(one.done() for one in asked)
            asked.append(asyncio.ensure_future(publisher.publish(order(31))))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            # Four to deliver and ten to take it back; one by one they would take two seconds each on top.
            assert time.monotonic() - began < 40
            assert {type(outcome) for outcome in outcomes} <= {Unavailable, TransactionAborted}
            assert publisher.probe() is not None
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        await connected(publisher)
        await publisher.publish(order(32))
        assert publisher.probe() is None
    assert {message.key() for message in impatient.records(ordered)} == {b"o-0", b"o-32"}


async def test_a_broker_that_restarts_is_waited_for(kafka: LocalKafka, bench: Bench):
    with bench.running() as publisher:
        await publisher.publish(order(0))
        kafka.kill()
        waiting = asyncio.ensure_future(publisher.publish(order(1)))
        await asyncio.to_thread(kafka.restart)
        await asyncio.wait_for(waiting, 15)
    assert {message.key() for message in bench.records(ordered)} == {b"o-0", b"o-1"}


async def test_without_a_broker_a_request_is_told_in_bounded_time(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PUBLISHER_REQUEST_TIMEOUT", 0.3)
    bench = Bench(kafka, timeout=0.2)
    kafka.kill()
    with bench.running() as publisher:
        assert publisher.probe() is not None
        with pytest.raises(Unavailable):
            await asyncio.wait_for(publisher.publish(order()), 10)


async def test_a_full_queue_refuses(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    first = asyncio.ensure_future(bench.publisher.publish(order(1)))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="Too many"):
        await bench.publisher.publish(order(2))
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 12)
    with pytest.raises(Unavailable, match="Too many"):
        await bench.publisher.publish(order(3))
    with bench.running():
        await first
    with pytest.raises(Unavailable, match="stopping"):
        await bench.publisher.publish(order(4))


async def test_what_waits_at_the_end_is_still_published(bench: Bench):
    with bench.running() as publisher:
        await publisher.publish(order(0))
        waiting = [asyncio.ensure_future(publisher.publish(order(n))) for n in range(1, 50)]
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert sum(bench.ids(ordered).values()) == 50


async def test_a_broker_killed_again_and_again_loses_and_doubles_nothing_that_was_answered(
    kafka: LocalKafka, bench: Bench
):
    """Answered: there once. Refused: not there. Unknown: there or not, and after a repeat with the same id, there."""
    outcomes: dict[str, str] = {}
    done = asyncio.Event()

    async def client(name: int) -> None:
        for number in range(100_000):
            if done.is_set():
                return
            wanted = derived_id(f"client-{name}", "order", number)
            try:
                await publisher.publish(order(number), id=wanted)
                outcomes[wanted] = "committed"
            except CommitUnknown:
                outcomes[wanted] = "unknown"
            except (Unavailable, TransactionAborted):
                outcomes[wanted] = "nothing"

    with bench.running() as publisher:
        clients = [asyncio.ensure_future(client(name)) for name in range(20)]
        for _ in range(4):
            enough = len(outcomes) + 200
            await asyncio.to_thread(
                wait_until, lambda enough=enough: len(outcomes) >= enough, seconds=20, what="requests are answered"
            )
            await asyncio.to_thread(kafka.kill)
            await asyncio.to_thread(kafka.restart)
        done.set()
        await asyncio.wait_for(asyncio.gather(*clients), 30)
    there = await asyncio.to_thread(bench.ids, ordered)
    told = Counter(outcomes.values())
    assert told["committed"] > 600
    assert {there[id] for id, outcome in outcomes.items() if outcome == "committed"} == {1}
    assert {there[id] for id, outcome in outcomes.items() if outcome == "nothing"} <= {0}
    assert {there[id] for id, outcome in outcomes.items() if outcome == "unknown"} <= {0, 1}
    assert set(there) <= set(outcomes)


async def test_an_error_that_cannot_be_copied_answers_its_request_too():
    futures = [asyncio.get_running_loop().create_future() for _ in range(2)]
    error = DecodeError("not_framed", "an error whose arguments are not those it is made of")
    settle([(futures[0], error), (futures[1], "done")])
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == [str(error), "done"]
