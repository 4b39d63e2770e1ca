"""The cases of one kind: what is kept of each key, and what its checks say of it."""

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from millstream.declare import Contract, Envelope
from millstream.declare.invariant import MAX_KEPT, Case, Cases, Fact
from millstream.operate.verify.calling import Broken, filed, sentences
from millstream.operate.verify.findings import MAX_EVIDENCE, Unjudged, Violation, named
from millstream.operate.verify.spill import Heap, Spill

Facts = dict[type[Contract], tuple[int, list[Fact]]]
"""Of each class how many there are, and the first ones by their places."""

AT_ONCE = 500
"""Cases that are judged together."""


class CaseFile:
    """All cases of one kind, in a database: by their keys, and within a key by class and place.

    - `whole`: shows every event, for a sum over the first few of each case would be another sum.
    """

    def __init__(self, declared: Cases, spill: Spill, number: int, *, whole: bool) -> None:
        self._declared, self._spill = declared, spill
        self._limit = None if whole else MAX_KEPT
        self.contracts = declared.contracts
        self.broken: Broken | None = None
        """The reason why an event could not be filed, where that happened: something is missing of some case, then."""
        self._found: dict[str, tuple[Violation | Unjudged, ...]] = {}
        self._numbers = {contract: place for place, contract in enumerate(declared.contracts)}
        self._cases, self._facts = f"cases_{number}", f"facts_{number}"
        self._new = Heap(spill, f"new_facts_{number}", "key, kind, topic, part, at, type, id, kept, moment")
        # `judged`: 1 at rest, 0 not, when it was judged last; NULL: not since its last event.
        spill.db.execute(f"CREATE TABLE {self._cases} (key TEXT PRIMARY KEY, last REAL, judged INT) WITHOUT ROWID")
        spill.db.execute(
            f"CREATE TABLE {self._facts} (key TEXT, kind INT, topic TEXT, part INT, at INT, type TEXT, id TEXT, kept, "
            "PRIMARY KEY (key, kind, topic, part, at)) WITHOUT ROWID"
        )

    def __len__(self) -> int:
        self._settle()
        return self._spill.db.execute(f"SELECT count(*) FROM {self._cases}").fetchone()[0]  # noqa: S608 ours

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
        kind = self._numbers[type(event)]
        self._new.add((key, kind, *fact[:5], self._spill.pack(fact.kept), moment.timestamp()))

    def since(self, moment: datetime) -> int:
        """Return the number of cases that had an event since then."""
        self._settle()
        asked = f"SELECT count(*) FROM {self._cases} WHERE last >= ?"  # noqa: S608 ours
        return self._spill.db.execute(asked, (moment.timestamp(),)).fetchone()[0]

    def findings(self, at_rest: bool, quiet_since: datetime | None) -> Iterator[Violation | Unjudged]:
        """Yield the findings of its checks."""
        self._settle()
        if (broken := self.broken) is not None:
            for name in self._declared.checks:
                yield Unjudged(named(self._declared, name), broken.key, str(broken), broken.evidence)
            # Nobody knows what is missing of which case where an event could not be filed; what is too much, is.
            at_rest, quiet_since = False, None
        self._judge_changed("1" if at_rest else "0" if quiet_since is None else "last < :quiet", quiet_since)
        for key in sorted(self._found):
            yield from self._found[key]

    def cases(self) -> Iterator[Case]:
        """Each at rest, with all that is kept of it."""
        self._settle()
        rows = self._spill.db.execute(f"SELECT * FROM {self._facts} ORDER BY key, kind, topic, part, at")  # noqa: S608 ours
        for key, facts in groupby(rows, itemgetter(0)):
            yield Case(key, self._read(facts), at_rest=True, limit=None)

    def _judge_changed(self, rests: str, quiet_since: datetime | None) -> None:
        """Judges the cases that had an event since they were judged, or have come to rest; in the order of keys."""
        bound, last = {"quiet": quiet_since.timestamp() if quiet_since else None, "most": AT_ONCE}, ""
        asked = (
            f"SELECT key, {rests} FROM {self._cases} "  # noqa: S608 ours
            f"WHERE key > :key AND judged IS NOT ({rests}) ORDER BY key LIMIT :most"
        )
        among = f"{self._cases}.key > :key AND {self._cases}.key <= :end AND judged IS NOT ({rests})"
        facts_of = (
            f"SELECT {self._facts}.* FROM {self._cases} CROSS JOIN {self._facts} USING (key) WHERE {among} "  # noqa: S608 ours
            "ORDER BY 1, 2, 3, 4, 5"
        )
        judged = f"UPDATE {self._cases} SET judged = ({rests}) WHERE {among}"  # noqa: S608 ours
        while rows := self._spill.db.execute(asked, bound | {"key": last}).fetchall():
            at_rest, span = dict(rows), bound | {"key": last, "end": rows[-1][0]}
            for key, facts in groupby(self._spill.db.execute(facts_of, span), itemgetter(0)):
                if found := tuple(self._judge(key, self._read(facts), bool(at_rest[key]))):
                    self._found[key] = found
                else:
                    self._found.pop(key, None)
            self._spill.db.execute(judged, span)
            last = rows[-1][0]

    def _judge(self, key: str, facts: Facts, rests: bool) -> Iterator[Violation | Unjudged]:
        for check_name, check in self._declared.checks.items():
            case, name = Case(key, facts, at_rest=rests), named(self._declared, check_name)
            try:
                for sentence in sentences(check, case, self.contracts):
                    yield Violation(name, key, sentence, case.evidence[:MAX_EVIDENCE])
            except Broken as broken:
                kept = tuple(fact for _, some in facts.values() for fact in some)
                yield Unjudged(name, key, str(broken), (case.evidence or kept)[:MAX_EVIDENCE])

    def _read(self, rows: Iterator[tuple[Any, ...]]) -> Facts:
        """The facts of one case, in the order of their places."""
        facts: Facts = {}
        for _, kind, topic, partition, offset, type_name, id, kept in rows:
            contract = self.contracts[kind]
            count, some = facts.get(contract, (0, []))
            if self._limit is None or len(some) < self._limit:
                some.append(Fact(topic, partition, offset, type_name, id, self._spill.unpack(kept)))
            facts[contract] = count + 1, some
        return facts

    def _settle(self) -> None:
        """Sorts what is new into the tables: in their order, so that each page is written once."""
        if not self._new.written():
            return
        self._spill.db.execute(
            f"INSERT OR IGNORE INTO {self._facts} SELECT key, kind, topic, part, at, type, id, kept "  # noqa: S608 ours
            f"FROM {self._new.name} ORDER BY 1, 2, 3, 4, 5"
        )
        self._spill.db.execute(
            f"INSERT INTO {self._cases} SELECT key, max(moment), NULL FROM {self._new.name} GROUP BY key "  # noqa: S608 ours
            "ON CONFLICT (key) DO UPDATE SET last = max(last, excluded.last), judged = NULL"
        )
        self._new.clear()
