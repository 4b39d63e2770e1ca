"""The gate: the verdicts on all classes of a system, and those that are gone."""

from dataclasses import dataclass

from millstream.declare import System
from millstream.errors import DeclarationError
from millstream.operate.schemas import remedies
from millstream.operate.schemas.declared import Declared, declared
from millstream.operate.schemas.finding import Finding
from millstream.operate.schemas.history import History
from millstream.operate.schemas.identities import Identities, changed_identities, identities_of, left_behind
from millstream.operate.schemas.judge import Verdict, judge
from millstream.operate.schemas.lock import Lock
from millstream.schemas.formats import InvalidSchema


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of a comparison."""

    history: History
    verdicts: tuple[Verdict, ...]
    gone: tuple[str, ...]
    """Subjects of a lock file whose class the code has no more. A registry may have subjects of others."""
    identities: Identities
    """The names that identify the parts of the system now."""
    recorded: Identities | None = None
    """… and what did when it was recorded; None where nothing is."""

    @property
    def breaking(self) -> list[Finding]:
        """Every breaking change."""
        found = [finding for verdict in self.verdicts for finding in verdict.findings]
        moved: set[str] = set()
        if self.recorded is not None:
            changed = changed_identities(self.recorded, self.identities)
            found += changed
            moved = left_behind(self.recorded, changed)
        gone = [self._gone(subject) for subject in self.gone if self.history.level(subject) != "NONE"]
        return found + [finding for finding in gone if finding.topic not in moved]

    @property
    def has_new_identities(self) -> bool:
        """True where something that identifies a part of the system is not recorded as it is."""
        return self.recorded is None or self.recorded.recorded() != self.identities.recorded()

    @property
    def unrecorded(self) -> list[Verdict]:
        """The changes that the history does not have yet, breaking or not."""
        return [verdict for verdict in self.verdicts if verdict.state != "same"]

    def of_state(self, state: str) -> list[str]:
        """The subjects whose class is new, the same, or changed."""
        return [verdict.declared.subject for verdict in self.verdicts if verdict.state == state]

    def _gone(self, subject: str) -> Finding:
        assert isinstance(self.history, Lock)
        topic, contract = self.history.place(subject)
        problem = f"the class is gone from {topic}, and nobody could read its records"
        version, level = self.history.versions(subject)[-1].number, self.history.level(subject)
        return Finding(topic, contract, "", "CLASS_GONE", problem, remedies.CLASS_GONE, level, version)


def compare(system: System, history: History, lock: Lock | None = None) -> Report:
    """Holds every class of the system against its history. Raises `DeclarationError`, and what the history raises.

    - `lock`: has the keys, groups, handlers and stores, which a registry knows nothing of; by default the history.
    """
    entries = declared(system)
    verdicts = tuple(_judged(entry, history) for entry in entries)
    gone: set[str] = set()
    if isinstance(history, Lock):
        gone = set(history.subjects()) - {entry.subject for entry in entries}
    lock = history if isinstance(history, Lock) else lock
    return Report(
        history, verdicts, tuple(sorted(gone)), identities_of(system), None if lock is None else lock.identities
    )


def _judged(entry: Declared, history: History) -> Verdict:
    try:
        return judge(entry, history)
    except InvalidSchema as error:
        raise DeclarationError(f"{entry.name} on {entry.topic}: the schema is refused: {error}") from None
