"""Settings and modes, of one subject or of all."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from millstream.local.registry import records
from millstream.local.registry.catalog import DEFAULT_MODE, Catalog
from millstream.local.registry.errors import (
    invalid_level,
    invalid_mode,
    not_permitted,
    reference_exists,
    subject_not_found,
)
from millstream.local.registry.judging import LEVELS
from millstream.local.registry.records import Config, Record
from millstream.local.registry.registrar import refuse_if_read_only
from millstream.local.registry.store import Store

MODES = frozenset({"READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT"})


class Policies:
    """Changes how new schemas are judged and whether any may come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalog: Catalog = store.catalog

    async def update_config(self, subject: str | None, changes: Mapping[str, Any]) -> Config:
        """Set what is in `changes`, keep the rest; None takes a setting back. Raises `Refusal` 42203 or 42205."""
        wanted = dict(changes)
        if wanted.get("level") is not None:
            wanted["level"] = str(wanted["level"]).upper()
            if wanted["level"] not in LEVELS:
                invalid_level()

        async def decide() -> tuple[Sequence[Record], Config]:
            refuse_if_read_only(self._catalog, subject)
            config = msgspec.structs.replace(self._catalog.config(subject) or Config(), **wanted)
            return [records.config_record(subject, config)], config

        return await self._store.change(decide)

    async def delete_config(self, subject: str | None) -> Config:
        """Take all settings of `subject` back; what they were. Raises `Refusal` 40401 if it has none, or 42205."""

        async def decide() -> tuple[Sequence[Record], Config]:
            known = self._catalog.config(subject)
            if known is None:
                if subject is not None:
                    subject_not_found(subject)
                return (), self._catalog.effective_config(None)
            refuse_if_read_only(self._catalog, subject)
            return [records.config_record(subject, None)], known

        return await self._store.change(decide)

    async def set_mode(self, subject: str | None, mode: str | None, *, force: bool) -> None:
        """Set or, with None, take back the mode. Raises `Refusal` 42204, 42205 or 42206."""
        if mode is not None:
            mode = mode.upper()
            if mode not in MODES:
                invalid_mode(" FORWARD is for a registry that follows another." if mode == "FORWARD" else "")

        async def decide() -> tuple[Sequence[Record], None]:
            batch = [records.mode_record(subject, mode)]
            if mode == "IMPORT" and not force and self._catalog.effective_mode(subject) != "IMPORT":
                batch = self._clearing(subject) + batch
            return batch, None

        await self._store.change(decide)

    async def delete_mode(self, subject: str | None) -> str:
        """Take the mode back; what it was. Raises `Refusal` 40401 for a subject that has none."""

        async def decide() -> tuple[Sequence[Record], str]:
            known = self._catalog.mode(subject)
            if known is None:
                if subject is not None:
                    subject_not_found(subject)
                return (), DEFAULT_MODE
            return [records.mode_record(subject, None)], known

        return await self._store.change(decide)

    def _clearing(self, subject: str | None) -> list[Record]:
        """Importing brings its own versions: there must be none, and those that are soft deleted go for ever."""
        names = self._catalog.subjects() if subject is None else [subject]
        going = [entry for name in names for entry in self._catalog.versions(name, deleted=True)]
        if any(not entry.deleted for entry in going):
            not_permitted("Cannot import since found existing subjects")
        for entry in going:
            if self._catalog.referring(entry.subject, entry.version, deleted=True):
                reference_exists(entry.subject, entry.version)
        # Here ids may be given again: importing says which.
        return [records.schema_tombstone(entry.subject, entry.version) for entry in going]
