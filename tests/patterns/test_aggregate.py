"""An aggregate with nothing running: decisions, evolutions, versions, replays."""

import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.patterns.accounts import Accounts, Desk, envelope

from millstream.contracts import derived_id
from millstream.errors import Rejected
from millstream.patterns.aggregate import Version, replay

ACCOUNTS = Accounts("unit-accounts")
A = ACCOUNTS


@pytest.fixture
def desk() -> Desk:
    return Desk(ACCOUNTS)


def test_a_decision_is_a_function():
    assert A.Account(balance=5).withdraw(A.Withdraw(account_id="a", amount=3)) == A.Withdrawn(account_id="a", amount=3)
    assert A.Account(balance=5).withdraw(A.Withdraw(account_id="a", amount=7)) == A.Overdrawn(account_id="a", missing=2)
    with pytest.raises(Rejected, match="closed"):
        A.Account(closed=True).deposit(A.Deposit(account_id="a", amount=1))


def test_an_evolution_is_a_function():
    assert A.Account(balance=5).withdrawn(A.Withdrawn(account_id="a", amount=3)) == A.Account(balance=2)


def test_each_command_is_decided_on_what_came_before(desk: Desk):
    assert desk.send(A.Deposit(account_id="a", amount=2, in_parts=3)) == [A.Deposited(account_id="a", amount=2)] * 3
    assert desk.send(A.Withdraw(account_id="a", amount=6)) == [A.Withdrawn(account_id="a", amount=6)]
    assert desk.send(A.Withdraw(account_id="a", amount=1)) == [A.Overdrawn(account_id="a", missing=1)]
    assert desk.send(A.Withdraw(account_id="b", amount=1)) == [A.Overdrawn(account_id="b", missing=1)]
    assert desk.snapshot("a").state == A.Account(balance=0)
    assert desk.snapshot("b") is None


def test_the_snapshot_names_the_version_and_the_last_event_that_changed_it(desk: Desk):
    desk.send(A.Deposit(account_id="a", amount=2, in_parts=3))
    maker = f"{A.service.name}.account_aggregate"
    kept = desk.snapshot("a")
    assert (kept.version, kept.last_event_id) == (3, derived_id(desk.last_id, maker, 2))
    desk.send(A.Withdraw(account_id="a", amount=100))
    assert desk.snapshot("a") == kept


def test_a_command_that_is_decided_to_nothing_leaves_nothing(desk: Desk):
    assert len(desk.send(A.Close(account_id="a"))) == 1
    before = desk.snapshot("a")
    assert desk.send(A.Close(account_id="a")) == []
    assert desk.snapshot("a") == before


@pytest.mark.scenario(21)
def test_of_two_who_saw_the_same_version_one_is_told_of_the_conflict(desk: Desk):
    desk.send(A.Deposit(account_id="a", amount=10))
    assert desk.send(A.Withdraw(account_id="a", amount=1, expected=1)) == [A.Withdrawn(account_id="a", amount=1)]
    assert desk.send(A.Withdraw(account_id="a", amount=1, expected=1)) == [
        A.Moved(account_id="a", version=2, expected=1)
    ]
    assert desk.snapshot("a").state.balance == 9
    with pytest.raises(Rejected, match=r"version_conflict: 'a' is at version 2, and 1 was expected"):
        desk.send(A.Close(account_id="a", expected=1))
    assert len(desk.send(A.Close(account_id="a", expected=2))) == 1


def test_a_refusal_does_not_make_another_senders_version_old(desk: Desk):
    desk.send(A.Deposit(account_id="a", amount=10))
    desk.send(A.Withdraw(account_id="a", amount=100, expected=1))
    assert isinstance(desk.send(A.Withdraw(account_id="a", amount=1, expected=1))[0], A.Withdrawn)


def test_a_key_that_nothing_happened_to_is_at_version_0(desk: Desk):
    assert isinstance(desk.send(A.Close(account_id="a", expected=0))[0], A.Closed)


def commands() -> st.SearchStrategy[Any]:
    key, amount, expected = st.sampled_from("ab"), st.integers(0, 9), st.none() | st.integers(0, 6)
    return st.one_of(
        st.builds(A.Deposit, account_id=key, amount=amount, in_parts=st.integers(0, 3)),
        st.builds(A.Withdraw, account_id=key, amount=amount, expected=expected),
        st.builds(A.Close, account_id=key, expected=expected),
    )


@settings(max_examples=300)
@given(st.lists(commands(), max_size=25), st.data())
@pytest.mark.scenario(21)
def test_a_snapshot_and_its_tail_are_a_full_replay(sent: list[Any], data: st.DataObject):
    desk = Desk(ACCOUNTS)
    for command in sent:
        try:
            desk.send(command)
        except Rejected:
            continue
    for key in "ab":
        events = [event for event in desk.said if event.account_id == key]
        whole = replay(A.Account, events)
        cut = data.draw(st.integers(0, len(events)))
        assert replay(A.Account, events[cut:], since=replay(A.Account, events[:cut])) == whole
        kept = desk.snapshot(key)
        assert whole == (Version(A.Account()) if kept is None else Version(kept.state, kept.version))
        assert whole.state.balance >= 0


def test_doing_a_command_again_after_an_abort_makes_the_same(desk: Desk):
    command, id = A.Deposit(account_id="a", amount=2, in_parts=2), str(uuid.uuid4())
    first = desk.handler.function(command, desk.snapshots, envelope(command, id))
    kept = desk.snapshot("a")
    desk.snapshots.rollback()
    assert desk.handler.function(command, desk.snapshots, envelope(command, id)) == first
    assert desk.snapshot("a") == kept
