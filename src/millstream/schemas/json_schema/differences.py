"""The kinds of differences between two schemas, by the names that Confluent's registry gives them.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-json.html
"""

from collections.abc import Iterable
from dataclasses import dataclass

MAX_TOLD = 100
"""As many are told; a type that is used in many places has its own in each of them."""


@dataclass(frozen=True)
class Difference:
    """One difference of the reader's schema; `path` is where, as Confluent writes it."""

    kind: str
    path: str = ""
    detail: str = ""

    @property
    def is_harmless(self) -> bool:
        """Return whether all that the writer's schema allows can still be read."""
        return self.kind in HARMLESS

    def under(self, path: str) -> "Difference":
        return Difference(self.kind, path + self.path, self.detail) if path else self


def fits(found: Iterable[Difference]) -> bool:
    return all(difference.kind in HARMLESS for difference in found)


def kept(found: list[Difference]) -> list[Difference]:
    """As many as are worth telling; schemas that meet again and again would have more than memory holds."""
    if len(found) <= MAX_TOLD:
        return found
    harmful = [difference for difference in found if not difference.is_harmless]
    return harmful[:MAX_TOLD] or found[:MAX_TOLD]


def _each(kinds: str, *changes: str) -> set[str]:
    return {f"{kind}_{change}" for kind in kinds.split() for change in changes}


HARMLESS = frozenset(
    _each("ID DESCRIPTION TITLE DEFAULT", "CHANGED")
    | {"SCHEMA_REMOVED", "TYPE_EXTENDED", "PATTERN_REMOVED", "UNIQUE_ITEMS_REMOVED", "ENUM_ARRAY_EXTENDED"}
    | _each("MAX_LENGTH MAXIMUM EXCLUSIVE_MAXIMUM MAX_PROPERTIES MAX_ITEMS MAX_CONTAINS", "INCREASED", "REMOVED")
    | _each("MIN_LENGTH MINIMUM EXCLUSIVE_MINIMUM MIN_PROPERTIES MIN_ITEMS MIN_CONTAINS", "DECREASED", "REMOVED")
    | _each("MULTIPLE_OF", "REDUCED", "REMOVED")
    | {"REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED", "REQUIRED_ATTRIBUTE_REMOVED"}
    | {"DEPENDENCY_ARRAY_NARROWED", "DEPENDENCY_ARRAY_REMOVED", "DEPENDENCY_SCHEMA_REMOVED"}
    | _each("ADDITIONAL_PROPERTIES UNEVALUATED_PROPERTIES ADDITIONAL_ITEMS UNEVALUATED_ITEMS", "ADDED", "EXTENDED")
    | _each("PROPERTY ITEM", "WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL", "REMOVED_FROM_OPEN_CONTENT_MODEL")
    | _each("PROPERTY ITEM", "WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL")
    | _each("PROPERTY_ADDED PROPERTY_REMOVED ITEM_ADDED ITEM_REMOVED", "IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL")
    | _each("REQUIRED_PROPERTY_WITH_DEFAULT OPTIONAL_PROPERTY", "ADDED_TO_UNOPEN_CONTENT_MODEL")
    | {"ITEM_ADDED_TO_CLOSED_CONTENT_MODEL"}
    | {"COMBINED_TYPE_EXTENDED", "PRODUCT_TYPE_NARROWED", "SUM_TYPE_EXTENDED", "NOT_TYPE_NARROWED"}
)
