"""Routes that read and write schemas: `/schemas`, `/subjects`, `/compatibility`."""

from collections.abc import Sequence
from typing import Any

from millstream.local.registry import offers
from millstream.local.registry.call import Call, new_subject, plain_subject
from millstream.local.registry.errors import Refusal, not_served, schema_not_found
from millstream.local.registry.records import SchemaRecord
from millstream.local.registry.registrar import Registrar
from millstream.local.registry.removal import Remover
from millstream.local.registry.routes import Route, Text
from millstream.local.registry.store import Store
from millstream.schemas import formats

MAX_LISTED = 1000
_LISTING_BY = ("aliases", "ruleType", "resourceType", "associationType", "lifecycle")


class SchemaRoutes:
    def __init__(self, store: Store) -> None:
        self._catalog = store.catalog
        self._store = store
        self._registrar = Registrar(store)
        self._remover = Remover(store)

    def table(self) -> list[Route]:
        version = "/subjects/{subject}/versions/{version}"
        return [
            ("GET", "/schemas", self.schemas),
            ("GET", "/schemas/types", self.types),
            ("GET", "/schemas/ids/{id}", self.by_id),
            ("GET", "/schemas/ids/{id}/schema", self.text_by_id),
            ("GET", "/schemas/ids/{id}/subjects", self.subjects_of_id),
            ("GET", "/schemas/ids/{id}/versions", self.versions_of_id),
            ("GET", "/schemas/guids/{guid}", self.by_guid),
            ("GET", "/schemas/guids/{guid}/ids", self.ids_of_guid),
            ("GET", "/subjects", self.subjects),
            ("POST", "/subjects/{subject}", self.look_up),
            ("DELETE", "/subjects/{subject}", self.delete_subject),
            ("GET", "/subjects/{subject}/metadata", self.latest_with_metadata),
            ("GET", "/subjects/{subject}/versions", self.versions),
            ("POST", "/subjects/{subject}/versions", self.register),
            ("GET", version, self.version),
            ("DELETE", version, self.delete_version),
            ("GET", f"{version}/schema", self.version_text),
            ("GET", f"{version}/referencedby", self.referenced_by),
            ("POST", "/compatibility/subjects/{subject}/versions", self.check_all),
            ("POST", "/compatibility/subjects/{subject}/versions/{version}", self.check),
        ]

    async def schemas(self, call: Call) -> list[dict[str, Any]]:
        for name in _LISTING_BY:
            if call.query.get(name, "false").lower() not in ("", "false"):
                not_served(name)
        await self._store.catch_up()
        prefix, deleted = call.prefix(), call.flag("deleted")
        listed: list[SchemaRecord] = []
        for subject in self._catalog.subjects():
            if prefix is not None and subject.startswith(prefix):
                versions = self._catalog.versions(subject, deleted=deleted)
                listed += versions[-1:] if call.flag("latestOnly") else versions
        return [described(entry) for entry in call.page(listed, MAX_LISTED)]

    async def types(self, call: Call) -> list[str]:
        return formats.TYPES

    async def by_id(self, call: Call) -> dict[str, Any]:
        entry = await self._with_id(call)
        found = described(entry, await self._text(call, entry))
        del found["id"]
        if not call.query.get("subject"):
            del found["subject"], found["version"]
        return found | ({"maxId": self._catalog.highest_id} if call.flag("fetchMaxId") else {})

    async def text_by_id(self, call: Call) -> Text:
        return Text(await self._text(call, await self._with_id(call)))

    async def subjects_of_id(self, call: Call) -> list[str]:
        return call.page(sorted({use.subject for use in await self._uses(call)}))

    async def versions_of_id(self, call: Call) -> list[dict[str, Any]]:
        return call.page([{"subject": use.subject, "version": use.version} for use in await self._uses(call)])

    async def by_guid(self, call: Call) -> dict[str, Any]:
        await self._store.catch_up()
        entry = self._with_guid(call) or schema_not_found(call.params["guid"])
        found = described(entry, await self._text(call, entry))
        del found["id"], found["subject"], found["version"]
        return found

    async def ids_of_guid(self, call: Call) -> list[dict[str, Any]]:
        await self._store.catch_up()
        entry = self._with_guid(call)
        return [] if entry is None else [{"context": ".", "id": entry.id}]

    async def subjects(self, call: Call) -> list[str]:
        await self._store.catch_up()
        prefix = call.prefix()
        if prefix is None:
            return []
        names = [name for name in self._catalog.subjects() if name.startswith(prefix)]
        if call.flag("deletedOnly"):
            names = [name for name in names if not self._catalog.versions(name)]
        elif not call.flag("deleted"):
            names = [name for name in names if self._catalog.versions(name)]
        return call.page(names)

    async def versions(self, call: Call) -> list[int]:
        await self._store.catch_up()
        only, negative = call.flag("deletedOnly"), call.flag("deletedAsNegative")
        subject = self._subject(call)
        self._catalog.known_versions(subject, deleted=only or call.flag("deleted"))
        entries = self._catalog.versions(subject, deleted=only or negative or call.flag("deleted"))
        if only and not negative:
            entries = [entry for entry in entries if entry.deleted]
        return call.page([-entry.version if negative and entry.deleted else entry.version for entry in entries])

    async def version(self, call: Call) -> dict[str, Any]:
        entry = await self._version(call)
        return described(entry, await self._text(call, entry))

    async def version_text(self, call: Call) -> Text:
        return Text(await self._text(call, await self._version(call)))

    async def referenced_by(self, call: Call) -> list[int]:
        entry = await self._version(call)
        referring = self._catalog.referring(entry.subject, entry.version, deleted=call.flag("deleted"))
        return call.page(sorted({other.id for other in referring}))

    async def latest_with_metadata(self, call: Call) -> dict[str, Any]:
        await self._store.catch_up()
        known = self._catalog.known_versions(self._subject(call), deleted=call.flag("deleted"))
        wanted = set(zip(call.all_of("key"), call.all_of("value"), strict=False))
        having = [e for e in known if e.metadata is not None and wanted <= set((e.metadata.properties or {}).items())]
        latest = having[-1] if having else schema_not_found()
        return described(latest, await self._text(call, latest))

    async def register(self, call: Call) -> dict[str, Any]:
        offer, body = call.offer()
        entry = await self._registrar.register(
            new_subject(self._subject(call)),
            offer,
            normalize=call.flag("normalize"),
            version=body.version or 0,
            schema_id=-1 if body.id is None else body.id,
            force=call.flag("force"),
        )
        found = described(entry, await self._text(call, entry))
        del found["subject"]
        return found

    async def look_up(self, call: Call) -> dict[str, Any]:
        offer, _ = call.offer()
        await self._store.catch_up()
        entry = await self._registrar.look_up(
            self._subject(call), offer, normalize=call.flag("normalize"), deleted=call.flag("deleted")
        )
        return described(entry, await self._text(call, entry))

    async def delete_subject(self, call: Call) -> list[int]:
        return await self._remover.delete_subject(self._subject(call), permanent=call.flag("permanent"))

    async def delete_version(self, call: Call) -> int:
        subject, version = self._subject(call), call.version()
        return await self._remover.delete_version(subject, version, permanent=call.flag("permanent"))

    async def check(self, call: Call) -> dict[str, Any]:
        (offer, _), version = call.offer(), call.version()
        await self._store.catch_up()
        judging = self._registrar.check(self._subject(call), offer, version, normalize=call.flag("normalize"))
        return await _verdict(call, judging)

    async def check_all(self, call: Call) -> dict[str, Any]:
        offer, _ = call.offer()
        await self._store.catch_up()
        judging = self._registrar.check_all(self._subject(call), offer, normalize=call.flag("normalize"))
        return await _verdict(call, judging)

    def _subject(self, call: Call) -> str:
        return self._behind_alias(call.subject())

    def _behind_alias(self, subject: str) -> str:
        config = self._catalog.config(subject)
        return config.alias if config is not None and config.alias else subject

    async def _version(self, call: Call) -> SchemaRecord:
        number = call.version()
        await self._store.catch_up()
        return self._catalog.version(self._subject(call), number, deleted=call.flag("deleted"))

    async def _with_id(self, call: Call) -> SchemaRecord:
        """The version that `subject` asks for if it has this id, else any with it."""
        schema_id = call.number("id")
        if self._catalog.with_id(schema_id) is None or call.flag("fetchMaxId") or call.query.get("subject"):
            # An id means the same for ever: only for an unknown one may the topic know more.
            await self._store.catch_up()
        any_use = self._catalog.with_id(schema_id) or schema_not_found(schema_id)
        subject = self._behind_alias(plain_subject(call.query.get("subject", "")))
        return self._catalog.find(subject, schema_id, deleted=True) or any_use

    def _with_guid(self, call: Call) -> SchemaRecord | None:
        schema_id = self._catalog.id_of(call.params["guid"].lower())
        return None if schema_id is None else self._catalog.with_id(schema_id)

    async def _uses(self, call: Call) -> Sequence[SchemaRecord]:
        schema_id = call.number("id")
        await self._store.catch_up()
        return self._catalog.uses(schema_id, deleted=call.flag("deleted"))

    async def _text(self, call: Call, entry: SchemaRecord) -> str:
        """The schema as `format` asks for it; formats that it does not have are as if nothing was asked."""
        if call.query.get("findTags"):
            not_served("findTags")
        form = call.query.get("format", "")
        if not form:
            return entry.schema
        referred = offers.closure(self._catalog, entry.references, deleted=True)
        size = len(entry.schema) + sum(map(len, referred))

        def formatted() -> str:
            try:
                return offers.stored(entry, referred).formatted(form) or entry.schema
            except formats.InvalidSchema:
                return entry.schema  # what a foreign registry let pass has no other form

        return await offers.apart(size, formatted)


def described(entry: SchemaRecord, text: str | None = None) -> dict[str, Any]:
    """A version as Confluent's registry writes it; what is empty is left out."""
    found: dict[str, Any] = {"subject": entry.subject, "version": entry.version, "id": entry.id, "guid": entry.guid}
    found["schemaType"] = entry.schemaType
    if entry.references:
        found["references"] = entry.references
    if entry.metadata is not None:
        found["metadata"] = entry.metadata
    found["schema"] = entry.schema if text is None else text
    return found | ({"deleted": True} if entry.deleted else {})


async def _verdict(call: Call, judging: Any) -> dict[str, Any]:
    verbose = call.flag("verbose")
    try:
        reasons: list[str] = await judging
    except Refusal as refusal:
        # Asked for everything that speaks against a schema, Confluent's registry counts this in.
        if refusal.code != 42201 or not verbose:
            raise
        reasons = [refusal.message]
    return {"is_compatible": not reasons} | ({"messages": reasons} if verbose else {})
