"""The cases of one kind: what is kept of each key, and what its checks say of it."""

from bisect import insort
from collections.abc import Iterator
from datetime import datetime

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import MOST_KEPT, Case, Cases, Fact
from millstream.operate.verify.calling import Broken, filed, sentences
from millstream.operate.verify.findings import MOST_EVIDENCE, Unjudged, Violation, named


class Entry:
    """What is kept of one key. `judged`: at rest or not, when it was judged last; `found`: with which result."""

    __slots__ = ("facts", "found", "judged", "last")

    def __init__(self, moment: datetime) -> None:
        self.facts: dict[type[Contract], tuple[int, list[Fact]]] = {}
        self.last = moment
        self.judged: bool | None = None
        self.found: tuple[Violation | Unjudged, ...] = ()


class CaseFile:
    """All cases of one kind.

    - `whole`: keeps every event, for a sum over the first few of each case would be another sum.
    """

    def __init__(self, declared: Cases, *, whole: bool) -> None:
        self._declared = declared
        self._most = None if whole else MOST_KEPT
        self.contracts = declared.contracts
        self.entries: dict[str, Entry] = {}
        self.broken: Broken | None = None
        """Why an event could not be filed, where that happened: something is missing of some case, then."""

    def note(self, event: Contract, envelope: Envelope, moment: datetime) -> None:
        """Takes one event into account."""
        try:
            found = filed(self._declared, event, envelope)
        except Broken as broken:
            self.broken = self.broken or broken.with_traceback(None)
            return
        if found is None:
            return
        key, fact = found
        if (entry := self.entries.get(key)) is None:
            entry = self.entries[key] = Entry(moment)
        entry.last, entry.judged = max(entry.last, moment), None
        count, facts = entry.facts.get(type(event), (0, []))
        # By their places, so that it makes no difference in which order they came.
        insort(facts, fact, key=_place)
        if self._most is not None:
            del facts[self._most :]
        entry.facts[type(event)] = count + 1, facts

    def findings(self, at_rest: bool, quiet_since: datetime | None) -> Iterator[Violation | Unjudged]:
        """What its checks say."""
        if (broken := self.broken) is not None:
            for name in self._declared.checks:
                yield Unjudged(named(self._declared, name), broken.key, str(broken), broken.evidence)
        for key, entry in self.entries.items():
            # Nobody knows what is missing of which case where an event could not be filed; what is too much, is.
            rests = self.broken is None and (at_rest or (quiet_since is not None and entry.last < quiet_since))
            if entry.judged is not rests:
                entry.judged, entry.found = rests, tuple(self._judge(key, entry, rests))
            yield from entry.found

    def cases(self) -> Iterator[Case]:
        """Each at rest, with all that is kept of it."""
        return (Case(key, entry.facts, at_rest=True, most=None) for key, entry in self.entries.items())

    def _judge(self, key: str, entry: Entry, rests: bool) -> Iterator[Violation | Unjudged]:
        for check_name, check in self._declared.checks.items():
            case, name = Case(key, entry.facts, at_rest=rests), named(self._declared, check_name)
            try:
                for sentence in sentences(check, case, self.contracts):
                    yield Violation(name, key, sentence, case.evidence[:MOST_EVIDENCE])
            except Broken as broken:
                kept = tuple(fact for _, facts in entry.facts.values() for fact in facts)
                yield Unjudged(name, key, str(broken), (case.evidence or kept)[:MOST_EVIDENCE])


def _place(fact: Fact) -> tuple[str, int, int]:
    return fact[:3]
