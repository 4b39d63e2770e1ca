"""The drafts of JSON Schema, and whether a text keeps to the one that it names.

A schema is held against its draft's meta-schema level by level, each kind of level once: that is the same as holding it
against the meta-schema whole, which takes many seconds for 1 MB.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.json_schema.text import dumps

MAX_DEPTH = 100
"""The depth to which schemas may be nested in each other."""

MAX_SHAPES = 2_000
"""The number of kinds of levels that a text may have; honest ones have some hundred, each takes up to a millisecond."""

DRAFT_4, DRAFT_6, DRAFT_7, DRAFT_2019, DRAFT_2020 = "4", "6", "7", "2019-09", "2020-12"

VALIDATORS: dict[str, type[Validator]] = {
    DRAFT_4: jsonschema.Draft4Validator,
    DRAFT_6: jsonschema.Draft6Validator,
    DRAFT_7: jsonschema.Draft7Validator,
    DRAFT_2019: jsonschema.Draft201909Validator,
    DRAFT_2020: jsonschema.Draft202012Validator,
}
MODERN = frozenset({DRAFT_2019, DRAFT_2020})
"""Those in which what stands beside a `$ref` counts, and in which there are `unevaluated…` and `minContains`."""

ONE = (
    *("additionalProperties", "additionalItems", "items", "contains", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)
"""Keywords that hold a schema."""
MANY = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
"""Keywords that hold an array of schemas."""
NAMED = ("properties", "patternProperties", "definitions", "$defs", "dependentSchemas", "dependencies")
"""Keywords that hold schemas by name."""

_COUNTS = frozenset(f"{end}{of}" for end in ("min", "max") for of in ("Length", "Items", "Properties", "Contains"))
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
_TEXTS = frozenset({"title", "description", "$comment", "pattern", "format", "contentMediaType", "contentEncoding"})
_ANY = frozenset({"default", "const"})
_VERBATIM = frozenset(
    {"$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$vocabulary", "type", "uniqueItems"}
    | {"dependentRequired", "readOnly", "writeOnly", "deprecated"}
)


def draft_of(tree: Any) -> str:
    """The draft that a schema's `$schema` names; the seventh if it names none or one that is not known.

    >>> draft_of({"$schema": "https://json-schema.org/draft/2020-12/schema"})
    '2020-12'
    >>> draft_of(True)
    '7'
    """
    name = tree.get("$schema") if isinstance(tree, dict) else None
    if not isinstance(name, str):
        return DRAFT_7
    path = name.removesuffix("#").rpartition("json-schema.org/")[2]
    return _PATHS.get(path, DRAFT_7)


_PATHS = {f"draft-0{n}/schema": n for n in (DRAFT_4, DRAFT_6, DRAFT_7)} | {
    f"draft/{n}/schema": n for n in (DRAFT_2019, DRAFT_2020)
}


def check(tree: Any, draft: str) -> None:
    """Hold `tree` against the draft's meta-schema. Raises `InvalidSchema`."""
    validator = VALIDATORS[draft](VALIDATORS[draft].META_SCHEMA)
    known: set[str] = set()
    for level, where in _levels(tree):
        shape = _shape(level) if isinstance(level, dict) else level
        key = dumps(shape)
        if key in known:
            continue
        known.add(key)
        if len(known) > MAX_SHAPES:
            raise InvalidSchema(f"it is made of more than {MAX_SHAPES} kinds of schemas")
        for error in validator.iter_errors(shape):
            path = "/".join([where, *map(str, error.absolute_path)])
            raise InvalidSchema(f"#{path} is not as draft {draft} has it: {error.message[:200]}")


def _levels(tree: Any) -> Iterator[tuple[Any, str]]:
    """Every schema in a schema, and where it is."""
    pending = [(tree, "", 0)]
    while pending:
        level, where, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InvalidSchema(f"it is nested too deeply: more than {MAX_DEPTH} schemas in each other")
        yield level, where
        if isinstance(level, dict):
            pending += [(held, f"{where}/{place}", depth + 1) for place, held in _held(level)]


def _held(level: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for keyword in ONE:
        if isinstance(held := level.get(keyword), dict):
            yield keyword, held
    for keyword in MANY:
        if isinstance(held := level.get(keyword), list):
            yield from ((f"{keyword}/{i}", one) for i, one in enumerate(held) if isinstance(one, dict))
    for keyword in NAMED:
        if isinstance(held := level.get(keyword), dict):
            yield from ((f"{keyword}/{name}", one) for name, one in held.items() if isinstance(one, dict))


def _shape(level: dict[str, Any]) -> dict[str, Any]:
    """The parts of one level that the meta-schema can object to: what is plainly right in it looks alike everywhere."""
    return {keyword: _outline(keyword, level[keyword]) for keyword in sorted(level) if keyword in _KNOWN}


def _outline(keyword: str, value: Any) -> Any:
    if keyword in _ANY:
        return None
    if keyword in _COUNTS and type(value) is int and value >= 0:
        return 1
    if keyword in _NUMBERS and type(value) in (int, Decimal) and (keyword != "multipleOf" or value > 0):
        return 1
    if keyword in ("$id", "id") and isinstance(value, str) and "#" not in value:
        return "x"
    if keyword in _TEXTS and isinstance(value, str):
        return ""
    if keyword == "$ref" and isinstance(value, str):
        return "#"
    if keyword == "required" and isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value if len(set(value)) < len(value) else value[:1] and ["a"]
    if keyword in ("enum", "examples") and isinstance(value, list):
        return value[:1] and [None]
    if keyword in MANY and isinstance(value, list):
        return sorted({dumps(_hidden(one)): _hidden(one) for one in value}.values(), key=dumps)
    if keyword in NAMED and isinstance(value, dict):
        kinds = {dumps(_hidden(one)): _hidden(one) for one in value.values()}
        return {str(i): kinds[kind] for i, kind in enumerate(sorted(kinds))}
    return _hidden(value) if keyword in ONE else value


def _hidden(held: Any) -> Any:
    """A schema in a schema is another level."""
    return {} if isinstance(held, dict) else held


_KNOWN = frozenset({*ONE, *MANY, *NAMED, *_COUNTS, *_NUMBERS, *_TEXTS, *_ANY, *_VERBATIM}) | {
    *("$ref", "$dynamicRef", "$recursiveRef", "required", "enum", "examples")
}
