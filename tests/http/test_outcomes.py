"""What a command led to, awaited by the request that sent it: a real server, a real broker, an aggregate behind it."""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.types import ASGIApp
from tests.patterns.accounts import Accounts
from tests.runtime.running import Running

from millstream.contracts import Contracts, Registry
from millstream.declare import Service, seconds
from millstream.errors import DeclarationError, TopicReplaced, Unavailable
from millstream.http import Web, install_problems
from millstream.http.outcomes import Outcomes
from millstream.kafka import connect, partition_of
from millstream.operate.assembly import prepare, topics_of
from millstream.patterns.aggregate import history
from millstream.runtime.kafka.worker import KafkaWorker
from millstream.runtime.loop.topic_watch import TopicWatch
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

Serve = Callable[[ASGIApp], str]


class Bank:
    """The web process of a bank's desk, and the bank, which is started when a test wants it.

    - `founded`: whether the bank has been started before, so that its topics are there.
    - `of`: the bank of an earlier life of the process.
    """

    def __init__(self, broker: LocalKafka, *, founded: bool = True, of: Accounts | None = None) -> None:
        self.of = of = of or Accounts(f"o{uuid.uuid4().hex[:8]}")
        self.settings = Settings(
            bootstrap_servers=broker.bootstrap,
            registry_url=broker.registry,
            http="127.0.0.1:0",
            session_timeout_ms=6_000,
            heartbeat_interval_ms=200,
            commit_interval_ms=20,
        )
        self.kafka = connect(self.settings, of.name)
        self.contracts = Contracts(Registry(broker.registry))
        if founded:
            prepare(of.service, self.settings, self.kafka)
        self.desk = desk = Service(f"{of.name}-desk", publishes=[of.Deposit, of.Withdraw, of.Close])
        prepare(desk, self.settings, self.kafka)
        self.health = Health()
        self.web = Web(
            desk,
            self.settings,
            self.contracts,
            self.kafka,
            engine=lambda: None,
            health=self.health,
            tracer=Tracer(),  # type: ignore[arg-type,return-value]
        )
        self.outcomes = self.web.outcomes(of.events)
        self.stack = ExitStack()

    def start(self) -> None:
        for worker in self.web.workers:
            self.stack.callback(Running(worker).stop)
        wait_until(lambda: self.health.healthy, seconds=60, what="the desk")

    def open(self) -> None:
        """Now commands are decided on."""
        prepare(self.of.service, self.settings, self.kafka)
        self.stack.callback(Running(KafkaWorker(self.of.service, self.settings, self.contracts, self.kafka)).stop)

    def app(self, within: float = 10) -> FastAPI:
        app, of, outcomes = FastAPI(), self.of, self.outcomes
        install_problems(app)

        @app.post("/accounts/{account_id}/deposits")
        async def deposit(account_id: str, amount: int, response: Response) -> Any:
            outcome = await outcomes.of(of.Deposit(account_id=account_id, amount=amount), within=seconds(within))
            return said(account_id, outcome, response)

        @app.post("/accounts/{account_id}/withdrawals")
        async def withdraw(account_id: str, amount: int, response: Response, expected: int | None = None) -> Any:
            command = of.Withdraw(account_id=account_id, amount=amount, expected=expected)
            return said(account_id, await outcomes.of(command, within=seconds(within)), response)

        def said(account_id: str, outcome: Any, response: Response) -> Any:
            match outcome:
                case None:
                    response.status_code = 202
                    response.headers["location"] = f"/accounts/{account_id}"
                    return None
                case of.Moved():
                    response.status_code = 409
                case _:
                    pass
            return {"said": type(outcome).__name__, "amount": getattr(outcome, "amount", None)}

        return app


@pytest.fixture
def bank(shared_kafka: LocalKafka) -> Iterator[Bank]:
    made = Bank(shared_kafka)
    with made.stack:
        made.start()
        yield made


async def somebody_waits(bank: Bank) -> None:
    await asyncio.to_thread(wait_until, lambda: bool(bank.outcomes._waiting), seconds=20, what="a request that waits")


def post(url: str, account: str, what: str, **parameters: Any) -> httpx.Response:
    return httpx.post(f"{url}/accounts/{account}/{what}", params=parameters, timeout=20)


@pytest.mark.slow
def test_a_request_is_answered_with_what_its_command_led_to(bank: Bank, serve: Serve):
    bank.open()
    url = serve(bank.app())
    assert post(url, "a", "deposits", amount=5).json() == {"said": "Deposited", "amount": 5}
    assert post(url, "a", "withdrawals", amount=9).json()["said"] == "Overdrawn"
    assert post(url, "a", "withdrawals", amount=2, expected=1).json() == {"said": "Withdrawn", "amount": 2}
    conflict = post(url, "a", "withdrawals", amount=2, expected=1)
    assert (conflict.status_code, conflict.json()["said"]) == (409, "Moved")


def test_each_of_many_requests_gets_its_own_outcome(bank: Bank):
    bank.open()
    of = bank.of

    async def all_at_once() -> list[Any]:
        sent = [of.Deposit(account_id=f"a-{n % 7}", amount=n) for n in range(300)]
        return await asyncio.gather(*(bank.outcomes.of(command, within=seconds(20)) for command in sent))

    found = asyncio.run(all_at_once())
    assert found == [of.Deposited(account_id=f"a-{n % 7}", amount=n) for n in range(300)]
    assert bank.outcomes._waiting == {}


def test_what_takes_longer_is_accepted_and_still_done(bank: Bank, serve: Serve):
    began = time.monotonic()
    answer = post(serve(bank.app(within=0.3)), "a", "deposits", amount=5)
    assert (answer.status_code, answer.headers["location"]) == (202, "/accounts/a")
    assert 0.3 <= time.monotonic() - began < 60
    assert bank.outcomes._waiting == {}
    bank.open()
    outcome = asyncio.run(bank.outcomes.of(bank.of.Withdraw(account_id="a", amount=5), within=seconds(20)))
    assert outcome == bank.of.Withdrawn(account_id="a", amount=5)
    changes = history(bank.of.Account, "a", kafka=bank.kafka, contracts=bank.contracts)
    assert [type(change.event).__name__ for change in changes] == ["Deposited", "Withdrawn"]


def test_a_desk_on_a_new_cluster_answers_once_the_bank_has_come(shared_kafka: LocalKafka):
    bank = Bank(shared_kafka, founded=False)
    of, admin = bank.of, bank.kafka.admin()
    with bank.stack:
        assert of.events.name not in admin.topics()
        bank.start()
        assert asyncio.run(bank.outcomes.of(of.Deposit(account_id="a", amount=5), within=seconds(0.3))) is None
        assert admin.topics()[of.events.name].partitions == of.events.partitions
        assert admin.topic_config(of.events.name)["retention.ms"] == "-1"
        bank.open()
        outcome = asyncio.run(bank.outcomes.of(of.Withdraw(account_id="a", amount=5), within=seconds(20)))
        assert outcome == of.Withdrawn(account_id="a", amount=5)
    admin.close()


def remake_events(bank: Bank) -> None:
    admin = bank.kafka.admin()
    topic = bank.of.events.name
    before = admin.topic_ids([topic])
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.topic_ids([topic]), seconds=60, what="the topic to be gone", every=0.02)
    prepare(bank.of.service, bank.settings, bank.kafka)
    assert admin.topic_ids([topic]) != before
    admin.close()


def deposits(bank: Bank, count: int) -> list[Any]:
    async def ask() -> list[Any]:
        sent = [bank.of.Deposit(account_id=f"a-{n % 7}", amount=n) for n in range(count)]
        return await asyncio.gather(*(bank.outcomes.of(command, within=seconds(20)) for command in sent))

    return asyncio.run(ask())


def test_a_topic_made_again_ends_the_process_that_follows_it_and_the_next_answers(shared_kafka: LocalKafka):
    first = Bank(shared_kafka)
    of = first.of
    with first.stack:
        first.start()
        first.open()
        assert None not in deposits(first, 50)
        specs = [*topics_of(first.desk), *first.web.followed]
        watch = Running(TopicWatch(first.desk, first.kafka, specs, Health(), every=0.05))
        wait_until(lambda: of.events.name in watch.worker.known, seconds=60, what="a first look")
        remake_events(first)
        watch.wait(20)
        assert isinstance(watch.error, TopicReplaced)
        assert of.events.name in str(watch.error)
    second = Bank(shared_kafka, of=of)
    with second.stack:
        second.start()
        second.open()
        assert deposits(second, 10) == [of.Deposited(account_id=f"a-{n % 7}", amount=n) for n in range(10)]


def test_requests_are_answered_from_a_topic_made_again_before_the_process_ends(bank: Bank):
    bank.open()
    assert None not in deposits(bank, 50)
    remake_events(bank)
    of = bank.of
    assert deposits(bank, 10) == [of.Deposited(account_id=f"a-{n % 7}", amount=n) for n in range(10)]


def test_a_process_that_stops_lets_nobody_wait(bank: Bank):
    async def waits_while_it_stops() -> Any:
        waiting = asyncio.create_task(bank.outcomes.of(bank.of.Deposit(account_id="a", amount=1), within=seconds(300)))
        async with asyncio.timeout(20):
            await somebody_waits(bank)
            await asyncio.to_thread(bank.stack.close)
            return await waiting

    assert asyncio.run(waits_while_it_stops()) is None


def test_too_many_are_refused_before_anything_is_published(bank: Bank):
    full = Outcomes("full", [bank.of.events], bank.web.publisher, bank.contracts, bank.kafka, bank.settings, limit=0)
    with pytest.raises(Unavailable, match="Too many requests wait"):
        asyncio.run(full.of(bank.of.Deposit(account_id="a", amount=1), within=seconds(1)))
    assert not list(bank.kafka.read_to_end(bank.of.commands.name))


def test_a_request_that_goes_away_leaves_nothing(bank: Bank):
    async def leave() -> None:
        task = asyncio.create_task(bank.outcomes.of(bank.of.Deposit(account_id="a", amount=1), within=seconds(300)))
        await somebody_waits(bank)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert (bank.outcomes._waiting, bank.outcomes._requests) == ({}, 0)


@pytest.mark.slow
def test_a_broker_that_comes_back_costs_a_request_no_more_than_its_time(kafka: LocalKafka):
    bank = Bank(kafka)
    with bank.stack:
        bank.start()
        bank.open()
        of, outcomes = bank.of, bank.outcomes
        assert asyncio.run(outcomes.of(of.Deposit(account_id="a", amount=1), within=seconds(20))) is not None
        kafka.kill()

        async def during() -> Any:
            command = of.Deposit(account_id="a", amount=2)
            waiting = asyncio.create_task(outcomes.of(command, within=seconds(20)))
            async with asyncio.timeout(30):
                await somebody_waits(bank)
                kafka.restart()
                return await waiting

        assert asyncio.run(during()) == of.Deposited(account_id="a", amount=2)


@pytest.mark.slow
def test_what_came_while_partitions_were_elsewhere_is_told_when_they_are_back(bank: Bank):
    bank.open()
    of, outcomes = bank.of, bank.outcomes
    stranger = bank.kafka.consumer(outcomes._group, instance="stranger")
    stranger.subscribe([of.events.name])
    wait_until(lambda: stranger.poll_batch(1, 0.1) == [] and stranger.assignment() != [], seconds=60, what="its share")
    taken = {partition for _, partition in stranger.assignment()}
    accounts = [f"a-{number}" for number in range(20)]
    assert {partition_of(account, of.events.partitions) for account in accounts} >= taken

    async def meanwhile() -> list[Any]:
        sent = [of.Deposit(account_id=account, amount=1) for account in accounts]
        waiting = asyncio.gather(*(outcomes.of(command, within=seconds(30)) for command in sent))
        await asyncio.to_thread(wait_until, lambda: said() == len(accounts), seconds=20, what="the outcomes")
        await asyncio.to_thread(stranger.close)
        return await waiting

    def said() -> int:
        return sum(map(len, bank.kafka.read_to_end(of.events.name)))

    assert asyncio.run(meanwhile()) == [of.Deposited(account_id=account, amount=1) for account in accounts]


def test_it_is_asked_for_once_with_all_topics(bank: Bank):
    with pytest.raises(DeclarationError, match="ask for it once, and name them all"):
        bank.web.outcomes(bank.of.events)
    with pytest.raises(DeclarationError, match="ask for it once, and name them all"):
        bank.web.outcomes()
