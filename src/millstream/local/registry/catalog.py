"""Everything the registry knows, built by applying the records of its topic one after the other."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from millstream.local.registry import records
from millstream.local.registry.errors import (
    invalid_version,
    schema_not_found,
    subject_not_found,
    version_not_found,
)
from millstream.local.registry.records import SchemaRecord

DEFAULT_LEVEL = "BACKWARD"
_log = logging.getLogger(__name__)


@dataclass
class Catalog:
    """Subjects, ids and compatibility levels as of `offset`, the next one to read."""

    offset: int = 0
    highest_id: int = 0
    _subjects: dict[str, dict[int, SchemaRecord]] = field(default_factory=dict)
    _ids: dict[str, int] = field(default_factory=dict)
    _texts: dict[int, str] = field(default_factory=dict)
    _levels: dict[str | None, str] = field(default_factory=dict)

    def apply(self, batch: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        """Take in records in log order. A foreign record that cannot be understood is skipped with a warning."""
        for offset, key, value in batch:
            try:
                self._apply(*records.parse(key, value))
            except (ValueError, TypeError, KeyError, msgspec.ValidationError) as error:
                _log.warning("%s offset %d is skipped: %s", records.TOPIC, offset, error)
            self.offset = offset + 1

    def _apply(self, key: dict[str, Any], value: dict[str, Any] | None) -> None:
        match key["keytype"]:
            case "SCHEMA" if value is None:
                self._forget(key["subject"], key["version"])
            case "SCHEMA":
                self._remember(msgspec.convert(value, SchemaRecord))
            case "DELETE_SUBJECT" if value is not None:
                self._soft_delete(key["subject"], value["version"])
            case "CONFIG" if value is not None:
                self._levels[key["subject"]] = str(value["compatibilityLevel"])
            case "CONFIG":
                self._levels.pop(key["subject"], None)
            case _:
                pass  # NOOP, MODE, CONTEXT and what later versions of Confluent's registry write

    def _remember(self, entry: SchemaRecord) -> None:
        self._subjects.setdefault(entry.subject, {})[entry.version] = entry
        self._ids.setdefault(entry.schema, entry.id)
        self._texts[entry.id] = entry.schema
        self.highest_id = max(self.highest_id, entry.id)

    def _forget(self, subject: str, version: int) -> None:
        versions = self._subjects.get(subject, {})
        entry = versions.pop(version, None)
        if not versions:
            self._subjects.pop(subject, None)
        if entry and not any(other.id == entry.id for other in self._entries()):
            self._ids.pop(entry.schema, None)
            self._texts.pop(entry.id, None)

    def _soft_delete(self, subject: str, last_version: int) -> None:
        for version, entry in self._subjects.get(subject, {}).items():
            if version <= last_version:
                self._subjects[subject][version] = msgspec.structs.replace(entry, deleted=True)

    def _entries(self) -> Iterator[SchemaRecord]:
        for versions in self._subjects.values():
            yield from versions.values()

    def subjects(self, *, deleted: bool = False) -> list[str]:
        """Names of all subjects, in order; with `deleted`, those too of which every version is soft deleted."""
        return [name for name in sorted(self._subjects) if deleted or self.versions(name)]

    def versions(self, subject: str, *, deleted: bool = False) -> list[SchemaRecord]:
        """The subject's versions, oldest first; empty for an unknown subject."""
        versions = self._subjects.get(subject, {})
        return [entry for _, entry in sorted(versions.items()) if deleted or not entry.deleted]

    def known_versions(self, subject: str, *, deleted: bool = False) -> list[SchemaRecord]:
        """As `versions`; raises `Refusal` 40401 for an unknown subject."""
        return self.versions(subject, deleted=deleted) or subject_not_found(subject)

    def version(self, subject: str, version: str, *, deleted: bool = False) -> SchemaRecord:
        """One version by its number, or by `"latest"` or `"-1"`; raises `Refusal` 42202, 40401 or 40402."""
        number = version_number(version)
        versions = self.known_versions(subject, deleted=deleted)
        if number is None:
            return versions[-1]
        return next((entry for entry in versions if entry.version == number), None) or version_not_found(number)

    def find(self, subject: str, schema: str, *, deleted: bool = False) -> SchemaRecord | None:
        """The subject's newest version with this canonical text."""
        versions = self.versions(subject, deleted=deleted)
        return next((entry for entry in reversed(versions) if entry.schema == schema), None)

    def next_version(self, subject: str) -> int:
        return max(self._subjects.get(subject, {}), default=0) + 1

    def id_of(self, schema: str) -> int | None:
        return self._ids.get(schema)

    def text(self, schema_id: int) -> str:
        """The schema with this id; raises `Refusal` 40403."""
        return self._texts.get(schema_id) or schema_not_found(schema_id)

    def uses(self, schema_id: int, *, deleted: bool = False) -> list[SchemaRecord]:
        """Every version of any subject with this id; raises `Refusal` 40403 for an unknown id."""
        self.text(schema_id)
        return [entry for entry in self._entries() if entry.id == schema_id and (deleted or not entry.deleted)]

    def level(self, subject: str | None) -> str | None:
        """The compatibility level set for `subject` itself, or for all when it is None; None if none was set."""
        return self._levels.get(subject)

    def effective_level(self, subject: str | None) -> str:
        return self._levels.get(subject) or self._levels.get(None) or DEFAULT_LEVEL


def version_number(version: str) -> int | None:
    """A version from a path; None for the latest. Raises `Refusal` 42202."""
    if version in ("latest", "-1"):
        return None
    if not (version.isascii() and version.isdigit() and 1 <= int(version[:11]) < 2**31):
        invalid_version(version)
    return int(version)
