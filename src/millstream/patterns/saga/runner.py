"""A saga as a handler: what is heard is decided on, kept, and answered with commands and events."""

from collections.abc import Sequence
from dataclasses import dataclass

from msgspec.structs import fields

from millstream.contracts.described import describe
from millstream.declare import Contract, Envelope, State, Timer, Timers, full_name, key_of
from millstream.declare.personal import is_personal
from millstream.patterns.saga.decide import Act, Next, Outcome, Plan, begin, forget, hear, overdue
from millstream.patterns.saga.state import SagaState
from millstream.patterns.saga.story import Recipe, Story
from millstream.telemetry import get_logger
from millstream.telemetry.metrics import SAGAS

_log = get_logger(__name__)


class Overdue(Timer, key="saga_id"):
    """An answer is awaited no longer. Each saga has a class of its own, so that they set their timers apart."""

    saga_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class Recipes:
    begins: tuple[Recipe, ...]
    asks: tuple[Recipe, ...]
    undos: tuple[Recipe | None, ...]
    completes: tuple[Recipe, ...]
    cancels: tuple[Recipe, ...]

    def of(self, act: Act, step: int) -> tuple[Recipe, ...]:
        match act:
            case Act.ASK:
                return (self.asks[step],)
            case Act.UNDO:
                undo = self.undos[step]
                assert undo is not None  # decisions refuse to undo without
                return (undo,)
            case Act.COMPLETE:
                return self.completes
            case Act.CANCEL:
                return self.cancels

    def contracts(self) -> tuple[type[Contract], ...]:
        undos = tuple(undo for undo in self.undos if undo is not None)
        every = (*self.begins, *self.asks, *undos, *self.completes, *self.cancels)
        return tuple(dict.fromkeys(made.contract for made in every))


class Runner:
    """A saga as a handler: decides, keeps the state, says what follows, and sets the timer of the next answer."""

    def __init__(
        self,
        service: str,
        name: str,
        plan: Plan,
        starts: type[Contract],
        outcomes: dict[type[Contract], tuple[int, Outcome]],
        recipes: Recipes,
    ) -> None:
        self.outcomes = outcomes
        self.produces = recipes.contracts()
        self.timer = timer_of(name)
        self._say_why = frozenset(filter(_says_why, outcomes))
        self._service, self._name, self._plan, self._starts, self._recipes = service, name, plan, starts, recipes

    def __call__(
        self, event: Contract, sagas: State[SagaState], timers: Timers, envelope: Envelope
    ) -> Sequence[Contract]:
        id = key_of(event)
        before = sagas.get(id)
        found = self._decide(id, event, before, envelope)
        if found is None:
            return ()
        sagas.put(id, forget(self._plan, found.state))
        if before is None or found.state.turn != before.turn:
            if found.wait is None:
                timers.cancel(self.timer, id)
            else:
                timers.set(self.timer(saga_id=id, turn=found.state.turn), after=found.wait)
        self._tell(id, before, found.state)
        story = Story(id, found.state.known, found.state.reason)
        said = [made for action in found.actions for made in self._recipes.of(action.act, action.step)]
        return [made.make(story) for made in (*(self._recipes.begins if before is None else ()), *said)]

    def _decide(self, id: str, event: Contract, state: SagaState | None, envelope: Envelope) -> Next | None:
        contract = type(event)
        if contract is self._starts:
            if state is not None:
                return None
            return begin(self._plan, _stored_fields(event), envelope.time, envelope.correlation_id)
        if state is None:
            # Its commands go out together with its state: an answer to what was never asked is no part of it.
            SAGAS.labels(self._service, self._name, "unknown").inc()
            _log.info("saga unknown", code="saga_unknown", saga=self._name, id=id, type=contract.__name__)
            return None
        if isinstance(event, Overdue):
            return overdue(self._plan, state, event.turn, envelope.time)
        step, outcome = self.outcomes[contract]
        reason = getattr(event, "reason", None) if contract in self._say_why else None
        detail = reason if isinstance(reason, str) else None
        return hear(self._plan, state, step, outcome, envelope.time, reply=_stored_fields(event), detail=detail)

    def _tell(self, id: str, before: SagaState | None, after: SagaState) -> None:
        if before is not None and before.shown == after.shown:
            return
        SAGAS.labels(self._service, self._name, after.shown).inc()
        if after.parked:
            _log.warning(
                "saga parked",
                code="saga_parked",
                saga=self._name,
                id=id,
                step=after.steps[after.current or 0].name,
                remedy=f"millstream sagas show {id}, and once the trouble is over, millstream sagas retry {id}",
            )


def _stored_fields(event: Contract) -> dict[str, bytes]:
    return {full_name(type(event)): describe(event)}


def _says_why(contract: type[Contract]) -> bool:
    """Return whether its reason may be shown, as all of a saga's is that is not what its events said."""
    return any(field.name == "reason" and not is_personal(field.type) for field in fields(contract))


def timer_of(name: str) -> type[Overdue]:
    """The timer of the answers that the saga of this name awaits."""

    class AnswerOverdue(Overdue, namespace=f"saga.{name}"): ...

    return AnswerOverdue
