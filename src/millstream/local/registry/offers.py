"""Schemas as they come in requests, understood with what they refer to."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from millstream.local.registry.catalog import Catalog
from millstream.local.registry.errors import Refusal, invalid_schema, schema_too_large
from millstream.local.registry.records import Metadata, Reference, SchemaRecord, fingerprint
from millstream.schemas import formats
from millstream.schemas.formats import Parsed, Referred

T = TypeVar("T")

SMALL = 16 * 1024
"""Characters of schema that are read at once; more are read on a thread, for the broker lives in the same loop."""
MAX_REFERRED = 500
MAX_REFERRED_CHARACTERS = 4 * 1024 * 1024


@dataclass(frozen=True)
class Offer:
    """A schema that somebody wants to register, look up or have judged."""

    text: str
    type: str = "AVRO"
    references: tuple[Reference, ...] = ()
    metadata: Metadata | None = None


@dataclass(frozen=True)
class Understood:
    """An offer in its one form: `text` is what is stored."""

    offer: Offer
    parsed: Parsed
    text: str

    def guid(self, metadata: Metadata | None) -> str:
        return fingerprint(self.text, self.offer.references, metadata)


async def understand(catalog: Catalog, offer: Offer, *, normalize: bool, as_new: bool) -> Understood:
    """`offer` in the form that is stored.

    Raises `Refusal` 42201 for what is no schema or refers to what is not there, 42209 for what refers to too much.
    """
    if not offer.text.strip():
        raise Refusal(42201, "Empty schema")
    references = tuple(_numbered(catalog, reference, deleted=not as_new) for reference in offer.references)
    if normalize:
        references = tuple(sorted(set(references), key=lambda of: (of.name, of.subject, of.version)))
    referred = closure(catalog, references, deleted=not as_new)

    def judge() -> Understood:
        parsed = _parse(offer.type, offer.text, referred, as_new)
        text = parsed.normalized() if normalize else parsed.canonical
        if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            raise formats.InvalidSchema("it has half a character, a lone surrogate, which nobody could write down")
        return Understood(settled, parsed, text)

    settled = Offer(offer.text, offer.type, references, offer.metadata)
    try:
        return await apart(len(offer.text) + sum(map(len, referred)), judge)
    except formats.InvalidSchema as error:
        invalid_schema(error)


def stored(entry: SchemaRecord, referred: tuple[Referred, ...]) -> Parsed:
    """A version that is in the catalog, with the `closure` of its references.

    Raises `formats.InvalidSchema` for one that a foreign registry let pass.
    """
    return _parse(entry.schemaType, entry.schema, referred, False)


async def apart(size: int, work: Callable[[], T]) -> T:
    """Do `work`, on a thread if it is about more characters than can be read between two requests to the broker."""
    return work() if size <= SMALL else await asyncio.to_thread(work)


def closure(catalog: Catalog, references: Iterable[Reference], *, deleted: bool) -> tuple[Referred, ...]:
    """Everything that these refer to, directly or not, each after what it refers to itself."""
    texts: dict[tuple[str, int], str] = {}
    names: dict[tuple[str, int], dict[str, None]] = {}
    pending: list[tuple[Reference, bool]] = [(reference, False) for reference in reversed(tuple(references))]
    visited: set[tuple[str, int]] = set()
    characters = 0
    while pending:
        reference, children_are_done = pending.pop()
        entry = _found(catalog, reference, deleted=deleted)
        place = (entry.subject, entry.version)
        names.setdefault(place, {})[reference.name] = None
        if children_are_done:
            texts[place] = entry.schema
        elif place not in visited:
            visited.add(place)
            characters += len(entry.schema)
            if len(visited) > MAX_REFERRED or characters > MAX_REFERRED_CHARACTERS:
                schema_too_large(
                    f": it refers to more than {MAX_REFERRED} schemas or {MAX_REFERRED_CHARACTERS} characters"
                )
            pending.append((reference, True))
            pending += [(child, False) for child in reversed(entry.references)]
    return tuple(Referred(text, tuple(names[place])) for place, text in texts.items())


def _numbered(catalog: Catalog, reference: Reference, *, deleted: bool) -> Reference:
    """The reference with the version that -1, the latest, stands for now."""
    entry = _found(catalog, reference, deleted=deleted)
    return Reference(reference.name, reference.subject, entry.version)


def _found(catalog: Catalog, reference: Reference, *, deleted: bool) -> SchemaRecord:
    number = None if reference.version == -1 else reference.version
    try:
        return catalog.version(reference.subject, number, deleted=deleted)
    except Refusal:
        invalid_schema(
            f'no schema reference found for subject "{reference.subject}" and version {reference.version}; '
            "register what a schema refers to before it"
        )


def _parse(schema_type: str, text: str, referred: tuple[Referred, ...], as_new: bool) -> Parsed:
    # Remembered for the next comparison, but hostile giants must not fill the memory.
    small = len(text) + sum(map(len, referred)) <= SMALL
    return (_remembered if small else _remembered_giants)(schema_type, text, referred, as_new)


def _parse_now(schema_type: str, text: str, referred: tuple[Referred, ...], as_new: bool) -> Parsed:
    return formats.find(schema_type).parse(text, referred, as_new=as_new)


_remembered = lru_cache(maxsize=512)(_parse_now)
_remembered_giants = lru_cache(maxsize=2)(_parse_now)
