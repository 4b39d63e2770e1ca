"""The ids of events that exist, and of those that are named as a cause and do not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import Causes, Fact
from millstream.operate.verify.spill import Heap, Spill

SLACK = timedelta(days=1)
"""The time by which an event may be later than its cause, where causes have been deleted."""


class Knowledge:
    """The ids of all events seen, and the steps whose cause has not been seen yet."""

    def __init__(self, declared: Causes, cut: frozenset[str], spill: Spill, number: int) -> None:
        self.name, self.contracts = declared.name, declared.contracts
        self._steps, self._spill = declared.steps, spill
        self._without: list[tuple[Fact, datetime]] = []
        self._oldest: dict[str, datetime | None] = dict.fromkeys(cut)
        self._ids = f"ids_{number}"
        self._new_ids = Heap(spill, f"new_ids_{number}", "id")
        self._waiting = Heap(spill, f"waiting_{number}", "cause, topic, part, at, type, id, moment")
        spill.db.execute(f"CREATE TABLE {self._ids} (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def note(self, event: Contract, envelope: Envelope, moment: datetime) -> None:
        """Takes one event into account."""
        self._new_ids.add((envelope.id,))
        if envelope.topic in self._oldest:
            oldest = self._oldest[envelope.topic]
            self._oldest[envelope.topic] = moment if oldest is None else min(oldest, moment)
        if type(event) in self._steps:
            fact = Fact.of(envelope)
            if envelope.causation_id is None:
                self._without.append((fact, moment))
            else:
                self._waiting.add((envelope.causation_id, *fact[:5], moment.timestamp()))

    def missing(self, at_rest: bool, quiet_since: datetime | None) -> Iterator[tuple[Fact, str | None]]:
        """The steps that name no cause; and, of what is at rest, those whose cause does not exist."""
        self._settle()
        yield from ((fact, None) for fact, _ in self._without)
        rows = self._spill.db.execute(f"SELECT * FROM {self._waiting.name} ORDER BY rowid")  # noqa: S608 ours
        for cause, topic, partition, offset, type_name, id, seconds in rows:
            moment = datetime.fromtimestamp(seconds, UTC)
            rests = at_rest or (quiet_since is not None and moment < quiet_since)
            if rests and not self._excused(moment):
                yield Fact(topic, partition, offset, type_name, id), cause

    def _settle(self) -> None:
        if self._new_ids.written():
            # In the order of the table: pages are written once.
            sort_in = f"INSERT OR IGNORE INTO {self._ids} SELECT id FROM {self._new_ids.name} ORDER BY id"  # noqa: S608 ours
            self._spill.db.execute(sort_in)
            self._new_ids.clear()
        if self._waiting.written():
            self._spill.db.execute(f"DELETE FROM {self._waiting.name} WHERE cause IN {self._ids}")  # noqa: S608 ours

    def _excused(self, moment: datetime) -> bool:
        return any(oldest is None or moment < oldest + SLACK for oldest in self._oldest.values())
