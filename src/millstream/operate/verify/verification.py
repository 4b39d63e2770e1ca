"""One system's log held to its invariants: once, or on and on."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from millstream.contracts import Contracts
from millstream.declare import System, load
from millstream.declare.invariant import Invariants, topics_of
from millstream.errors import ConfigurationError
from millstream.kafka.port import Admin, Kafka, TopicInfo
from millstream.operate.verify.auditor import Auditor
from millstream.operate.verify.findings import Unjudged, Violation
from millstream.operate.verify.reading import LogReader, cut_topics
from millstream.telemetry import metrics


class Report(NamedTuple):
    """The findings of a look at the log.

    - `under_way`: cases that had an event so lately that nothing is missing of them yet.
    - `unjudged`: invariants that are themselves broken, and for what.
    - `waiting`: the invariants of totals, where anything happened so lately that they were not judged.
    - `undecodable`: records of each topic that nobody can read; `unreadable` shows the first of them.
    - `missing`: topics that are not there.
    """

    events: int
    cases: int
    under_way: int
    violations: tuple[Violation, ...]
    unjudged: tuple[Unjudged, ...]
    waiting: tuple[str, ...]
    undecodable: dict[str, int]
    unreadable: dict[str, str]
    missing: tuple[str, ...]

    def json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "events": self.events,
            "cases": self.cases,
            "under_way": self.under_way,
            "violations": [told(violation) for violation in self.violations],
            "unjudged": [told(unjudged) for unjudged in self.unjudged],
            "waiting": list(self.waiting),
            "undecodable": self.undecodable,
            "unreadable": self.unreadable,
            "missing_topics": list(self.missing),
        }


def told(finding: Violation | Unjudged) -> dict[str, Any]:
    """One finding for programs; of its evidence the places only, for events may hold personal data."""
    evidence = [
        {"topic": fact.topic, "partition": fact.partition, "offset": fact.offset, "type": fact.type, "id": fact.id}
        for fact in finding.evidence
    ]
    return {
        "invariant": finding.invariant,
        "key": finding.key,
        "sentence": finding.sentence,
        "evidence": evidence,
    }


def invariants_of(system: System) -> Invariants:
    """Imports what the system declares. Raises `ConfigurationError` where it declares nothing, `DeclarationError`."""
    if system.invariants is None:
        raise ConfigurationError(
            f"{system.name} names no invariants: System({system.name!r}, …, invariants='module:attribute'); see "
            "`millstream help verify`"
        )
    return load(system.invariants, tuple)


class Verification:
    """Reads the log on with each `look`, and remembers what it has to.

    - `there`: the topics of the cluster.

    `on_read`, where it is set, is called with the number of records after each batch.

    Raises `ConfigurationError` where none of the topics is there.
    """

    def __init__(
        self,
        system: System,
        kafka: Kafka,
        admin: Admin,
        contracts: Contracts,
        there: dict[str, TopicInfo],
    ) -> None:
        invariants = invariants_of(system)
        topics = topics_of(invariants)
        self.on_read: Callable[[int], None] | None = None
        self._system = system.name
        partitions = {topic.name: there[topic.name].partitions for topic in topics if topic.name in there}
        if not partitions:
            names = ", ".join(topic.name for topic in topics)
            raise ConfigurationError(
                f"None of the topics of {system.name} is there ({names}): is it the right cluster?"
            )
        self._missing = tuple(topic.name for topic in topics if topic.name not in there)
        self._reader = LogReader(kafka, admin, contracts, topics, partitions, on_read=self._count)
        self._audit = Auditor(invariants, cut=cut_topics(kafka, partitions))
        self._told: Counter[str] = Counter()

    def size(self) -> int:
        """Return the number of records to read now, at most."""
        return self._reader.size()

    def look(self, grace: timedelta) -> Report:
        """Reads on to the end and judges. What had no event for `grace` before that is at rest.

        Raises `Unavailable`, `RegistryUnavailable`, `TopicMissing`.
        """
        quiet_since = self._reader.settle_into(self._audit) - grace
        found = tuple(self._audit.findings(quiet_since=quiet_since))
        violations = tuple(one for one in found if isinstance(one, Violation))
        unjudged = tuple(one for one in found if isinstance(one, Unjudged))
        waiting = self._audit.waiting(quiet_since)
        violated, broken = (Counter(one.invariant for one in some) for some in (violations, unjudged))
        for name in self._audit.names:
            metrics.VIOLATIONS.labels(self._system, name).set(violated[name])
            metrics.UNJUDGED.labels(self._system, name, "broken").set(broken[name])
            metrics.UNJUDGED.labels(self._system, name, "under_way").set(name in waiting)
        for topic, number in self._reader.undecodable.items():
            metrics.AUDITED.labels(self._system, topic, "undecodable").inc(number - self._told[topic])
            self._told[topic] = number
        return Report(
            events=self._audit.events,
            cases=self._audit.cases,
            under_way=self._audit.under_way(quiet_since),
            violations=violations,
            unjudged=unjudged,
            waiting=waiting,
            undecodable=dict(self._reader.undecodable),
            unreadable=dict(self._reader.shown),
            missing=self._missing,
        )

    def _count(self, topic: str, count: int) -> None:
        metrics.AUDITED.labels(self._system, topic, "read").inc(count)
        if self.on_read is not None:
            self.on_read(count)
