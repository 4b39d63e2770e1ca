"""Invariants: what must be true of a system's events, as small functions over all that is known of one thing.

Topics have no order among each other, so an invariant is no fold in the order of arrival: it looks at a set of facts.
Whatever order they came in, it says the same.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

from millstream.declare.contract import Contract, key_of
from millstream.declare.envelope import Envelope
from millstream.declare.topic import Topic, home_of
from millstream.errors import DeclarationError

C = TypeVar("C", bound=Contract)
Check = TypeVar("Check", bound=Callable[..., Iterable[str]])

MAX_KEPT = 4
"""Facts of one class that a check sees: one is right, two prove that there were too many."""


class Fact(NamedTuple):
    """An event, where it is in the log, and what is kept of it."""

    topic: str
    partition: int
    offset: int
    type: str
    id: str
    kept: Any = None

    @classmethod
    def of(cls, envelope: Envelope, kept: Any = None) -> "Fact":
        """Of the event with this envelope."""
        return cls(envelope.topic, envelope.partition, envelope.offset, envelope.type, envelope.id, kept)

    @property
    def place(self) -> str:
        """In words.

        >>> Fact("orders.events", 2, 17, "orders.OrderCreated", "o-1").place
        'orders.events[2]@17 orders.OrderCreated o-1'
        """
        return f"{self.topic}[{self.partition}]@{self.offset} {self.type} {self.id}"


class Case:
    """All that is known of one key. Facts that an invariant has looked at are its evidence.

    - `at_rest`: nothing more is on its way, so that what is missing now is missing for ever.
    - `most`: how many facts of one class it shows; `None` shows them all.
    """

    def __init__(
        self,
        key: str,
        facts: Mapping[type[Contract], tuple[int, list[Fact]]] | None = None,
        *,
        at_rest: bool = False,
        limit: int | None = MAX_KEPT,
    ) -> None:
        self.key = key
        self.at_rest = at_rest
        self._limit = limit
        self._facts = facts or {}
        self._looked: dict[type[Contract], None] = {}

    def __getitem__(self, contract: type[C]) -> tuple[C, ...]:
        """The events of a class, by their places in the log, as far as they are kept.

        A check sees the first few (`MAX_KEPT`), a part of a `Total` all of them.
        """
        self._looked[contract] = None
        return tuple(fact.kept for fact in self._shown(contract))

    def count(self, *contracts: type[Contract]) -> int:
        """The number of events of these classes together."""
        self._looked |= dict.fromkeys(contracts)
        return sum(self._facts.get(contract, (0, []))[0] for contract in contracts)

    @property
    def evidence(self) -> tuple[Fact, ...]:
        """The facts of all classes that were looked at so far."""
        return tuple(fact for contract in self._looked for fact in self._shown(contract))

    def _shown(self, contract: type[Contract]) -> list[Fact]:
        return self._facts.get(contract, (0, []))[1][: self._limit]


CaseCheck: TypeAlias = Callable[[Case], Iterable[str]]


class Cases:
    """Everything about one kind of thing, such as an order: the classes that speak of it, and what must hold.

    - `keep`: makes of an event one that holds less, where the whole is more than is needed.
    - `by`: the key of a class, where that is not the key of its records; `None` for an event of no such thing.

    A check yields a sentence for each violation. What holds only in the end, it asks `case.at_rest` first. It must be
    a pure function of the case, and answer for every one: where it raises, that invariant cannot be judged.

    >>> from millstream.declare.contract import Event
    >>> class Paid(Event, key="order"):
    ...     order: str
    >>> payments, orders = Topic("doctest.payments", Paid), Cases("order", Paid)
    >>> @orders.invariant
    ... def paid_at_most_once(order: Case) -> Iterable[str]:
    ...     if (times := order.count(Paid)) > 1:
    ...         yield f"it was paid {times} times"
    """

    def __init__(
        self,
        name: str,
        *contracts: type[Contract],
        keep: Mapping[type[Contract], Callable[[Any], Any]] | None = None,
        by: Mapping[type[Contract], Callable[[Any, Envelope], str | None]] | None = None,
    ) -> None:
        self.name, self.contracts = name, contracts
        self.keep, self.by = dict(keep or {}), dict(by or {})
        self.checks: dict[str, CaseCheck] = {}
        if strange := (self.keep.keys() | self.by.keys()) - set(contracts):
            names = ", ".join(sorted(contract.__name__ for contract in strange))
            raise DeclarationError(
                f"Cases {name!r} says what to do with {names}; name the class among its classes, too"
            )

    def invariant(self, check: Check) -> Check:
        """Adds a check; its name, with spaces, is what a violation names."""
        _add(self.checks, check, self.name)
        return check

    def key(self, event: Contract, envelope: Envelope) -> str | None:
        """Whose case an event belongs to; `None` for no case."""
        own = self.by.get(type(event))
        return key_of(event) if own is None else own(event, envelope)


class Account(NamedTuple):
    """The sum of all cases for one thing, such as a product, once all is at rest."""

    key: str
    balance: int


class Total:
    """A sum over all cases, by another key: such as the stock of each product, over orders, deliveries and returns.

    - `parts`: for each kind of case, what one adds to which account. A pure function. It sees all events of the case.

    Checks run only at rest: topics have no order, so what goes out may be read before what came in.

    >>> from millstream.declare.contract import Event
    >>> class Moved(Event, key="id"):
    ...     id: str
    ...     product: str
    ...     quantity: int
    >>> moves = Cases("move", Moved)
    >>> stock = Total("product", {moves: lambda move: {one.product: one.quantity for one in move[Moved]}})
    >>> @stock.invariant
    ... def never_negative(product: Account) -> Iterable[str]:
    ...     if product.balance < 0:
    ...         yield f"{-product.balance} more went out than came in"
    """

    def __init__(self, name: str, parts: Mapping[Cases, Callable[[Case], Mapping[str, int]]]) -> None:
        self.name, self.parts = name, dict(parts)
        self.checks: dict[str, Callable[[Account], Iterable[str]]] = {}

    def invariant(self, check: Check) -> Check:
        """Adds a check; its name, with spaces, is what a violation names."""
        _add(self.checks, check, self.name)
        return check


class Causes:
    """Every event of `steps` names a cause (`causationid`), and an event or command of that id exists.

    - `known`: classes that may be causes, and need none themselves.

    Leave out what a timer may lead to: timers are not in the log.
    """

    name = "every step has its cause"

    def __init__(self, *steps: type[Contract], known: Iterable[type[Contract]] = ()) -> None:
        self.steps = frozenset(steps)
        self.contracts = tuple(dict.fromkeys((*steps, *known)))


Invariants: TypeAlias = tuple[Cases | Total | Causes, ...]
"""All that must be true of a system: what `System(invariants="module:attribute")` names."""


def topics_of(invariants: Iterable[Cases | Total | Causes]) -> tuple[Topic, ...]:
    """The topics that have to be read, each once. Raises `DeclarationError` for a class that lives on none."""
    watched = (found for found in invariants if not isinstance(found, Total))
    return tuple(dict.fromkeys(home_of(contract) for found in watched for contract in found.contracts))


def _add(checks: dict[str, Any], check: Callable[..., Any], owner: str) -> None:
    given = getattr(check, "__name__", None)
    if given is None or inspect.iscoroutinefunction(check) or inspect.isasyncgenfunction(check):
        raise DeclarationError(f"{owner!r} has the invariant {check!r}: write a plain function, with a name, by `def`")
    name = given.replace("_", " ")
    if name in checks:
        raise DeclarationError(f"{owner!r} has two invariants named {given}; give one another name")
    checks[name] = check
