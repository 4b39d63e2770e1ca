"""Everything the registry knows, built by applying the records of its topic one after the other."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from millstream.local.registry import records
from millstream.local.registry.errors import schema_not_found, subject_not_found, version_not_found
from millstream.local.registry.records import Config, SchemaRecord

DEFAULT_LEVEL = "BACKWARD"
DEFAULT_MODE = "READWRITE"
_log = logging.getLogger(__name__)


class Catalog:
    """Subjects, ids, settings and modes as of `offset`, the next one to read."""

    def __init__(self) -> None:
        self.offset = 0
        self.highest_id = 0
        self._subjects: dict[str, dict[int, SchemaRecord]] = {}
        self._uses: dict[int, dict[tuple[str, int], SchemaRecord]] = {}
        self._ids: dict[str, int] = {}
        self._configs: dict[str | None, Config] = {}
        self._modes: dict[str | None, str] = {}

    def apply(self, batch: Iterable[tuple[int, bytes, bytes | None]]) -> None:
        """Take in records in log order. A foreign record that cannot be understood is skipped with a warning."""
        for offset, key, value in batch:
            try:
                self._apply(*records.parse(key, value))
            except (ValueError, TypeError, KeyError, RecursionError, msgspec.ValidationError) as error:
                _log.warning(
                    "%s offset %d is skipped: %s",
                    records.TOPIC,
                    offset,
                    error,
                    extra={"code": "registry_record_skipped"},
                )
            self.offset = offset + 1

    def _apply(self, key: dict[str, Any], value: dict[str, Any] | None) -> None:
        subject = key.get("subject")
        if isinstance(subject, str) and subject.startswith(":."):
            raise ValueError(f"subject {subject!r} is in a context; contexts are not served here")
        match key["keytype"]:
            case "SCHEMA" if value is None:
                self._forget(key["subject"], key["version"])
            case "SCHEMA":
                self._remember(msgspec.convert(value, SchemaRecord))
            case "DELETE_SUBJECT" if value is not None:
                self._soft_delete(key["subject"], value["version"])
            case "CONFIG" if value is not None:
                self._configs[subject] = msgspec.convert(value, Config)
            case "CONFIG":
                self._configs.pop(subject, None)
            case "MODE" if value is not None:
                self._modes[subject] = str(value["mode"])
            case "MODE":
                self._modes.pop(subject, None)
            case "NOOP" if value is not None:
                self.highest_id = max(self.highest_id, int(value.get("highestId", 0)))
            case _:
                pass  # CONTEXT, CLEAR_SUBJECT (tombstones come before it) and what later versions of Confluent's write

    def _remember(self, entry: SchemaRecord) -> None:
        holder = self.with_id(entry.id)
        if holder is not None and holder.schema != entry.schema:
            raise ValueError(f"id {entry.id} is that of another schema, in {holder.subject!r} version {holder.version}")
        self._forget(entry.subject, entry.version)
        self._subjects.setdefault(entry.subject, {})[entry.version] = entry
        self._uses.setdefault(entry.id, {})[entry.subject, entry.version] = entry
        self._ids[entry.guid] = entry.id
        self.highest_id = max(self.highest_id, entry.id)

    def _forget(self, subject: str, version: int) -> None:
        versions = self._subjects.get(subject, {})
        entry = versions.pop(version, None)
        if not versions:
            self._subjects.pop(subject, None)
        if entry is None:
            return
        uses = self._uses[entry.id]
        del uses[subject, version]
        if not uses:
            del self._uses[entry.id]
            if self._ids.get(entry.guid) == entry.id:
                del self._ids[entry.guid]

    def _soft_delete(self, subject: str, last_version: int) -> None:
        for version, entry in self._subjects.get(subject, {}).items():
            if version <= last_version:
                deleted = msgspec.structs.replace(entry, deleted=True)
                self._subjects[subject][version] = self._uses[entry.id][subject, version] = deleted

    def subjects(self) -> list[str]:
        """Names of all subjects, in order, those too of which every version is soft deleted."""
        return sorted(self._subjects)

    def versions(self, subject: str, *, deleted: bool = False) -> list[SchemaRecord]:
        """The subject's versions, oldest first; empty for an unknown subject."""
        versions = self._subjects.get(subject, {})
        return [entry for _, entry in sorted(versions.items()) if deleted or not entry.deleted]

    def known_versions(self, subject: str, *, deleted: bool = False) -> list[SchemaRecord]:
        """As `versions`; raises `Refusal` 40401 for an unknown subject."""
        return self.versions(subject, deleted=deleted) or subject_not_found(subject)

    def version(self, subject: str, number: int | None, *, deleted: bool = False) -> SchemaRecord:
        """One version, or for None the latest that is not deleted; raises `Refusal` 40401 or 40402."""
        known = self.known_versions(subject, deleted=deleted)
        if number is None:
            latest = [entry for entry in known if not entry.deleted]
            return latest[-1] if latest else version_not_found(-1)
        return next((entry for entry in known if entry.version == number), None) or version_not_found(number)

    def find(self, subject: str, schema_id: int | None, *, deleted: bool = False) -> SchemaRecord | None:
        """The subject's newest version with this id."""
        versions = self.versions(subject, deleted=deleted)
        return next((entry for entry in reversed(versions) if entry.id == schema_id), None)

    def next_version(self, subject: str) -> int:
        return max(self._subjects.get(subject, {}), default=0) + 1

    def id_of(self, guid: str) -> int | None:
        return self._ids.get(guid)

    def with_id(self, schema_id: int) -> SchemaRecord | None:
        """Some version with this id; all of them have the same schema."""
        return next(iter(self._uses.get(schema_id, {}).values()), None)

    def uses(self, schema_id: int, *, deleted: bool = False) -> list[SchemaRecord]:
        """Every version of any subject with this id; raises `Refusal` 40403 for an unknown id."""
        found = self._uses.get(schema_id) or schema_not_found(schema_id)
        return [entry for _, entry in sorted(found.items()) if deleted or not entry.deleted]

    def everything(self) -> Iterator[SchemaRecord]:
        """Every version of every subject, in order of both."""
        for subject in self.subjects():
            yield from self.versions(subject, deleted=True)

    def referring(self, subject: str, version: int, *, deleted: bool) -> list[SchemaRecord]:
        """The versions that borrow types from this one."""
        return [
            entry
            for entry in self.everything()
            if (deleted or not entry.deleted)
            and any(of.subject == subject and of.version == version for of in entry.references)
        ]

    def config(self, subject: str | None) -> Config | None:
        """The settings of `subject` itself, or of all when it is None; None if there are none."""
        return self._configs.get(subject)

    def effective_config(self, subject: str | None) -> Config:
        """What is in force for `subject`: its own settings, and where it has none those of all."""
        for_all = self._configs.get(None) or Config()
        own = self._configs.get(subject) if subject is not None else None
        if own is None:
            return msgspec.structs.replace(for_all, level=for_all.level or DEFAULT_LEVEL)
        return Config(
            alias=own.alias,
            normalize=for_all.normalize if own.normalize is None else own.normalize,
            level=own.level or DEFAULT_LEVEL,
            compatibilityGroup=own.compatibilityGroup or for_all.compatibilityGroup,
        )

    def mode(self, subject: str | None) -> str | None:
        return self._modes.get(subject)

    def effective_mode(self, subject: str | None) -> str:
        return self._modes.get(subject) or self._modes.get(None) or DEFAULT_MODE
