"""Registering schemas, finding them again, and judging them before they are registered."""

from collections.abc import Sequence

from millstream.local.registry import judging, offers, records
from millstream.local.registry.catalog import Catalog
from millstream.local.registry.errors import (
    Refusal,
    incompatible_schema,
    invalid_schema,
    not_permitted,
    schema_not_found,
    schema_too_large,
    version_not_found,
)
from millstream.local.registry.offers import Offer, Understood
from millstream.local.registry.records import Metadata, Record, SchemaRecord
from millstream.local.registry.store import Store
from millstream.schemas import formats

MAX_ID = 2**31 - 1
MAX_RECORD_BYTES = 1_000_000
"""What a producer and a topic take by default, less something for the rest of a batch."""


class Registrar:
    """What may be done to schemas, short of deleting them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catalog: Catalog = store.catalog

    async def register(
        self,
        subject: str,
        offer: Offer,
        *,
        normalize: bool = False,
        force: bool = False,
        version: int = 0,
        schema_id: int = -1,
    ) -> SchemaRecord:
        """The version of `subject` with this schema, made if it is new and fits, or with `force` even if it does not.

        `version` and `schema_id` are for importing. Raises `Refusal` 40901, 42201, 42205 or 42209.
        """

        async def decide() -> tuple[Sequence[Record], SchemaRecord]:
            offered = self._filled(subject, offer)
            known = await self._known(subject, offered, normalize=normalize, deleted=False)
            if known is not None and version in (0, -1, known.version) and schema_id in (-1, known.id):
                return (), known
            self._check_mode(subject, schema_id)
            new, metadata = await self._acceptable(subject, offered, normalize=normalize, force=force)
            if version > 0 and not self._importing(subject) and version != self._catalog.next_version(subject):
                raise Refusal(42201, "Version is not one more than previous version")
            entry = SchemaRecord(
                subject=subject,
                version=version if version > 0 else self._catalog.next_version(subject),
                id=self._id_for(new.guid(metadata), schema_id),
                schema=new.text,
                schemaType=new.offer.type,
                references=new.offer.references,
                metadata=metadata,
            )
            record = records.schema_record(entry)
            if len(record[1] or b"") > MAX_RECORD_BYTES:
                schema_too_large("")
            return [record, *self._replaced_by(entry)], entry

        return await self._store.change(decide)

    async def look_up(self, subject: str, offer: Offer, *, normalize: bool, deleted: bool) -> SchemaRecord:
        """The version of `subject` that has this schema; `Refusal` 40401 or 40403 if there is none."""
        self._catalog.known_versions(subject, deleted=deleted)
        return await self._known(subject, offer, normalize=normalize, deleted=deleted) or schema_not_found()

    async def check(self, subject: str, offer: Offer, version: int | None, *, normalize: bool) -> list[str]:
        """What speaks against registering this schema after one version of `subject`; None is the latest.

        Raises `Refusal` 40402 or 42201.
        """
        versions = self._catalog.versions(subject)
        chosen = versions[-1:] if version is None else [entry for entry in versions if entry.version == version]
        if version is not None and not chosen:
            version_not_found(version)
        return await self._check(subject, offer, chosen, normalize=normalize)

    async def check_all(self, subject: str, offer: Offer, *, normalize: bool) -> list[str]:
        """What speaks against registering this schema as the next version, as `register` would say."""
        return await self._check(subject, offer, self._catalog.versions(subject), normalize=normalize)

    async def _check(
        self, subject: str, offer: Offer, versions: Sequence[SchemaRecord], *, normalize: bool
    ) -> list[str]:
        config = self._catalog.effective_config(subject)
        normalize = normalize or bool(config.normalize)
        new = await offers.understand(self._catalog, offer, normalize=normalize, as_new=True)
        return await judging.objections(self._catalog, config, new, offer.metadata, versions)

    async def _known(self, subject: str, offer: Offer, *, normalize: bool, deleted: bool) -> SchemaRecord | None:
        normalize = normalize or bool(self._catalog.effective_config(subject).normalize)
        new = await offers.understand(self._catalog, offer, normalize=normalize, as_new=False)
        versions = self._catalog.versions(subject, deleted=deleted)
        for metadata in (offer.metadata, _inherited(offer, self._catalog.versions(subject))):
            schema_id = self._catalog.id_of(new.guid(metadata))
            if found := self._catalog.find(subject, schema_id, deleted=deleted):
                return found
        return await self._equivalent(new, versions)

    async def _equivalent(self, new: Understood, versions: Sequence[SchemaRecord]) -> SchemaRecord | None:
        """A version that differs in form only: with its references spelled out, or its attributes in another order."""
        alike = [
            (entry, offers.closure(self._catalog, entry.references, deleted=True))
            for entry in reversed(versions)
            if entry.schemaType == new.offer.type
            and entry.metadata == new.offer.metadata
            and (entry.references == new.offer.references or not new.offer.references)
            and _could_be_alike(new, entry)
        ]

        def compare() -> SchemaRecord | None:
            for entry, referred in alike:
                try:
                    if new.parsed.means_the_same_as(offers.stored(entry, referred)):
                        return entry
                except formats.InvalidSchema:
                    continue  # what a foreign registry let pass is like nothing
            return None

        return await offers.apart(len(new.text) + sum(len(entry.schema) for entry, _ in alike), compare)

    async def _acceptable(
        self, subject: str, offer: Offer, *, normalize: bool, force: bool
    ) -> tuple[Understood, Metadata | None]:
        config, versions = self._catalog.effective_config(subject), self._catalog.versions(subject)
        importing = self._importing(subject)
        normalize = (normalize or bool(config.normalize)) and not importing
        new = await offers.understand(self._catalog, offer, normalize=normalize, as_new=not importing)
        if importing:
            return new, offer.metadata
        metadata = _inherited(offer, versions)
        if force:
            return new, metadata
        if reasons := await judging.objections(self._catalog, config, new, metadata, versions):
            incompatible_schema(subject, reasons)
        return new, metadata

    def _filled(self, subject: str, offer: Offer) -> Offer:
        """An offer without a schema means the latest one, with other metadata."""
        versions = self._catalog.versions(subject)
        if offer.text.strip() or not versions:
            return offer
        latest = versions[-1]
        return Offer(latest.schema, latest.schemaType, latest.references, offer.metadata)

    def _check_mode(self, subject: str, schema_id: int) -> None:
        mode = self._catalog.effective_mode(subject)
        refuse_if_read_only(self._catalog, subject)
        if schema_id >= 0 and mode != "IMPORT":
            not_permitted(f"Subject {subject} in context . is not in import mode")
        if schema_id < 0 and mode != "READWRITE":
            not_permitted(f"Subject {subject} in context . is not in read-write mode")

    def _importing(self, subject: str) -> bool:
        return self._catalog.effective_mode(subject) == "IMPORT"

    def _id_for(self, guid: str, wanted: int) -> int:
        known = self._catalog.id_of(guid)
        if wanted < 0:
            new = self._catalog.highest_id + 1
            return known or (new if new <= MAX_ID else invalid_schema(f"all ids up to {MAX_ID} are taken"))
        holder = self._catalog.with_id(wanted)
        if holder is not None and holder.guid != guid:
            not_permitted(f"Overwrite new schema with id {wanted} in context . is not permitted.")
        return wanted

    def _replaced_by(self, entry: SchemaRecord) -> list[Record]:
        """Soft-deleted versions of the same schema go for ever, unless something refers to them."""
        return [
            records.schema_tombstone(old.subject, old.version)
            for old in self._catalog.versions(entry.subject, deleted=True)
            if old.deleted
            and old.id == entry.id
            and old.version < entry.version
            and not self._catalog.referring(old.subject, old.version, deleted=True)
        ]


def refuse_if_read_only(catalog: Catalog, subject: str | None) -> None:
    """Raises `Refusal` 42205 where nothing may be changed."""
    if catalog.effective_mode(subject) in ("READONLY", "READONLY_OVERRIDE"):
        not_permitted(f"Subject {'null' if subject is None else subject} in context . is in read-only mode")


def _could_be_alike(new: Understood, entry: SchemaRecord) -> bool:
    """Giants are read again only if they are as long: attributes in another order, or types spelled out."""
    giant = max(len(new.text), len(entry.schema)) > offers.SMALL
    return not giant or bool(entry.references) or len(entry.schema) in (len(new.text), len(new.parsed.canonical))


def _inherited(offer: Offer, versions: Sequence[SchemaRecord]) -> Metadata | None:
    return offer.metadata if offer.metadata is not None or not versions else versions[-1].metadata
