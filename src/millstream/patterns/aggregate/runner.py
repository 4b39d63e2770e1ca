"""An aggregate as a handler: decide, evolve, keep, say."""

from collections.abc import Iterable
from typing import Any

from millstream.contracts import derived_id
from millstream.declare import Contract, Envelope, State, Store, key_of
from millstream.errors import Rejected
from millstream.patterns.aggregate.rules import Decision, Rules


class Runner:
    """Called with each command. What it returns and what it keeps commit together.

    - `maker`: what ids of its events are derived from: the service and the handler.
    """

    def __init__(self, aggregate: type[Any], rules: Rules, store: Store[Any], maker: str) -> None:
        self.aggregate, self._rules, self._store, self._maker = aggregate, rules, store, maker

    def __call__(self, command: Contract, snapshots: State[Any], envelope: Envelope) -> list[Contract]:
        decision, key = self._rules.decisions[type(command)], key_of(command)
        before = snapshots.get(key)
        state, version = (self.aggregate(), 0) if before is None else (before.state, before.version)
        expected = None if decision.expects is None else getattr(command, decision.expects)
        if expected is not None and expected != version:
            return [_conflict(decision, command, key, expected, version)]
        events = _as_list(decision.decide(state, command, envelope))
        last: int | None = None
        for ordinal, event in enumerate(events):
            self._check(decision, key, event)
            if (evolve := self._rules.evolutions.get(type(event))) is not None:  # pyright: ignore[reportArgumentType] a class that is none of an event's is absent
                state, version, last = evolve(state, event), version + 1, ordinal
        if last is not None:
            last_id = derived_id(envelope.id, self._maker, last)
            snapshots.put(key, self._store.value(state=state, version=version, last_event_id=last_id))
        return events

    def _check(self, decision: Decision, key: str, event: Contract) -> None:
        """Events that would reach the log and not the state, or the state of another key, must not be said."""
        where = f"{self.aggregate.__name__}.{decision.name}"
        if type(event) not in decision.produces:
            raise Rejected(
                "undeclared_event",
                f"{where} returned {type(event).__name__}; add it to the return annotation, and evolve it",
            )
        if key_of(event) != key:
            raise Rejected(
                "foreign_key",
                f"{where} was asked about {key!r} and returned {type(event).__name__} of {key_of(event)!r}; "
                "an aggregate speaks for its own key: let the other one be sent a command",
            )


def _conflict(decision: Decision, command: Contract, key: str, expected: int, version: int) -> Contract:
    if decision.conflict is None:
        raise Rejected("version_conflict", f"{key!r} is at version {version}, and {expected} was expected")
    return decision.conflict(command, version)


def _as_list(decided: Contract | Iterable[Contract] | None) -> list[Contract]:
    if decided is None:
        return []
    return [decided] if isinstance(decided, Contract) else list(decided)
