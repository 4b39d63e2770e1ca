"""Aggregates that cannot work are refused where they are declared or mounted, with place and remedy."""

import re
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any, Self

import pytest
from tests.patterns.accounts import Accounts, Desk

from millstream.declare import FOREVER, Command, Event, Service, System, Topic
from millstream.errors import DeclarationError, Rejected
from millstream.patterns.aggregate import Aggregate, decides, evolves, history, replay


class Shut(Command, key="door"):
    door: str
    seen: int | None = None
    hard: str = ""


class Walk(Command, key="path"):
    path: str


class WasShut(Event, key="door"):
    door: str


class Stuck(Event, key="door"):
    door: str
    why: str


class Slammed(Event, key="door"):
    door: str


class Walked(Event, key="path"):
    path: str


class Elsewhere(Event, key="door"):
    door: str


class Passing(Event, key="door"):
    door: str


class Homeless(Event, key="door"):
    door: str


Topic("misuse.commands", Shut)
Topic("misuse.paths", Walk)
Topic("misuse.doors", WasShut, Stuck, Slammed, retention=FOREVER)
Topic("misuse.walks", Walked, retention=FOREVER)
Topic("misuse.elsewhere", Elsewhere, retention=FOREVER)
Topic("misuse.passing", Passing, retention=timedelta(days=7))


def refused(remedy: str) -> Any:
    return pytest.raises(DeclarationError, match=re.escape(remedy))


def test_an_event_that_nothing_evolves():
    with refused("Door: nothing evolves WasShut, which a decision returns: write an @evolves method"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut: ...


def test_an_event_that_no_decision_returns():
    with refused("Door evolves Slammed, which no decision of it returns"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @evolves
            def was_shut(self, event: WasShut) -> Self: ...
            @evolves
            def slammed(self, event: Slammed) -> Self: ...


def test_an_event_that_is_evolved_and_changes_nothing():
    with refused("WasShut is evolved, and is declared to change nothing"):

        class Door(Aggregate, unchanged_by=(WasShut,)):
            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @evolves
            def was_shut(self, event: WasShut) -> Self: ...


@pytest.mark.parametrize("annotation", [None, str, Command, "missing"])
def test_a_decision_without_a_class_in_its_annotation(annotation: Any):
    def shut(self: Any, command: Any) -> WasShut: ...

    if annotation == "missing":
        del shut.__annotations__["command"]
    else:
        shut.__annotations__["command"] = annotation
    with refused("Door.shut: which command is 'command'?"):
        type(Aggregate)("Door", (Aggregate,), {"shut": decides(shut), "__module__": __name__})


def test_a_decision_that_takes_something_else_beside_the_command():
    with refused("Door.shut: a decision takes a command, and an Envelope if it wants one"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut, more: int) -> WasShut: ...


def test_a_decision_that_says_nothing():
    with refused("Door.shut returns no event"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> None: ...


def test_a_decision_that_waits():
    with refused("Door.shut is async"):

        class Door(Aggregate):
            @decides
            async def shut(self, command: Shut) -> WasShut: ...


def test_one_command_decided_twice():
    with refused("Door.slam: Shut is decided on by another method already"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @decides
            def slam(self, command: Shut) -> WasShut: ...


def test_an_evolution_that_returns_something_else():
    with refused("Door.was_shut must return the next state: annotate -> Self"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @evolves
            def was_shut(self, event: WasShut) -> Slammed: ...


def test_an_evolution_of_a_command():
    with refused("Door.was_shut: an evolution takes one event, by its class"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @evolves
            def was_shut(self, event: Shut) -> Self: ...


def test_different_keys():
    with refused("Door: its commands and events have different keys (Shut by door, Walked by path)"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> Walked: ...
            @evolves
            def walked(self, event: Walked) -> Self: ...


def test_an_event_without_a_topic():
    with refused("Homeless lives on no topic"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> Homeless: ...


def test_a_history_in_two_topics():
    with refused("a history has one order, so it needs one topic"):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> WasShut | Elsewhere: ...
            @evolves
            def was_shut(self, event: WasShut) -> Self: ...
            @evolves
            def elsewhere(self, event: Elsewhere) -> Self: ...


def test_a_history_that_is_deleted_after_a_week():
    with refused('Topic("misuse.passing", ..., retention=FOREVER)'):

        class Door(Aggregate):
            @decides
            def shut(self, command: Shut) -> Passing: ...
            @evolves
            def passing(self, event: Passing) -> Self: ...


def test_a_state_without_a_beginning():
    with refused("Door.height has no default"):

        class Door(Aggregate):
            height: int

            @decides
            def shut(self, command: Shut) -> WasShut: ...
            @evolves
            def was_shut(self, event: WasShut) -> Self: ...


@pytest.mark.parametrize("field", ["nothing", "hard"])
def test_an_expected_version_that_the_command_does_not_carry(field: str):
    with refused(f"Door.shut: expects='{field}' names no version in Shut: give it a field {field}: int | None"):

        class Door(Aggregate):
            @decides(expects=field)
            def shut(self, command: Shut) -> WasShut: ...


def test_a_conflict_that_cannot_be_filled_or_never_comes():
    with refused("Door.shut: nothing fills Stuck.why in a conflict"):

        class Door(Aggregate):
            @decides(expects="seen", conflict=Stuck)
            def shut(self, command: Shut) -> WasShut: ...

    with refused("Gate.shut: conflict= without expects="):

        class Gate(Aggregate, unchanged_by=(WasShut,)):
            @decides(conflict=WasShut)
            def shut(self, command: Shut) -> WasShut: ...


def test_an_aggregate_that_is_mounted_twice():
    of = Accounts("mounted-twice")
    with refused("Account is mounted on mounted-twice-bank already: each key has one writer"):
        of.Account.mount(Service("other"))


def test_an_aggregate_whose_events_somebody_else_says():
    of = Accounts("two-writers", mounted=False)
    desk = Service("desk", publishes=[of.Deposited])
    with refused("desk publishes Deposited past the state that desk.account_aggregate keeps of it; send the aggregate"):
        of.Account.mount(desk)
    assert (desk.handlers, of.Account.__mounted__) == ([], None)


@pytest.mark.parametrize("told", ["annotation", "publishes"])
def test_an_event_that_another_handler_says_after_the_aggregate_was_mounted(told: str):
    of = Accounts(f"late-{told}")

    def gift(event: Any) -> Any: ...

    gift.__annotations__["return"] = of.Deposited if told == "annotation" else None
    publishes = None if told == "annotation" else (of.Deposited,)
    bank = of.service
    with refused(f"{bank.name}.gift publishes Deposited past the state that {bank.name}.account_aggregate keeps of it"):
        bank.on(of.Overdrawn, publishes=publishes)(gift)
    assert [handler.name for handler in bank.handlers] == ["account_aggregate"]


def test_an_event_that_two_aggregates_of_a_service_evolve():
    of = Accounts("two-aggregates")

    class Gifts(Aggregate):
        @decides
        def give(self, event: of.Overdrawn) -> of.Deposited: ...  # pyright: ignore[reportInvalidTypeForm]
        @evolves
        def deposited(self, event: of.Deposited) -> Self: ...  # pyright: ignore[reportInvalidTypeForm]

    with refused("account_aggregate publishes Deposited past the state"):
        Gifts.mount(of.service)


def system_of(monkeypatch: pytest.MonkeyPatch, *services: Service) -> System:
    module = ModuleType("banks")
    for service in services:
        setattr(module, service.name.replace("-", "_"), service)
    monkeypatch.setitem(sys.modules, "banks", module)
    return System("banks", [f"banks:{service.name.replace('-', '_')}" for service in services])


@pytest.mark.parametrize("first", ["bank", "other"])
def test_an_event_that_another_service_publishes(monkeypatch: pytest.MonkeyPatch, first: str):
    of = Accounts(f"elsewhere-{first}")
    services = [of.service, Service("charity", publishes=[of.Deposited])]
    system = system_of(monkeypatch, *(services if first == "bank" else reversed(services)))
    assert system.service("charity").produced() == (of.Deposited,)  # a process imports its own service alone
    with refused(f"charity publishes Deposited past the state that {of.service.name}.account_aggregate keeps of it"):
        system.services()


def test_an_event_that_a_handler_of_another_service_says(monkeypatch: pytest.MonkeyPatch):
    of = Accounts("elsewhere-handled")
    charity = Service("charity")

    @charity.on(of.Overdrawn)
    def gift(event: of.Overdrawn) -> of.Deposited | None: ...  # pyright: ignore[reportInvalidTypeForm]

    with refused("charity.gift publishes Deposited past the state"):
        system_of(monkeypatch, of.service, charity).services()


def test_what_changes_nothing_and_commands_are_everybodys_to_publish(monkeypatch: pytest.MonkeyPatch):
    of = Accounts("everybody")
    desk = Service("desk", publishes=[of.Deposit, of.Overdrawn])
    assert system_of(monkeypatch, of.service, desk).services() == (of.service, desk)


def test_an_aggregate_whose_events_and_snapshots_would_not_commit_together():
    of = Accounts("loose", mounted=False)
    with refused("mount it on a service with exactly-once delivery"):
        of.Account.mount(Service("desk", delivery="at_least_once"))


def test_what_is_no_aggregate_or_decides_nothing():
    class Base(Aggregate):
        height: int = 0

    with refused("Base decides nothing: mark a method of it with @decides"):
        Base.mount(Service("doors"))
    with refused("WasShut is no aggregate"):
        replay(WasShut, [])  # pyright: ignore[reportArgumentType]
    with refused("Aggregate is no aggregate"):
        history(Aggregate, "d-1", kafka=None, contracts=None)  # pyright: ignore[reportArgumentType]


def test_a_decision_about_another_key_or_of_an_undeclared_event_is_set_aside():
    of = Accounts("foreign", mounted=False)

    class Teller(of.Account, unchanged_by=(of.Overdrawn,), namespace="test"):
        @decides
        def deposit(self, command: of.Deposit) -> of.Deposited:  # pyright: ignore[reportInvalidTypeForm]
            if command.amount:
                return of.Deposited(account_id="somebody-else", amount=1)
            return of.Closed(account_id=command.account_id)

    Teller.mount(of.service)
    desk = Desk(of)
    with pytest.raises(Rejected, match=r"foreign_key: Teller.deposit was asked about 'a'"):
        desk.send(of.Deposit(account_id="a", amount=1))
    with pytest.raises(Rejected, match=r"undeclared_event: Teller.deposit returned Closed"):
        desk.send(of.Deposit(account_id="a", amount=0))
    assert desk.snapshot("a") is None
