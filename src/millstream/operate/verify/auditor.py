"""The auditor: takes events in any order between partitions, and says which invariants they violate. No I/O."""

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import Account, Case, Cases, Causes, Fact, Invariants, Total
from millstream.errors import DeclarationError
from millstream.operate.verify.calling import Broken, amounts, sentences
from millstream.operate.verify.causes import Knowledge
from millstream.operate.verify.filing import CaseFile
from millstream.operate.verify.findings import MAX_EVIDENCE, Unjudged, Violation, named
from millstream.operate.verify.spill import Spill


class Auditor:
    """Keeps a little of each event, on disk where it is much, and judges when it is asked.

    - `cut`: topics whose oldest records are gone, so that a cause may be gone, too.

    >>> audit = Auditor(())
    >>> list(audit.violations(at_rest=True))
    []
    """

    def __init__(self, invariants: Invariants, *, cut: Iterable[str] = ()) -> None:
        self._next: dict[tuple[str, int], int] = {}
        self._totals = [found for found in invariants if isinstance(found, Total)]
        summed = {part for total in self._totals for part in total.parts}
        spill = Spill()
        self._files = {
            found: CaseFile(found, spill, number, whole=found in summed)
            for number, found in enumerate(invariants)
            if isinstance(found, Cases)
        }
        self._causes = [
            Knowledge(found, frozenset(cut), spill, number)
            for number, found in enumerate(invariants)
            if isinstance(found, Causes)
        ]
        self._summed: tuple[int, list[Violation | Unjudged]] | None = None
        self._watching: defaultdict[type[Contract], list[CaseFile | Knowledge]] = defaultdict(list)
        for watcher in (*self._files.values(), *self._causes):
            for contract in watcher.contracts:
                self._watching[contract].append(watcher)
        self._last: datetime | None = None
        self.events = 0
        """The number of events that were seen."""
        for total in self._totals:
            if missing := [part.name for part in total.parts if part not in self._files]:
                raise DeclarationError(
                    f"Total {total.name!r} sums up {missing[0]!r}, which is not among the invariants: put it there, too"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All invariants, as violations name them."""
        owners = (*self._files, *self._totals)
        return (*(named(owner, name) for owner in owners for name in owner.checks), *(c.name for c in self._causes))

    @property
    def cases(self) -> int:
        """The number of cases that it keeps something of."""
        return sum(len(file) for file in self._files.values())

    def under_way(self, quiet_since: datetime) -> int:
        """Return the number of cases that had an event since then."""
        return sum(file.since(quiet_since) for file in self._files.values())

    def see(self, event: Contract, envelope: Envelope, moment: datetime | None = None) -> bool:
        """Takes one event into account; false where it was seen before.

        The records of one partition have to come in their order; partitions may come in any.

        - `moment`: when it happened, where its own time cannot be right. Quiet is what had no event since then.
        """
        place = envelope.topic, envelope.partition
        if envelope.offset < self._next.get(place, 0):
            return False
        self._next[place] = envelope.offset + 1
        self.events += 1
        when = envelope.time if moment is None else moment
        self._last = when if self._last is None else max(self._last, when)
        for watcher in self._watching.get(type(event), ()):
            watcher.note(event, envelope, when)
        return True

    def violations(self, *, at_rest: bool = False, quiet_since: datetime | None = None) -> Iterator[Violation]:
        """Yield everything that is wrong.

        - `at_rest`: the log has come to its end, so that what is missing now counts. Without it, only what no later
          event can mend.
        - `quiet_since`: what had no event since then is at rest, though other things are not.

        Raises `DeclarationError` for an invariant that is itself broken.
        """
        for found in self.findings(at_rest=at_rest, quiet_since=quiet_since):
            if isinstance(found, Unjudged):
                raise DeclarationError(str(found))
            yield found

    def findings(self, *, at_rest: bool = False, quiet_since: datetime | None = None) -> Iterator[Violation | Unjudged]:
        """Yield everything that is wrong, as `violations` does, and everything that cannot be judged."""
        for file in self._files.values():
            yield from file.findings(at_rest, quiet_since)
        if at_rest or (quiet_since is not None and not self.waiting(quiet_since)):
            if self._summed is None or self._summed[0] != self.events:
                self._summed = self.events, [found for total in self._totals for found in self._over_all(total)]
            yield from self._summed[1]
        for knowledge in self._causes:
            for fact, cause in knowledge.missing(at_rest, quiet_since):
                says = f"its cause {cause} is not there" if cause else "it names no cause"
                yield Violation(knowledge.name, fact.id, f"{fact.type}: {says}", (fact,))

    def waiting(self, quiet_since: datetime) -> tuple[str, ...]:
        """The invariants of totals, where any event happened since then: they are judged when all is quiet."""
        if self._last is None or self._last < quiet_since:
            return ()
        return tuple(named(total, name) for total in self._totals for name in total.checks)

    def _over_all(self, total: Total) -> list[Violation | Unjudged]:
        try:
            return self._of_accounts(total)
        except Broken as broken:
            return [Unjudged(named(total, name), broken.key, str(broken), broken.evidence) for name in total.checks]

    def _of_accounts(self, total: Total) -> list[Violation | Unjudged]:
        """Return the findings on each account. Raises `Broken` where its contents are not known."""
        contracts = [contract for part in total.parts for contract in part.contracts]
        balances: defaultdict[str, int] = defaultdict(int)
        for _, account, amount in self._moves(total):
            balances[account] += amount
        found: list[Violation | Unjudged] = []
        for account, balance in sorted(balances.items()):
            for name, check in total.checks.items():
                try:
                    said = sentences(check, Account(account, balance), contracts)
                    found.extend(Violation(named(total, name), account, sentence) for sentence in said)
                except Broken as broken:
                    found.append(Unjudged(named(total, name), account, str(broken)))
        evidence = self._evidence(total, {one.key for one in found}) if found else {}
        return [one._replace(evidence=evidence.get(one.key, ())) for one in found]

    def _moves(self, total: Total) -> Iterator[tuple[Case, str, int]]:
        """Yield what the cases add to which account. Raises `Broken` where that cannot be said."""
        for part, amounts_of in total.parts.items():
            file = self._files[part]
            if (broken := file.broken) is not None:
                raise Broken(str(broken), broken.key, broken.evidence)
            for case in file.cases():
                for account, amount in amounts(amounts_of, case, part).items():
                    yield case, account, amount

    def _evidence(self, total: Total, accounts: set[str]) -> dict[str, tuple[Fact, ...]]:
        """Return what moved these accounts, largest first. Worked out only where there is something to show."""
        largest: defaultdict[str, list[tuple[int, Case]]] = defaultdict(list)
        for case, account, amount in self._moves(total):
            if amount and account in accounts:
                insort(largest[account], (-abs(amount), case), key=_size)
                del largest[account][MAX_EVIDENCE:]
        return {
            account: tuple(fact for _, case in found for fact in case.evidence)[:MAX_EVIDENCE]
            for account, found in largest.items()
        }


def _size(move: tuple[int, Case]) -> tuple[int, str]:
    return move[0], move[1].key
