"""Aggregates on a real broker: killed, shared out, and looked back at."""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.patterns.accounts import Accounts
from tests.patterns.accounts_rig import Bank
from tests.runtime.running import Running

from millstream.declare import Service
from millstream.errors import AggregateMissing, DeclarationError, DecodeError, TopicMissing, Unavailable
from millstream.kafka import partition_of
from millstream.patterns.aggregate import Version, history, rebuild, state_at
from millstream.testing.child import end, wait_until
from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def bank(cluster: Cluster) -> Iterator[Bank]:
    made = Bank(cluster.bootstrap, cluster.registry)
    made.make_topics()
    yield made
    made.producer.close()


@contextmanager
def running(bank: Bank, *slots: int) -> Iterator[None]:
    workers = [Running(bank.worker(slot)) for slot in slots or (0,)]
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
            assert worker.error is None


def expected(of: Accounts, sent: list[Any]) -> dict[str, list[Any]]:
    """What a bank says that does one command after the other."""
    found: dict[str, list[Any]] = {}
    balances: dict[str, int] = {}
    for command in sent:
        id, balance = command.account_id, balances.get(command.account_id, 0)
        if isinstance(command, of.Deposit):
            events = [of.Deposited(account_id=id, amount=command.amount)] * command.in_parts
            balances[id] = balance + command.amount * command.in_parts
        elif command.amount > balance:
            events = [of.Overdrawn(account_id=id, missing=command.amount - balance)]
        else:
            events = [of.Withdrawn(account_id=id, amount=command.amount)]
            balances[id] = balance - command.amount
        found.setdefault(id, []).extend(events)
    return found


def week(of: Accounts, count: int, accounts: int, seed: int) -> list[Any]:
    chance = random.Random(seed)
    sent: list[Any] = []
    for _ in range(count):
        id, amount = f"a-{chance.randrange(accounts)}", chance.randint(1, 9)
        if chance.random() < 0.5:
            sent.append(of.Deposit(account_id=id, amount=amount, in_parts=chance.randint(1, 3)))
        else:
            sent.append(of.Withdraw(account_id=id, amount=amount * 3))
    return sent


@pytest.mark.scenario(9)
def test_a_bank_that_is_killed_over_and_over_does_each_command_once(bank: Bank, tmp_path: Path):
    sent = week(bank.of, 3_000, accounts=20, seed=5)
    child = bank.child(tmp_path / "child.log")
    try:
        for life in range(3):
            bank.send(*sent[life * 1_000 :][:1_000])
            wait_until(
                lambda: sum(map(len, bank.said().values())) > 800 * (life + 1),  # noqa: B023
                seconds=120,
                what=f"life {life} to have done some",
            )
            end(child, how=signal.SIGKILL)
            child = bank.child(tmp_path / "child.log")
        bank.wait_until_caught_up()
    finally:
        end(child)
    assert bank.said() == expected(bank.of, sent)
    assert bank.snapshots() == bank.replayed()


@pytest.mark.scenario(10)
def test_two_instances_share_the_keys_and_a_third_life_goes_on_with_their_state(bank: Bank):
    sent = week(bank.of, 900, accounts=30, seed=6)
    with running(bank, 0, 1):
        bank.send(*sent[:500])
        bank.wait_until_caught_up()
    with running(bank, 1):
        bank.send(*sent[500:])
        bank.wait_until_caught_up()
    assert bank.said() == expected(bank.of, sent)
    assert bank.snapshots() == bank.replayed()


@pytest.mark.scenario(21)
def test_of_many_who_saw_one_version_one_gets_through(bank: Bank):
    of = bank.of
    bank.send(of.Deposit(account_id="a", amount=100))
    with running(bank):
        bank.send(*[of.Withdraw(account_id="a", amount=1, expected=1) for _ in range(50)])
        bank.send(of.Close(account_id="a", expected=1))
        bank.wait_until_caught_up()
    said = bank.said()["a"]
    assert said[:2] == [of.Deposited(account_id="a", amount=100), of.Withdrawn(account_id="a", amount=1)]
    assert said[2:] == [of.Moved(account_id="a", version=2, expected=1)] * 49
    (letter,) = bank.records(of.commands.dead_letters)
    assert dict(letter.headers() or ())["millstream-dlq-reason"] == b"version_conflict"


def test_the_past_of_one_key_is_read_from_the_log_and_nothing_is_written(bank: Bank):
    of, began = bank.of, datetime.now(UTC)
    with running(bank):
        bank.send(of.Deposit(account_id="a", amount=2, in_parts=2))
        assert partition_of("c", of.events.partitions) == partition_of("a", of.events.partitions)
        bank.send(of.Deposit(account_id="b", amount=50), of.Deposit(account_id="c", amount=50))
        bank.send(of.Withdraw(account_id="a", amount=9), of.Withdraw(account_id="a", amount=3))
        bank.wait_until_caught_up()
    ends = _ends(bank)
    changes = list(history(of.Account, "a", kafka=bank.kafka, contracts=bank.contracts))
    assert [(type(change.event).__name__, change.state.balance, change.version) for change in changes] == [
        ("Deposited", 2, 1),
        ("Deposited", 4, 2),
        ("Overdrawn", 4, 2),
        ("Withdrawn", 1, 3),
    ]
    cluster: dict[str, Any] = {"kafka": bank.kafka, "contracts": bank.contracts}
    for change in changes:
        now = Version(change.state, change.version)
        assert state_at(of.Account, "a", offset=change.envelope.offset, **cluster) == now
        assert change.envelope.correlation_id == change.envelope.causation_id
    assert state_at(of.Account, "a", offset=-1, **cluster) == Version(of.Account())
    assert state_at(of.Account, "a", time=began - timedelta(minutes=1), **cluster) == Version(of.Account())
    assert state_at(of.Account, "a", time=changes[-1].envelope.time, **cluster) == Version(changes[-1].state, 3)
    assert _ends(bank) == ends


@pytest.mark.scenario(22)
def test_snapshots_are_rebuilt_from_events_without_saying_anything_while_nobody_runs(bank: Bank):
    of, sent = bank.of, week(bank.of, 200, accounts=15, seed=7)
    cluster: dict[str, Any] = {"kafka": bank.kafka, "contracts": bank.contracts}
    bank.send(*sent)
    with running(bank):
        bank.wait_until_caught_up()
        with pytest.raises(Unavailable, match=r"is running.*Stop all its instances"):
            rebuild(of.Account, of.service, timeout=1, **cluster)
    (store,) = of.service.stores()
    topic, right = store.changelog(of.service.name), bank.snapshots()
    wrong = store.value(state=of.Account(balance=-1), version=99, last_event_id="none")
    written = bank.contracts.values(topic, store.value).encode(wrong)
    spoilt = ["a-1", "a-2", "never-was"]
    for key in spoilt:
        bank.producer.produce(topic, written, key.encode(), partition=partition_of(key, 2))
    bank.producer.flush()
    before = {key: end for key, end in _ends(bank).items() if key[0] != topic}
    assert rebuild(of.Account, of.service, **cluster) == len(spoilt)
    assert {key: end for key, end in _ends(bank).items() if key[0] != topic} == before
    assert bank.snapshots() == right == bank.replayed()
    more = [*sent, *week(of, 100, accounts=15, seed=8)]
    with running(bank):
        bank.send(*more[len(sent) :])
        bank.wait_until_caught_up()
    assert bank.said() == expected(of, more)


def test_only_the_service_that_runs_an_aggregate_has_snapshots_of_it(bank: Bank):
    with pytest.raises(DeclarationError, match="Account is not mounted on desk"):
        rebuild(bank.of.Account, Service("desk"), kafka=bank.kafka, contracts=bank.contracts)


def test_a_past_that_is_not_there_is_refused_with_the_remedy(bank: Bank):
    of = bank.of
    cluster: dict[str, Any] = {"kafka": bank.kafka, "contracts": bank.contracts}
    with pytest.raises(AggregateMissing, match=r"Account 'nobody' has no event in .*events\[\d\].*Check the key"):
        list(history(of.Account, "nobody", **cluster))
    with pytest.raises(AggregateMissing, match="nothing ever happened to it"):
        state_at(of.Account, "nobody", offset=5, **cluster)
    with pytest.raises(DeclarationError, match="takes one of offset= and time="):
        state_at(of.Account, "a", **cluster)
    with pytest.raises(DeclarationError, match="has no time zone"):
        state_at(of.Account, "a", time=datetime(2026, 1, 1), **cluster)
    with pytest.raises(TopicMissing, match="run the service that the aggregate is mounted on"):
        history(Accounts(f"{of.name}-elsewhere").Account, "a", **cluster)
    bank.producer.produce(of.events.name, b"garbage", b"a")
    bank.producer.flush()
    with pytest.raises(DecodeError):
        list(history(of.Account, "a", **cluster))


def _ends(bank: Bank) -> Any:
    admin = bank.kafka.admin()
    try:
        topics = [name for name in admin.topics() if name.startswith(bank.of.name)]
        counts = {name: info.partitions for name, info in admin.topics().items() if name in topics}
        return admin.end_offsets([(name, partition) for name in topics for partition in range(counts[name])])
    finally:
        admin.close()
