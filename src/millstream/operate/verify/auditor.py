"""The auditor: takes events in any order between partitions, and says which invariants they violate. No I/O."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import MOST_KEPT, Account, Case, Cases, Causes, Fact, Invariants, Total
from millstream.errors import DeclarationError
from millstream.operate.verify.causes import Knowledge

MOST_EVIDENCE = 12
"""Facts that a violation shows."""


class Violation(NamedTuple):
    """What is not as it must be: of which thing, in a sentence, and the events that prove it."""

    invariant: str
    key: str
    sentence: str
    evidence: tuple[Fact, ...] = ()

    def __str__(self) -> str:
        return f"{self.invariant}: {self.key}: {self.sentence}"


class Auditor:
    """Keeps a little of each event, and judges when it is asked.

    - `cut`: topics whose oldest records are gone, so that a cause may be gone, too.

    >>> audit = Auditor(())
    >>> list(audit.violations(at_rest=True))
    []
    """

    def __init__(self, invariants: Invariants, *, cut: Iterable[str] = ()) -> None:
        self._next: dict[tuple[str, int], int] = {}
        self._files = {found: _File(found) for found in invariants if isinstance(found, Cases)}
        self._totals = [found for found in invariants if isinstance(found, Total)]
        self._causes = [Knowledge(found, frozenset(cut)) for found in invariants if isinstance(found, Causes)]
        self._watching: defaultdict[type[Contract], list[_File | Knowledge]] = defaultdict(list)
        for watcher in (*self._files.values(), *self._causes):
            for contract in watcher.contracts:
                self._watching[contract].append(watcher)
        self._last: datetime | None = None
        self.events = 0
        """How many were seen."""
        for total in self._totals:
            if missing := [part.name for part in total.parts if part not in self._files]:
                raise DeclarationError(
                    f"Total {total.name!r} sums up {missing[0]!r}, which is not among the invariants: put it there, too"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All invariants, as violations name them."""
        owners = (*self._files, *self._totals)
        return (*(_named(owner, name) for owner in owners for name in owner.checks), *(c.name for c in self._causes))

    @property
    def cases(self) -> int:
        """How many things it keeps something of."""
        return sum(len(file.entries) for file in self._files.values())

    def under_way(self, quiet_since: datetime) -> int:
        """How many of them had an event since then."""
        return sum(entry.last >= quiet_since for file in self._files.values() for entry in file.entries.values())

    def see(self, event: Contract, envelope: Envelope) -> bool:
        """Takes one event into account; false where it was seen before.

        The records of one partition have to come in their order; partitions may come in any.
        """
        place = envelope.topic, envelope.partition
        if envelope.offset < self._next.get(place, 0):
            return False
        self._next[place] = envelope.offset + 1
        self.events += 1
        self._last = envelope.time if self._last is None else max(self._last, envelope.time)
        for watcher in self._watching.get(type(event), ()):
            watcher.note(event, envelope)
        return True

    def violations(self, *, at_rest: bool = False, quiet_since: datetime | None = None) -> Iterator[Violation]:
        """Everything that is wrong.

        - `at_rest`: the log has come to its end, so that what is missing now counts. Without it, only what no later
          event can mend.
        - `quiet_since`: what had no event since then is at rest, though other things are not.
        """
        for file in self._files.values():
            yield from file.violations(at_rest, quiet_since)
        if at_rest or (quiet_since is not None and self._last is not None and self._last < quiet_since):
            for total in self._totals:
                yield from self._over_all(total)
        for knowledge in self._causes:
            for fact, cause in knowledge.missing(at_rest, quiet_since):
                says = f"its cause {cause} is not there" if cause else "it names no cause"
                yield Violation(knowledge.name, fact.id, f"{fact.type}: {says}", (fact,))

    def _over_all(self, total: Total) -> Iterator[Violation]:
        balances: defaultdict[str, int] = defaultdict(int)
        for part, amounts in total.parts.items():
            for case in self._files[part].cases():
                for account, amount in amounts(case).items():
                    balances[account] += amount
        found = {
            (account, name): sentences
            for account, balance in sorted(balances.items())
            for name, check in total.checks.items()
            if (sentences := list(check(Account(account, balance))))
        }
        evidence = self._evidence(total, {account for account, _ in found}) if found else {}
        for (account, name), sentences in found.items():
            for sentence in sentences:
                yield Violation(_named(total, name), account, sentence, evidence.get(account, ()))

    def _evidence(self, total: Total, accounts: set[str]) -> dict[str, tuple[Fact, ...]]:
        """What moved these accounts, the largest amounts first. Worked out only where something is wrong."""
        moves: defaultdict[str, list[tuple[int, Case]]] = defaultdict(list)
        for part, amounts in total.parts.items():
            for case in self._files[part].cases():
                for account, amount in amounts(case).items():
                    if amount and account in accounts:
                        insort(moves[account], (-abs(amount), case), key=_size)
                        del moves[account][MOST_EVIDENCE:]
        return {
            account: tuple(fact for _, case in found for fact in case.evidence)[:MOST_EVIDENCE]
            for account, found in moves.items()
        }


def _size(move: tuple[int, Case]) -> tuple[int, str]:
    return move[0], move[1].key


class _Entry:
    """What is kept of one key. `judged`: at rest or not, when it was judged last; `found`: with which result."""

    __slots__ = ("facts", "found", "judged", "last")

    def __init__(self, moment: datetime) -> None:
        self.facts: dict[type[Contract], tuple[int, list[Fact]]] = {}
        self.last = moment
        self.judged: bool | None = None
        self.found: tuple[Violation, ...] = ()


class _File:
    """The cases of one kind."""

    def __init__(self, declared: Cases) -> None:
        self.contracts = declared.contracts
        self._declared = declared
        self.entries: dict[str, _Entry] = {}

    def note(self, event: Contract, envelope: Envelope) -> None:
        kind, key = type(event), self._declared.key(event, envelope)
        if key is None:
            return
        if (entry := self.entries.get(key)) is None:
            entry = self.entries[key] = _Entry(envelope.time)
        entry.last, entry.judged = max(entry.last, envelope.time), None
        count, facts = entry.facts.get(kind, (0, []))
        keep = self._declared.keep.get(kind)
        # The first ones by their place, so that it makes no difference in which order they came.
        insort(facts, Fact.of(envelope, event if keep is None else keep(event)), key=_place)
        del facts[MOST_KEPT:]
        entry.facts[kind] = count + 1, facts

    def violations(self, at_rest: bool, quiet_since: datetime | None) -> Iterator[Violation]:
        for key, entry in self.entries.items():
            rests = at_rest or (quiet_since is not None and entry.last < quiet_since)
            if entry.judged is not rests:
                entry.judged, entry.found = rests, tuple(self._judge(key, entry, rests))
            yield from entry.found

    def cases(self) -> Iterator[Case]:
        return (Case(key, entry.facts, at_rest=True) for key, entry in self.entries.items())

    def _judge(self, key: str, entry: _Entry, rests: bool) -> Iterator[Violation]:
        for name, check in self._declared.checks.items():
            case = Case(key, entry.facts, at_rest=rests)
            for sentence in check(case):
                yield Violation(_named(self._declared, name), key, sentence, case.evidence[:MOST_EVIDENCE])


def _place(fact: Fact) -> tuple[str, int, int]:
    return fact[:3]


def _named(owner: Cases | Total, check: str) -> str:
    return f"{owner.name}: {check}"
