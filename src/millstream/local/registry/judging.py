"""Whether a new schema may follow the versions that a subject has: the compatibility levels.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/schema-evolution.html
"""

import asyncio
from collections.abc import Sequence

from millstream.local.registry import offers
from millstream.local.registry.catalog import Catalog
from millstream.local.registry.offers import Understood
from millstream.local.registry.records import Config, Metadata, SchemaRecord
from millstream.schemas import formats
from millstream.schemas.formats import Parsed, Referred

LEVELS = frozenset(
    {"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}
)


async def objections(
    catalog: Catalog, config: Config, new: Understood, metadata: Metadata | None, versions: Sequence[SchemaRecord]
) -> list[str]:
    """What speaks against `new` after `versions`, oldest first, under the level in `config`; empty if nothing does."""
    level = config.level or "NONE"
    if config.compatibilityGroup is not None:
        group = _group(metadata, config.compatibilityGroup)
        versions = [entry for entry in versions if _group(entry.metadata, config.compatibilityGroup) == group]
    if level == "NONE" or not versions:
        return []
    chosen = versions[::-1] if level.endswith("_TRANSITIVE") else versions[-1:]

    # Looked up here: on a thread the catalog could change under it.
    olds = [(entry, offers.closure(catalog, entry.references, deleted=True)) for entry in chosen]

    def judge() -> list[str]:
        for entry, referred in olds:
            if found := _objections_of(level, new, entry, referred):
                return [*found, f"{{validateFields: 'false', compatibility: '{level}'}}"]
        return []

    # On a thread, however short they are: each part of one schema may have to be held against each of the other.
    return await asyncio.to_thread(judge)


def _objections_of(level: str, new: Understood, entry: SchemaRecord, referred: tuple[Referred, ...]) -> list[str]:
    if entry.schemaType != new.offer.type:
        found = ["Incompatible because of different schema type"]
    else:
        try:
            found = _misfits(level, new.parsed, offers.stored(entry, referred))
        except formats.TooMuch as error:
            found = [f"The schemas could not be compared: {error}"]
        except formats.InvalidSchema as error:
            found = [f"The old schema cannot be understood: {error}"]
    if not found:
        return []
    return [*found, f"{{oldSchemaVersion: {entry.version}}}", f"{{oldSchema: '{entry.schema[:20_000]}'}}"]


def _misfits(level: str, new: Parsed, old: Parsed) -> list[str]:
    found: list[str] = []
    if level.startswith(("BACKWARD", "FULL")):
        found += [misfit % {"reader": "new", "writer": "old"} for misfit in new.misfits(old)]
    if level.startswith(("FORWARD", "FULL")):
        found += [misfit % {"reader": "old", "writer": "new"} for misfit in old.misfits(new)]
    return found


def _group(metadata: Metadata | None, name: str) -> str | None:
    return (metadata.properties or {}).get(name) if metadata is not None else None
