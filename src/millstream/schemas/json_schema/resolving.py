"""The target of a `$ref`: into the schema itself, to one that it was registered with by name, or to a meta-schema."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

from jsonschema_specifications import REGISTRY
from referencing import Registry, Resource, Specification
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.json_schema import drafts

_SPECIFICATIONS: dict[str, Specification[Any]] = {
    drafts.DRAFT_4: DRAFT4,
    drafts.DRAFT_6: DRAFT6,
    drafts.DRAFT_7: DRAFT7,
    drafts.DRAFT_2019: DRAFT201909,
    drafts.DRAFT_2020: DRAFT202012,
}
_META_SCHEMAS: Registry[Any] = REGISTRY


class Place:
    """A point in a schema from which references are followed."""

    def __init__(self, resolver: Any, root: Any, draft: str) -> None:
        self._resolver = resolver
        self._root = root
        self._draft = draft

    def within(self, tree: dict[str, Any]) -> "Place":
        """The place of a schema inside this one, which may have an identifier of its own."""
        if not isinstance(tree.get(id_keyword(self._draft)), str):
            return self
        return Place(self._resolver.in_subresource(_resource(tree, self._draft)), self._root, self._draft)

    def follow(self, ref: str) -> tuple[Any, "Place"]:
        """The schema at `ref`. Raises `InvalidSchema`."""
        name = ref.removeprefix("./")
        # Confluent's registry finds names whatever the identifier around them, and definitions under either keyword.
        for resolver in [self._resolver] if ref.startswith("#") else [self._resolver, self._root]:
            for spelling in (name, name.replace("#/$defs/", "#/definitions/", 1)):
                try:
                    found = resolver.lookup(spelling)
                except (Unresolvable, ValueError, TypeError, AttributeError, KeyError):  # tried in another spelling
                    continue
                return found.contents, Place(found.resolver, self._root, self._draft)
        raise InvalidSchema(
            f"the $ref {ref!r} leads nowhere; register what it means before, and refer to it by this name"
        )


def place_of(tree: Any, draft: str, referred: Iterable[tuple[str, Any]]) -> Place:
    """The root of `tree`, from which `referred`, trees by name, are found. Raises `InvalidSchema`."""
    own = tree.get(id_keyword(draft)) if isinstance(tree, dict) else None
    base = own if isinstance(own, str) else ""
    try:
        named = [(name, _resource(other, drafts.draft_of(other))) for name, other in referred]
        named += [(urljoin(base, name), other) for name, other in named if base]
        registry = _META_SCHEMAS.with_resources(named).with_resource(base, _resource(tree, draft)).crawl()
        return Place(registry.resolver(base), registry.resolver(), draft)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidSchema(f"an identifier in it is none: {error}") from None


def id_keyword(draft: str) -> str:
    return "id" if draft == drafts.DRAFT_4 else "$id"


def _resource(tree: Any, draft: str) -> Resource[Any]:
    return Resource(contents=tree, specification=_SPECIFICATIONS[draft])
