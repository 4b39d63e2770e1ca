"""An account that is paid into and out of, never below zero; with names of its own for each test."""

from datetime import UTC, datetime
from typing import Any, Self

from millstream.contracts import edge_id
from millstream.declare import FOREVER, Command, Envelope, Event, Service, Topic, full_name, key_of
from millstream.errors import Rejected
from millstream.patterns.aggregate import Aggregate, decides, evolves
from millstream.state.memory import MemoryStore


class Accounts:
    """The declarations. `mounted=False` leaves the mount to the test."""

    def __init__(self, name: str, *, mounted: bool = True) -> None:
        class Deposit(Command, key="account_id", namespace="test"):
            account_id: str
            amount: int
            in_parts: int = 1

        class Withdraw(Command, key="account_id", namespace="test"):
            account_id: str
            amount: int
            expected: int | None = None

        class Close(Command, key="account_id", namespace="test"):
            account_id: str
            expected: int | None = None

        class Deposited(Event, key="account_id", namespace="test"):
            account_id: str
            amount: int

        class Withdrawn(Event, key="account_id", namespace="test"):
            account_id: str
            amount: int

        class Overdrawn(Event, key="account_id", namespace="test"):
            account_id: str
            missing: int

        class Moved(Event, key="account_id", namespace="test"):
            account_id: str
            version: int
            expected: int | None = None

        class Closed(Event, key="account_id", namespace="test"):
            account_id: str

        self.commands = Topic(f"{name}.commands", Deposit, Withdraw, Close, partitions=2)
        self.events = Topic(
            f"{name}.events", Deposited, Withdrawn, Overdrawn, Moved, Closed, partitions=3, retention=FOREVER
        )

        class Account(Aggregate, unchanged_by=(Overdrawn,), namespace="test"):
            balance: int = 0
            closed: bool = False

            @decides
            def deposit(self, command: Deposit) -> tuple[Deposited, ...]:
                if self.closed:
                    raise Rejected("closed", command.account_id)
                part = Deposited(account_id=command.account_id, amount=command.amount)
                return (part,) * command.in_parts

            @decides(expects="expected", conflict=Moved)
            def withdraw(self, command: Withdraw) -> Withdrawn | Overdrawn:
                if command.amount > self.balance:
                    return Overdrawn(account_id=command.account_id, missing=command.amount - self.balance)
                return Withdrawn(account_id=command.account_id, amount=command.amount)

            @decides(expects="expected")
            def close(self, command: Close, envelope: Envelope) -> Closed | None:
                assert envelope.key == command.account_id
                return None if self.closed else Closed(account_id=command.account_id)

            @evolves
            def deposited(self, event: Deposited) -> Self:
                return type(self)(balance=self.balance + event.amount, closed=self.closed)

            @evolves
            def withdrawn(self, event: Withdrawn) -> Self:
                return type(self)(balance=self.balance - event.amount, closed=self.closed)

            @evolves
            def was_closed(self, event: Closed) -> Self:
                return type(self)(balance=self.balance, closed=True)

        self.name = name
        self.Deposit, self.Withdraw, self.Close = Deposit, Withdraw, Close
        self.Deposited, self.Withdrawn, self.Overdrawn, self.Moved, self.Closed = (
            Deposited,
            Withdrawn,
            Overdrawn,
            Moved,
            Closed,
        )
        self.Account = Account
        self.service = Service(f"{name}-bank")
        if mounted:
            Account.mount(self.service)
            self.service.check()


class Desk:
    """One partition of the bank, in memory: what a command leads to, and what is kept."""

    def __init__(self, of: Accounts) -> None:
        (self.handler,) = of.service.handlers
        self.of = of
        self.snapshots: MemoryStore[Any] = MemoryStore(self.handler.stores[0])
        self.said: list[Any] = []
        self.last_id = ""

    def send(self, command: Any) -> list[Any]:
        self.last_id = edge_id()
        said = self.handler.function(command, self.snapshots, envelope(command, self.last_id))
        self.said += said
        return said

    def snapshot(self, key: str) -> Any:
        return self.snapshots.get(key)


def envelope(command: Any, id: str) -> Envelope:
    return Envelope(
        id=id,
        type=full_name(type(command)),
        source="test",
        time=datetime(2026, 1, 1, tzinfo=UTC),
        key=key_of(command),
        topic="commands",
        partition=0,
        offset=0,
        correlation_id=id,
    )
