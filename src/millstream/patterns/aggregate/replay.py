"""From events to a state: without Kafka, and without an effect."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from millstream.declare import Contract
from millstream.patterns.aggregate.aggregate import Aggregate, rules_of

A = TypeVar("A", bound=Aggregate)


class Version(NamedTuple, Generic[A]):
    """The state of one key after `version` events that changed it."""

    state: A
    version: int = 0


def replay(aggregate: type[A], events: Iterable[Contract], *, since: Version[A] | None = None) -> Version[A]:
    """The state that `events` of one key lead to, from `since` on or from the beginning.

    Decides nothing and says nothing. Events that the aggregate does not evolve are passed over.
    """
    evolutions = rules_of(aggregate).evolutions
    state, version = since or Version(aggregate())
    for event in events:
        if (evolve := evolutions.get(type(event))) is not None:
            state, version = evolve(state, event), version + 1
    return Version(state, version)
