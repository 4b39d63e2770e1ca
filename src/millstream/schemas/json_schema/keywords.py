"""The keywords of JSON Schema that say something of a value's own type, and what may stand in them."""

from decimal import Decimal
from typing import Any, TypeVar

from millstream.schemas.formats import InvalidSchema

T = TypeVar("T")

KINDS = {"integer": "number"} | {name: name for name in ("string", "number", "boolean", "null", "array", "object")}
"""The kind of node that stands for a `type`."""

SINGLE = {
    "string": ("maxLength", "minLength", "pattern"),
    "number": ("maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf"),
    "array": ("maxItems", "minItems", "uniqueItems", "maxContains", "minContains"),
    "object": ("maxProperties", "minProperties"),
}
"""Keywords that hold a single value, by kind of node."""

GROUPS = {
    "array": frozenset(
        {
            "items",
            "prefixItems",
            "additionalItems",
            "unevaluatedItems",
            "maxItems",
            "minItems",
            "uniqueItems",
            "contains",
        }
    ),
    "object": frozenset(
        {"properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "required"}
    )
    | {"propertyNames", "dependencies", "dependentRequired", "dependentSchemas", "maxProperties", "minProperties"},
    "number": frozenset(SINGLE["number"]),
    "string": frozenset(SINGLE["string"]),
}
"""Keywords that speak of one kind even where no `type` does."""


def limits(kind: str, tree: dict[str, Any], *, modern: bool) -> dict[str, Any]:
    """The keywords of this kind that hold a single value.

    >>> limits("number", {"minimum": 0, "exclusiveMinimum": True}, modern=False)
    {'minimum': 0, 'exclusiveMinimum': 0}
    """
    found = {keyword: tree[keyword] for keyword in SINGLE.get(kind, ()) if keyword in tree}
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        # Draft 4 has a boolean that says how `minimum` and `maximum` are meant.
        if isinstance(found.get(exclusive), bool) and found.pop(exclusive) and bound in found:
            found[exclusive] = found[bound]
    if found.get("uniqueItems") is False:
        del found["uniqueItems"]
    if modern and kind == "array" and "contains" in tree:
        found.setdefault("minContains", 1)
    for keyword, value in found.items():
        _check(keyword, value)
    return found


def pick(tree: dict[str, Any], keyword: str, wanted: type[T]) -> T:
    value = tree[keyword]
    if not isinstance(value, wanted):
        raise InvalidSchema(f"{keyword} cannot be {str(value)[:100]}")
    return value


def schemas_by_name(tree: dict[str, Any], keyword: str) -> dict[str, Any]:
    return pick(tree, keyword, dict) if keyword in tree else {}


def schemas_in_order(tree: dict[str, Any]) -> list[Any]:
    """The schemas of the first items of an array, one by one; `items` said so before there was `prefixItems`."""
    keyword = "prefixItems" if "prefixItems" in tree else "items"
    return pick(tree, keyword, list) if isinstance(tree.get(keyword), list) or keyword == "prefixItems" else []


def names(value: Any, keyword: str) -> list[str]:
    # Drafts 3 and before had a boolean `required` in each property, and it is still found in the wild.
    if keyword == "required" and isinstance(value, bool):
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidSchema(f"{keyword} must be an array of strings")
    return value


def _check(keyword: str, value: Any) -> None:
    if keyword == "pattern":
        right = isinstance(value, str)
    elif keyword == "uniqueItems":
        right = value is True
    else:
        right = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if not right:
        raise InvalidSchema(f"{keyword} cannot be {str(value)[:100]}")
