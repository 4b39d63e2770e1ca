"""Deleting versions and subjects: softly, so that ids still resolve, and then for ever."""

from collections.abc import Sequence

import msgspec

from millstream.local.registry import records
from millstream.local.registry.catalog import Catalog
from millstream.local.registry.errors import (
    reference_exists,
    subject_not_found,
    subject_not_soft_deleted,
    subject_soft_deleted,
    version_not_soft_deleted,
    version_soft_deleted,
)
from millstream.local.registry.records import Record, SchemaRecord
from millstream.local.registry.registrar import refuse_if_read_only
from millstream.local.registry.store import Store


class Remover:
    """What may be done to schemas that are not wanted any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalog: Catalog = store.catalog

    async def delete_subject(self, subject: str, *, permanent: bool) -> list[int]:
        """Delete every version, softly or (what is softly deleted already) for ever; their numbers.

        Raises `Refusal` 40401, 40404, 40405, 42205 or 42206.
        """

        async def decide() -> tuple[Sequence[Record], list[int]]:
            known = self._catalog.versions(subject, deleted=True) or subject_not_found(subject)
            alive = [entry for entry in known if not entry.deleted]
            if not permanent and not alive:
                subject_soft_deleted(subject)
            refuse_if_read_only(self._catalog, subject)
            going = known if permanent else alive
            for entry in going:
                if any(other.subject != subject for other in self._referring(entry, permanent)):
                    reference_exists(subject, entry.version)
            numbers = [entry.version for entry in going]
            if not permanent:
                return [records.delete_subject_record(subject, numbers[-1])], numbers
            if alive:
                subject_not_soft_deleted(subject)
            # The newest first: versions may refer to older ones of their own subject.
            tombstones = [records.schema_tombstone(subject, number) for number in reversed(numbers)]
            return [*self._marking_ids_of(going), *tombstones, *self._leftovers(subject)], numbers

        return await self._store.change(decide)

    async def delete_version(self, subject: str, version: int | None, *, permanent: bool) -> int:
        """Delete one version (None: the latest), softly or, if it is softly deleted already, for ever; its number.

        Raises `Refusal` 40401, 40402, 40406, 40407, 42205 or 42206.
        """

        async def decide() -> tuple[Sequence[Record], int]:
            entry = self._catalog.version(subject, version, deleted=True)
            if entry.deleted and not permanent:
                version_soft_deleted(subject, entry.version)
            refuse_if_read_only(self._catalog, subject)
            if self._referring(entry, permanent):
                reference_exists(subject, entry.version)
            if not permanent:
                return [records.schema_record(msgspec.structs.replace(entry, deleted=True))], entry.version
            if not entry.deleted:
                version_not_soft_deleted(subject, entry.version)
            batch = [*self._marking_ids_of([entry]), records.schema_tombstone(subject, entry.version)]
            if len(self._catalog.versions(subject, deleted=True)) == 1:
                batch += self._leftovers(subject)
            return batch, entry.version

        return await self._store.change(decide)

    def _referring(self, entry: SchemaRecord, permanent: bool) -> list[SchemaRecord]:
        return self._catalog.referring(entry.subject, entry.version, deleted=permanent)

    def _leftovers(self, subject: str) -> list[Record]:
        """What would outlive the last version of a subject."""
        batch = [records.delete_subject_tombstone(subject)]
        if self._catalog.config(subject) is not None:
            batch.append(records.config_record(subject, None))
        if self._catalog.mode(subject) is not None:
            batch.append(records.mode_record(subject, None))
        return batch

    def _marking_ids_of(self, going: Sequence[SchemaRecord]) -> list[Record]:
        """An id is never given twice, though compaction may remove every trace of the schema that had the highest."""
        highest = self._catalog.highest_id
        return [records.highest_id_record(highest)] if any(entry.id == highest for entry in going) else []
