"""Registering, checking, deleting: decide on the catalog, append to the log, and let the log change the catalog."""

import asyncio

import msgspec

from millstream.local.registry import records
from millstream.local.registry.avro_schemas import canonical, unreadable
from millstream.local.registry.catalog import Catalog, version_number
from millstream.local.registry.errors import (
    incompatible_schema,
    invalid_level,
    schema_not_found,
    subject_not_found,
    subject_not_soft_deleted,
    subject_soft_deleted,
    subject_without_config,
    version_not_found,
    version_not_soft_deleted,
    version_soft_deleted,
)
from millstream.local.registry.log import TopicLog
from millstream.local.registry.records import Record, SchemaRecord

LEVELS = frozenset(
    {
        "NONE",
        "BACKWARD",
        "BACKWARD_TRANSITIVE",
        "FORWARD",
        "FORWARD_TRANSITIVE",
        "FULL",
        "FULL_TRANSITIVE",
    }
)


class Registrar:
    """Changes the catalog one request at a time. Every refusal is raised before anything is written."""

    def __init__(self, log: TopicLog) -> None:
        self.catalog = Catalog()
        self._log = log
        self._one_writer = asyncio.Lock()

    async def load(self) -> None:
        """Create the topic if it is missing and read all of it."""
        await self._log.create_topic(records.TOPIC, partitions=1, config={"cleanup.policy": "compact"})
        await self._catch_up()

    async def register(self, subject: str, text: str) -> SchemaRecord:
        """The version of `subject` with this schema, made if it is new and compatible; else `Refusal` 409 or 42201."""
        schema = canonical(text)
        async with self._one_writer:
            await self._catch_up()
            if existing := self.catalog.find(subject, schema):
                return existing
            if reasons := self._conflicts(schema, self.catalog.effective_level(subject), subject):
                incompatible_schema(reasons)
            entry = SchemaRecord(
                subject=subject,
                version=self.catalog.next_version(subject),
                id=self.catalog.id_of(schema) or self.catalog.highest_id + 1,
                schema=schema,
            )
            await self._write(records.schema_record(entry))
            return entry

    def look_up(self, subject: str, text: str, *, deleted: bool) -> SchemaRecord:
        """The version of `subject` that has this schema; `Refusal` 40401 or 40403 if there is none."""
        schema = canonical(text)
        self.catalog.known_versions(subject, deleted=deleted)
        return self.catalog.find(subject, schema, deleted=deleted) or schema_not_found()

    def check(self, subject: str, text: str, version: str | None) -> list[str]:
        """What speaks against registering this schema: against one version, or as the subject's level demands."""
        schema = canonical(text)
        level = self.catalog.effective_level(subject)
        if version is None:
            return self._conflicts(schema, level, subject)
        number = version_number(version)
        versions = self.catalog.versions(subject)
        chosen = versions[-1:] if number is None else [entry for entry in versions if entry.version == number]
        if number is not None and not chosen:
            version_not_found(number)
        return _conflicts_with(schema, level, chosen)

    def _conflicts(self, schema: str, level: str, subject: str) -> list[str]:
        versions = self.catalog.versions(subject)
        return _conflicts_with(schema, level, versions if level.endswith("_TRANSITIVE") else versions[-1:])

    async def delete_subject(self, subject: str, *, permanent: bool) -> list[int]:
        """Delete every version, softly or (what is softly deleted already) for ever; their numbers."""
        async with self._one_writer:
            await self._catch_up()
            known = self.catalog.versions(subject, deleted=True) or subject_not_found(subject)
            alive = [entry.version for entry in known if not entry.deleted]
            if permanent:
                if alive:
                    subject_not_soft_deleted(subject)
                await self._write(
                    *(records.schema_tombstone(subject, entry.version) for entry in known),
                    records.delete_subject_tombstone(subject),
                    *self._config_tombstone(subject),
                )
                return [entry.version for entry in known]
            if not alive:
                subject_soft_deleted(subject)
            await self._write(records.delete_subject_record(subject, alive[-1]), *self._config_tombstone(subject))
            return alive

    async def delete_version(self, subject: str, version: str, *, permanent: bool) -> int:
        """Delete one version, softly or (if it is softly deleted already) for ever; its number."""
        async with self._one_writer:
            await self._catch_up()
            entry = self.catalog.version(subject, version, deleted=version_number(version) is not None)
            if permanent:
                if not entry.deleted:
                    version_not_soft_deleted(subject, entry.version)
                await self._write(records.schema_tombstone(subject, entry.version))
            elif entry.deleted:
                version_soft_deleted(subject, entry.version)
            else:
                await self._write(records.schema_record(msgspec.structs.replace(entry, deleted=True)))
            return entry.version

    async def set_level(self, subject: str | None, level: str) -> str:
        """Set the compatibility level of `subject`, or of all when it is None; as it is written in answers."""
        upper = level.upper()
        if upper not in LEVELS:
            invalid_level()
        async with self._one_writer:
            await self._write(records.config_record(subject, upper))
        return upper

    async def clear_level(self, subject: str | None) -> str:
        """Take the level of `subject`, or of all, back; the level that was taken."""
        async with self._one_writer:
            await self._catch_up()
            if subject is not None and self.catalog.level(subject) is None:
                subject_without_config(subject)
            was = self.catalog.effective_level(subject)
            await self._write(records.config_record(subject, None))
            return was

    def _config_tombstone(self, subject: str) -> list[Record]:
        return [records.config_record(subject, None)] if self.catalog.level(subject) else []

    async def _write(self, *batch: Record) -> None:
        await self._log.append(records.TOPIC, 0, batch)
        await self._catch_up()

    async def _catch_up(self) -> None:
        self.catalog.apply(await self._log.read(records.TOPIC, 0, self.catalog.offset))


def _conflicts_with(schema: str, level: str, versions: list[SchemaRecord]) -> list[str]:
    reasons: list[str] = []
    for old in versions:
        if level.startswith(("BACKWARD", "FULL")):
            reasons += [
                f"the new schema cannot read version {old.version}: {why}" for why in unreadable(schema, old.schema)
            ]
        if level.startswith(("FORWARD", "FULL")):
            reasons += [
                f"version {old.version} cannot read the new schema: {why}" for why in unreadable(old.schema, schema)
            ]
    if reasons:
        reasons.append(f"{{compatibility: '{level}'}}")
    return reasons
