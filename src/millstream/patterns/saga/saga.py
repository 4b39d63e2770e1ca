"""The declaration of a saga, and the handler that it becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from millstream.contracts.described import names_read_as
from millstream.declare import (
    Backoff,
    Contract,
    Handler,
    Kind,
    Need,
    Parameter,
    Retry,
    Service,
    Store,
    exponential,
    home_of,
    hours,
    park_key,
)
from millstream.declare.checks import check_event_classes, check_name
from millstream.declare.contract import former_names
from millstream.errors import DeclarationError
from millstream.patterns.saga.decide import Outcome, Plan, Planned
from millstream.patterns.saga.runner import Recipes, Runner
from millstream.patterns.saga.state import SagaState
from millstream.patterns.saga.story import Made, Recipe, addressed, recipe

_LONG: Final = hours(1)


@dataclass(frozen=True, slots=True)
class Undo:
    """The undoing of a step. It is asked for until it is confirmed.

    - `command`: a class whose fields are filled by name, or a function `(Story) -> command`.
    - `done`: the event that confirms it; also where there was nothing to undo.
    - `failed`: the event that says that it cannot be done now.
    - `within`: how long to wait for either before it is asked for again.
    """

    command: Made
    done: type[Contract]
    failed: type[Contract] | None = None
    within: timedelta = _LONG


@dataclass(frozen=True, slots=True)
class _SagaStep:
    command: Made
    done: type[Contract]
    failed: type[Contract] | None
    within: timedelta
    undo: Undo | None

    @property
    def name(self) -> str:
        return getattr(self.command, "__name__", repr(self.command))

    def former_names(self) -> tuple[str, ...]:
        """The names of the step while its command had another: running sagas go by them."""
        if not isinstance(self.command, type):
            return ()
        return tuple(name.rpartition(".")[2] for name in former_names(self.command))

    def outcomes(self) -> dict[Outcome, type[Contract] | None]:
        undo = self.undo
        found = {Outcome.DONE: self.done, Outcome.FAILED: self.failed}
        return found if undo is None else found | {Outcome.UNDONE: undo.done, Outcome.UNDO_FAILED: undo.failed}


class Saga:
    """Steps that other services carry out in order, each on a command and answered by an event, or else undone.

    - `name`: unique in its service.
    - `starts`: the event or command that starts one; its key is the saga's id, and the key of every command and
      answer. A second one of the same key starts nothing.
    - `attempts`: how often a command that must succeed is sent: an undo, or a step without one. Then the saga is
      parked, for a person to see.
    - `backoff`: seconds from the refusal of an undo to its next attempt.

    A step that fails cancels the saga, and so does one with an `undo` that is not answered in time. What was done is
    undone in reverse order, each confirmed before the next; a step that was not answered is undone as well. A step
    without `undo` cannot be taken back: where it is not answered it is asked for again, and after it only steps may
    come that cannot fail.

    >>> from millstream.declare import Command, Event, Topic
    >>> class Book(Command, key="trip"):
    ...     trip: str
    >>> class BookFlight(Book): ...
    >>> class Fly(Event, key="trip"):
    ...     trip: str
    >>> class Booked(Fly): ...
    >>> class Flown(Fly): ...
    >>> topics = Topic("trips", Book, BookFlight, Booked, Flown, Fly)
    >>> trips = Saga("trips", starts=Book).step(BookFlight, done=Booked).completes(Flown)
    >>> service = Service("travel")
    >>> trips.mount(service)
    >>> [contract.__name__ for contract in service.produced()]
    ['BookFlight', 'Flown']
    """

    def __init__(self, name: str, *, starts: type[Contract], attempts: int = 5, backoff: Backoff | None = None) -> None:
        if attempts < 1:
            raise DeclarationError(f"Saga {name!r}: attempts={attempts} would never send a command; at least 1")
        check_name(f"Saga {name!r}", name)
        check_event_classes(f"Saga {name!r}: starts=", (starts,), timers=False)
        self.name = name
        self.starts = starts
        self.store = Store(f"{name}-saga", SagaState)
        self._mounted: str | None = None
        self._attempts = attempts
        self._backoff = backoff or exponential(1.0, limit=60)
        self._steps: list[_SagaStep] = []
        self._begins: tuple[Made, ...] = ()
        self._completes: tuple[Made, ...] = ()
        self._cancels: tuple[Made, ...] = ()

    def begins(self, *events: Made) -> Self:
        """Publish these events when it starts: classes, filled by name, or functions `(Story) -> event`."""
        self._check_open("begins")
        self._begins = events
        return self

    def step(
        self,
        command: Made,
        *,
        done: type[Contract],
        failed: type[Contract] | None = None,
        undo: Undo | None = None,
        within: timedelta = _LONG,
    ) -> Self:
        """Adds a step.

        - `command`: a class whose fields are filled by name, from the replies so far (the newest first) and the
          starting event; or a function `(Story) -> command`.
        - `done`, `failed`: the events that answer it.
        - `within`: how long to wait for one of them.

        Raises `DeclarationError` for a step that cannot work.
        """
        self._check_open("step")
        step = _SagaStep(command, done, failed, within, undo)
        if undo is not None and not isinstance(undo, Undo):  # pyright: ignore[reportUnnecessaryIsInstance] users without a type checker
            name = getattr(undo, "__name__", repr(undo))
            raise DeclarationError(
                f"{self._where(step)}: undo={name} has no outcome, so nothing would tell when the step before it may "
                f"be undone: write undo=Undo({name}, done=TheConfirmation)"
            )
        for given in (within, _LONG if undo is None else undo.within):
            _check_within(self._where(step), given)
        answers = [answer for answer in step.outcomes().values() if answer is not None]
        check_event_classes(f"{self._where(step)}: its answers", answers, timers=False)
        self._steps.append(step)
        return self

    def completes(self, *events: Made) -> Self:
        """Publish these events when all steps are done."""
        self._check_open("completes")
        self._completes = events
        return self

    def cancels(self, *events: Made) -> Self:
        """Publish these events when all is undone; a field `reason` is filled with why."""
        self._check_open("cancels")
        self._cancels = events
        return self

    def mount(self, service: Service) -> None:
        """Lets `service` run it, as one of its Kafka handlers.

        Raises `DeclarationError` for what cannot work, and for one that is mounted already.
        """
        self._check_mount(service)
        self._check_steps()
        outcomes, recipes = self._outcomes(), self._recipes()
        runner = Runner(service.name, self.name, self._plan(recipes), self.starts, outcomes, recipes)
        parameters = [Parameter("event", Need.EVENT), Parameter("sagas", Need.STATE, self.store)]
        service.add(
            Handler(
                name=f"{self.name}_saga",
                kind=Kind.KAFKA,
                function=runner,
                parameters=(*parameters, Parameter("timers", Need.TIMERS), Parameter("envelope", Need.ENVELOPE)),
                consumes=(self.starts, *runner.outcomes, runner.timer),
                produces=runner.produces,
                # Its timers and its topic's later events must not overtake what could not be handled.
                retry=Retry(attempts=10, backoff=exponential(0.2)),
                on_failure=park_key,
            )
        )
        self._mounted = service.name

    def _where(self, step: _SagaStep) -> str:
        return f"Saga {self.name!r}, step {step.name}"

    def _check_open(self, what: str) -> None:
        if self._mounted is not None:
            raise DeclarationError(
                f"Saga {self.name!r}: .{what}(…) comes after it was mounted on {self._mounted}, and would change "
                "nothing: mount it when it is complete"
            )

    def _check_mount(self, service: Service) -> None:
        if self._mounted is not None:
            raise DeclarationError(
                f"Saga {self.name!r} is mounted on {self._mounted} already: both would send every command. Mount it "
                "once, on the service that is responsible for the whole"
            )
        if service.delivery != "exactly_once":
            raise DeclarationError(
                f'Saga {self.name!r}: {service.name} has delivery="{service.delivery}", and its state must commit with '
                "its commands; mount it on a service with exactly-once delivery"
            )

    def _check_steps(self) -> None:
        if not self._steps:
            raise DeclarationError(f"Saga {self.name!r} has no step: add .step(TheCommand, done=TheAnswer)")
        final: _SagaStep | None = None
        for step in self._steps:
            if final is not None and (step.failed is not None or step.undo is not None):
                raise DeclarationError(
                    f"{self._where(step)} can be cancelled, and {final.name} before it could not be undone then: "
                    f"give {final.name} an undo=, or put it last"
                )
            final = final or (step if step.undo is None else None)
        if not self._cancels and any(step.failed is not None or step.undo is not None for step in self._steps):
            raise DeclarationError(f"Saga {self.name!r} can be cancelled and says nothing then: add .cancels(TheEvent)")
        if not self._completes:
            raise DeclarationError(f"Saga {self.name!r} says nothing when it is done: add .completes(TheEvent)")

    def _outcomes(self) -> dict[type[Contract], tuple[int, Outcome]]:
        home_of(self.starts)
        found: dict[type[Contract], tuple[int, Outcome]] = {}
        for index, step in enumerate(self._steps):
            for outcome, contract in step.outcomes().items():
                if contract is None:
                    continue
                home_of(contract)
                if contract in found or contract is self.starts:
                    raise DeclarationError(
                        f"{self._where(step)}: {contract.__name__} says {outcome.value}, and something else already in "
                        "this saga; give each answer a class of its own"
                    )
                found[contract] = index, outcome
        return found

    def _plan(self, recipes: Recipes) -> Plan:
        planned = [self._planned(step, undo) for step, undo in zip(self._steps, recipes.undos, strict=True)]
        if len({step.name for step in planned}) < len(planned):
            raise DeclarationError(f"Saga {self.name!r} has two steps of one command; give each a command of its own")
        return Plan(self.name, tuple(planned), self._attempts, self._backoff)

    def _planned(self, step: _SagaStep, undo: Recipe | None) -> Planned:
        if step.undo is None or undo is None:
            return Planned(step.name, step.within, former=step.former_names())
        needs = undo.needs
        if needs is None:
            needs = {self.starts, *(other.done for other in self._steps)}
        names = frozenset(name for contract in needs for name in names_read_as(contract))
        return Planned(step.name, step.within, step.undo.within, names, step.former_names())

    def _recipes(self) -> Recipes:
        known: list[type[Contract]] = [self.starts]
        begins = _all(f"Saga {self.name!r}, begins", self._begins, known)
        cancels = _all(f"Saga {self.name!r}, cancels", self._cancels, known, reason=True)
        asks: list[Recipe] = []
        undos: list[Recipe | None] = []
        for step in self._steps:
            where, undo = self._where(step), step.undo
            asks.append(addressed(where, recipe(where, step.command, known)))
            # Of a step that is not answered, no more is known than before it.
            where = f"{where}, undo"
            undos.append(undo and addressed(where, recipe(where, undo.command, known, reason=True)))
            known.append(step.done)
        return Recipes(
            begins, tuple(asks), tuple(undos), _all(f"Saga {self.name!r}, completes", self._completes, known), cancels
        )


def _check_within(where: str, within: Any) -> None:
    if not isinstance(within, timedelta):
        number = within if isinstance(within, int | float) else "…"
        raise DeclarationError(f"{where}: within={within!r} is no timedelta: write within=seconds({number})")
    if within <= timedelta(0):
        raise DeclarationError(f"{where}: within= leaves no time to answer")


def _all(
    where: str, made: Sequence[Made], known: Sequence[type[Contract]], *, reason: bool = False
) -> tuple[Recipe, ...]:
    return tuple(recipe(where, one, known, reason=reason) for one in made)
