"""The verdict on each class.

The rules are those of the local registry, so that the gate passes nothing that the registry refuses. For Avro, values
must go on meaning the same, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from millstream.operate.schemas import remedies
from millstream.operate.schemas.declared import Declared
from millstream.operate.schemas.finding import Direction, Finding, Misfit, read_misfit
from millstream.operate.schemas.history import History, Version
from millstream.operate.schemas.meanings import changed_meanings
from millstream.operate.schemas.paths import field_path
from millstream.operate.schemas.told import problem_of, written_field_like
from millstream.schemas import formats
from millstream.schemas.avro.reading import read
from millstream.schemas.formats import Parsed


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one class since its newest version. Without findings a change is a safe one."""

    declared: Declared
    state: Literal["new", "same", "changed"]
    latest: Version | None
    findings: tuple[Finding, ...] = ()


def judge(declared: Declared, history: History) -> Verdict:
    """Holds a class against the versions of its subject, under the subject's level. Raises `InvalidSchema`."""
    versions = history.versions(declared.subject)
    if not versions:
        return Verdict(declared, "new", None)
    parsed = formats.find(declared.type).parse(declared.text, (), as_new=True)
    if any(_is(parsed, declared.type, version) for version in versions):
        return Verdict(declared, "same", versions[-1])
    level = history.level(declared.subject)
    for version in _judged_by(level, versions):
        if findings := tuple(_findings(declared, parsed, version, level)):
            return Verdict(declared, "changed", versions[-1], findings)
    return Verdict(declared, "changed", versions[-1])


def _judged_by(level: str, versions: Sequence[Version]) -> Sequence[Version]:
    if level == "NONE":
        return ()
    return versions[::-1] if level.endswith("_TRANSITIVE") else versions[-1:]


def _is(parsed: Parsed, schema_type: str, version: Version) -> bool:
    """A registry takes a text that it has had for that very version, whatever came after it."""
    if version.type != schema_type:
        return False
    try:
        return formats.find(version.type).parse(version.text, (), as_new=False).canonical == parsed.canonical
    except formats.InvalidSchema:  # a version that nobody can read is no ancestor
        return False


def _findings(declared: Declared, new: Parsed, version: Version, level: str) -> Iterator[Finding]:
    def found(field: str, rule: str, problem: str, remedy: str) -> Finding:
        return Finding(declared.topic, declared.name, field, rule, problem, remedy, level, version.number)

    if version.type != declared.type:
        problem = f"it was {version.type} and is {declared.type} now"
        yield found("", "DIFFERENT_SCHEMA_TYPE", problem, remedies.DIFFERENT_TYPE)
        return
    try:
        old = formats.find(version.type).parse(version.text, (), as_new=False)
        misfits = list(_misfits(level, new, old))
        if declared.type == "AVRO":
            misfits += _changed_meanings(level, declared.text, version.text)
    except formats.TooMuch as error:
        yield found("", "NOT_COMPARABLE", str(error), remedies.NOT_COMPARABLE)
        return
    except formats.InvalidSchema as error:
        yield found("", "OLD_SCHEMA_INVALID", str(error), remedies.UNREADABLE)
        return
    for direction, misfit in misfits:
        reader, writer = (declared.text, version.text) if direction == "backward" else (version.text, declared.text)
        field = field_path(declared.type, reader, misfit.path) or field_path(declared.type, writer, misfit.path)
        problem = problem_of(misfit, direction, field)
        yield found(field, misfit.kind, problem, _remedy(misfit, direction, field, (reader, writer), declared.type))


def _misfits(level: str, new: Parsed, old: Parsed) -> Iterator[tuple[Direction, Misfit]]:
    if level.startswith(("BACKWARD", "FULL")):
        for said in new.misfits(old):
            yield "backward", read_misfit(said, "backward")
    if level.startswith(("FORWARD", "FULL")):
        for said in old.misfits(new):
            yield "forward", read_misfit(said, "forward")


def _changed_meanings(level: str, new_text: str, old_text: str) -> Iterator[tuple[Direction, Misfit]]:
    new, old = read(new_text, as_new=False)[0], read(old_text, as_new=False)[0]
    if level.startswith(("BACKWARD", "FULL")):
        for misfit in changed_meanings(new, old):
            yield "backward", misfit
    if level.startswith(("FORWARD", "FULL")):
        for misfit in changed_meanings(old, new):
            yield "forward", misfit


def _remedy(misfit: Misfit, direction: Direction, field: str, texts: tuple[str, str], schema_type: str) -> str:
    if (misfit.kind, direction, schema_type) == ("READER_FIELD_MISSING_DEFAULT_VALUE", "backward", "AVRO"):
        old = written_field_like(misfit.path, *texts)
        if old is not None:
            return remedies.renamed(old, misfit.detail)
    return remedies.remedy_for(misfit.kind, direction, field)
