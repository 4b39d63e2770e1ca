"""Which events exist, and which are named as a cause and do not."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import Causes, Fact

SLACK = timedelta(days=1)
"""How much later than its cause an event may be, where causes have been deleted."""


class Knowledge:
    """The ids of all events seen, and the steps whose cause has not been seen yet."""

    def __init__(self, declared: Causes, cut: frozenset[str]) -> None:
        self.name, self.contracts = declared.name, declared.contracts
        self._steps = declared.steps
        self._ids: set[str] = set()
        self._waiting: dict[str, list[tuple[Fact, datetime]]] = {}
        self._without: list[tuple[Fact, datetime]] = []
        self._oldest: dict[str, datetime | None] = dict.fromkeys(cut)

    def note(self, event: Contract, envelope: Envelope, moment: datetime) -> None:
        """Takes one event into account."""
        self._ids.add(envelope.id)
        self._waiting.pop(envelope.id, None)
        if envelope.topic in self._oldest:
            oldest = self._oldest[envelope.topic]
            self._oldest[envelope.topic] = moment if oldest is None else min(oldest, moment)
        if type(event) not in self._steps or envelope.causation_id in self._ids:
            return
        fact = Fact.of(envelope)
        if envelope.causation_id is None:
            self._without.append((fact, moment))
        else:
            self._waiting.setdefault(envelope.causation_id, []).append((fact, moment))

    def missing(self, at_rest: bool, quiet_since: datetime | None) -> Iterator[tuple[Fact, str | None]]:
        """The steps that name no cause; and, of what is at rest, those whose cause does not exist."""
        yield from ((fact, None) for fact, _ in self._without)
        for cause, steps in self._waiting.items():
            for fact, moment in steps:
                rests = at_rest or (quiet_since is not None and moment < quiet_since)
                if rests and not self._excused(moment):
                    yield fact, cause

    def _excused(self, moment: datetime) -> bool:
        return any(oldest is None or moment < oldest + SLACK for oldest in self._oldest.values())
