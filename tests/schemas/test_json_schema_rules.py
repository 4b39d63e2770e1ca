"""Who can read whose JSON: each rule of Confluent's registry, and what it says of open and closed content models.

The rules are those of https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-json.html
by the names that the registry gives to differences; https://yokota.blog/2021/03/29/understanding-json-schema-compatibility/
by its author explains the content models. What a keyword means is from https://json-schema.org/specification.
"""

import json
from typing import Any

import pytest

from millstream.schemas.json_schema.reading import read
from millstream.schemas.json_schema.rules import differences
from millstream.schemas.json_schema.text import loads

LAX = "A value that has become less strict can be read"
STRICT = "A value that has become stricter cannot always be read"
OPEN = "Under an open content model (no additionalProperties) anything may have been written: only {} may be added"
CLOSED = "To a closed content model (additionalProperties: false) optional properties may be added, and none removed"
PARTLY = (
    "A partially open content model (a schema or a pattern for the rest) covers what comes and goes if the schemas fit"
)
REQUIRED = "What is newly required must have a default"
SUM = "A sum (anyOf, oneOf) may get more parts and not fewer"
PRODUCT = "A product (allOf) may get fewer parts and not more"
PARTS = "Each part of the smaller side must stand for another part of the other"
NOT = "What a `not` refuses may only become narrower"
TYPES = "A type may not change, but integer may become number, and anything may become the empty schema"
ENUM = "An enum may get more values and not fewer"
TUPLE = "Items by position have a content model, too: additionalItems, or items beside prefixItems"
SAME = "What only describes may change"
DEPENDS = "What depends on a property being there may become less"
MODERN = "2019-09 and 2020-12 have unevaluated…, minContains, dependentRequired and prefixItems"


def properties(*, required: tuple[str, ...] = (), **of: Any) -> dict[str, Any]:
    return {"type": "object", "properties": of} | ({"required": list(required)} if required else {})


def closed(*, required: tuple[str, ...] = (), **of: Any) -> dict[str, Any]:
    return {**properties(required=required, **of), "additionalProperties": False}


def partly(rest: Any, **of: Any) -> dict[str, Any]:
    return {**properties(**of), "additionalProperties": rest}


def patterned(pattern: str, schema: Any, **of: Any) -> dict[str, Any]:
    return {**closed(**of), "patternProperties": {pattern: schema}}


def items(*of: Any, rest: Any = True) -> dict[str, Any]:
    """An array that begins with a boolean, since there is no empty list of items, and goes on with `of`."""
    return {"type": "array", "items": [BOOLEAN, *of], "additionalItems": rest}


def text(**limits: Any) -> dict[str, Any]:
    return {"type": "string", **limits}


def number(**limits: Any) -> dict[str, Any]:
    return {"type": "number", **limits}


def array(**limits: Any) -> dict[str, Any]:
    return {"type": "array", **limits}


def obj(**limits: Any) -> dict[str, Any]:
    return {"type": "object", **limits}


def modern(**of: Any) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **of}


STRING, NUMBER, INTEGER, NULL, BOOLEAN = text(), number(), {"type": "integer"}, {"type": "null"}, {"type": "boolean"}
UP_TO = [
    (text, "maxLength", "MAX_LENGTH"),
    (number, "maximum", "MAXIMUM"),
    (number, "exclusiveMaximum", "EXCLUSIVE_MAXIMUM"),
    (obj, "maxProperties", "MAX_PROPERTIES"),
    (array, "maxItems", "MAX_ITEMS"),
]
FROM = [
    (text, "minLength", "MIN_LENGTH"),
    (number, "minimum", "MINIMUM"),
    (number, "exclusiveMinimum", "EXCLUSIVE_MINIMUM"),
    (obj, "minProperties", "MIN_PROPERTIES"),
    (array, "minItems", "MIN_ITEMS"),
]

# The rule, the reader, the writer, and what is different, none of which is in the way.
READABLE: list[tuple[str, Any, Any, list[str]]] = [
    *[(LAX, of(**{key: 9}), of(**{key: 5}), [f"{kind}_INCREASED /{key}"]) for of, key, kind in UP_TO],
    *[(LAX, of(**{key: 5}), of(**{key: 9}), [f"{kind}_DECREASED /{key}"]) for of, key, kind in FROM],
    *[(LAX, of(), of(**{key: 5}), [f"{kind}_REMOVED /{key}"]) for of, key, kind in UP_TO + FROM],
    (LAX, STRING, text(pattern="^a"), ["PATTERN_REMOVED /pattern"]),
    (LAX, NUMBER, number(multipleOf=5), ["MULTIPLE_OF_REMOVED /multipleOf"]),
    (LAX, number(multipleOf=5), number(multipleOf=10), ["MULTIPLE_OF_REDUCED /multipleOf"]),
    (LAX, number(multipleOf=0.1), number(multipleOf=0.3), ["MULTIPLE_OF_REDUCED /multipleOf"]),
    (LAX, array(), array(uniqueItems=True), ["UNIQUE_ITEMS_REMOVED /uniqueItems"]),
    (LAX, array(), array(items=STRING), ["SCHEMA_REMOVED /items"]),
    (LAX, array(items=NUMBER), array(items=INTEGER), ["TYPE_EXTENDED /items"]),
    (
        SAME,
        text(title="a", description="b", default="c"),
        STRING,
        ["TITLE_CHANGED", "DESCRIPTION_CHANGED", "DEFAULT_CHANGED"],
    ),
    (SAME, text(**{"$id": "http://example.com/new"}), text(**{"$id": "http://example.com/old"}), ["ID_CHANGED"]),
    (SAME, text(default=1), text(default=1.0), []),
    (SAME, text(format="email", examples=["a@b"], readOnly=True), STRING, []),
    (TYPES, NUMBER, INTEGER, ["TYPE_EXTENDED"]),
    (TYPES, {}, closed(a=STRING), []),
    (TYPES, True, STRING, []),
    (TYPES, STRING, False, []),
    (TYPES, number(**{"connect.type": "bytes"}), text(**{"connect.type": "bytes"}), []),
    (ENUM, {"enum": ["a", "b"]}, {"enum": ["a"]}, ["ENUM_ARRAY_EXTENDED /enum"]),
    (ENUM, {"enum": ["b", "a"]}, {"enum": ["a", "b"]}, []),
    (ENUM, {"enum": [1.0]}, {"enum": [1]}, []),
    (ENUM, STRING, text(enum=["a"]), ["PRODUCT_TYPE_NARROWED"]),
    (
        OPEN,
        properties(a=STRING),
        properties(a=STRING, b=STRING),
        ["PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL /properties/b"],
    ),
    (
        OPEN,
        properties(a=STRING, b={}),
        properties(a=STRING),
        ["PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL /properties/b"],
    ),
    (OPEN, properties(), closed(), ["ADDITIONAL_PROPERTIES_ADDED /additionalProperties"]),
    (
        CLOSED,
        closed(a=STRING, b=STRING),
        closed(a=STRING),
        ["OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/b"],
    ),
    (
        CLOSED,
        closed(a=STRING, b=text(default=""), required=("b",)),
        closed(a=STRING),
        ["REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/b"],
    ),
    (CLOSED, closed(), closed(a=False), ["PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL /properties/a"]),
    (
        PARTLY,
        partly(NUMBER, a=NUMBER),
        partly(INTEGER),
        [
            "TYPE_EXTENDED /properties/a",
            "PROPERTY_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/a",
            "OPTIONAL_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/a",
            "TYPE_EXTENDED /additionalProperties",
        ],
    ),
    (
        PARTLY,
        patterned("^n", NUMBER),
        closed(number=INTEGER),
        [
            "TYPE_EXTENDED /properties/number",
            "PROPERTY_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/number",
        ],
    ),
    (PARTLY, properties(), partly(STRING), ["ADDITIONAL_PROPERTIES_EXTENDED /additionalProperties"]),
    (PARTLY, partly(STRING), closed(), ["ADDITIONAL_PROPERTIES_ADDED /additionalProperties"]),
    (REQUIRED, properties(a=STRING), properties(a=STRING, required=("a",)), ["REQUIRED_ATTRIBUTE_REMOVED /required/a"]),
    (
        REQUIRED,
        properties(a=text(default=""), required=("a",)),
        properties(a=text(default="")),
        ["REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED /required/a"],
    ),
    (
        DEPENDS,
        {"dependencies": {}, "required": []},
        {"dependencies": {"a": ["b"]}},
        ["DEPENDENCY_ARRAY_REMOVED /dependencies/a"],
    ),
    (
        DEPENDS,
        {"dependencies": {"a": ["b"]}},
        {"dependencies": {"a": ["b", "c"]}},
        ["DEPENDENCY_ARRAY_NARROWED /dependencies/a"],
    ),
    (DEPENDS, {"dependencies": {}}, {"dependencies": {"a": obj()}}, ["DEPENDENCY_SCHEMA_REMOVED /dependencies/a"]),
    (SUM, {"oneOf": [STRING, NUMBER]}, {"oneOf": [STRING]}, ["SUM_TYPE_EXTENDED"]),
    (SUM, {"anyOf": [NUMBER, STRING]}, {"oneOf": [STRING, NUMBER]}, ["COMBINED_TYPE_EXTENDED"]),
    (SUM, {"anyOf": [NUMBER, NULL]}, INTEGER, ["TYPE_EXTENDED", "SUM_TYPE_EXTENDED"]),
    (SUM, {"type": ["string", "null"]}, STRING, ["SUM_TYPE_EXTENDED"]),
    (SUM, {"type": ["null", "string", "number"]}, {"type": ["string", "null"]}, ["SUM_TYPE_EXTENDED"]),
    (SUM, {"oneOf": [STRING, STRING]}, {"oneOf": [STRING]}, []),
    (SUM, STRING, {"oneOf": [STRING]}, []),
    (SUM, {"allOf": [STRING]}, {"oneOf": [STRING]}, ["COMBINED_TYPE_EXTENDED"]),
    (PRODUCT, {"allOf": [STRING]}, {"allOf": [STRING, {"minLength": 1}]}, ["PRODUCT_TYPE_NARROWED"]),
    (PRODUCT, STRING, {"allOf": [{"enum": ["a"]}, STRING]}, ["PRODUCT_TYPE_NARROWED"]),
    (
        PRODUCT,
        {"anyOf": [STRING]},
        {"allOf": [STRING, {"enum": ["a"]}]},
        ["COMBINED_TYPE_EXTENDED", "PRODUCT_TYPE_NARROWED"],
    ),
    (
        PARTS,
        {"anyOf": [number(maximum=9), number(maximum=5)]},
        {"anyOf": [number(maximum=5), number(maximum=9)]},
        [],
    ),
    (NOT, {"not": INTEGER}, {"not": NUMBER}, ["NOT_TYPE_NARROWED /not"]),
    (TUPLE, items(), items(STRING), ["ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL /items/1"]),
    (TUPLE, items({}), items(), ["ITEM_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL /items/1"]),
    (TUPLE, items(STRING, rest=False), items(rest=False), ["ITEM_ADDED_TO_CLOSED_CONTENT_MODEL /items/1"]),
    (
        TUPLE,
        items(rest=False),
        items(False, rest=False),
        ["ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL /items/1"],
    ),
    (
        TUPLE,
        items(NUMBER, rest=NUMBER),
        items(rest=NUMBER),
        ["ITEM_ADDED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /items/1"],
    ),
    (
        TUPLE,
        items(rest=NUMBER),
        items(NUMBER, rest=NUMBER),
        ["ITEM_REMOVED_IS_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /items/1"],
    ),
    (TUPLE, items(), items(rest=False), ["ADDITIONAL_ITEMS_ADDED /additionalItems"]),
    (TUPLE, items(), items(rest=STRING), ["ADDITIONAL_ITEMS_EXTENDED /additionalItems"]),
    (
        MODERN,
        modern(**obj()),
        modern(**obj(unevaluatedProperties=False)),
        ["UNEVALUATED_PROPERTIES_ADDED /unevaluatedProperties"],
    ),
    (
        MODERN,
        modern(**obj()),
        modern(**obj(unevaluatedProperties=STRING)),
        ["UNEVALUATED_PROPERTIES_EXTENDED /unevaluatedProperties"],
    ),
    (MODERN, modern(**array()), modern(**array(unevaluatedItems=False)), ["UNEVALUATED_ITEMS_ADDED /unevaluatedItems"]),
    (
        MODERN,
        modern(**array(contains=STRING)),
        modern(**array(contains=STRING, minContains=2)),
        ["MIN_CONTAINS_DECREASED /minContains"],
    ),
    (
        MODERN,
        modern(prefixItems=[NUMBER], items=False),
        modern(prefixItems=[INTEGER], items=False),
        ["TYPE_EXTENDED /items/0"],
    ),
    (
        MODERN,
        modern(dependentRequired={}),
        modern(dependentRequired={"a": ["b"]}),
        ["DEPENDENCY_ARRAY_REMOVED /dependencies/a"],
    ),
]

# The rule, the reader, the writer, and what is in the way.
UNREADABLE: list[tuple[str, Any, Any, list[str]]] = [
    *[(STRICT, of(**{key: 5}), of(**{key: 9}), [f"{kind}_DECREASED /{key}"]) for of, key, kind in UP_TO],
    *[(STRICT, of(**{key: 9}), of(**{key: 5}), [f"{kind}_INCREASED /{key}"]) for of, key, kind in FROM],
    *[(STRICT, of(**{key: 5}), of(), [f"{kind}_ADDED /{key}"]) for of, key, kind in UP_TO + FROM],
    (STRICT, text(pattern="^a"), STRING, ["PATTERN_ADDED /pattern"]),
    (STRICT, text(pattern="^a"), text(pattern="^b"), ["PATTERN_CHANGED /pattern"]),
    (STRICT, number(multipleOf=2), NUMBER, ["MULTIPLE_OF_ADDED /multipleOf"]),
    (STRICT, number(multipleOf=10), number(multipleOf=5), ["MULTIPLE_OF_EXPANDED /multipleOf"]),
    (STRICT, number(multipleOf=7), number(multipleOf=5), ["MULTIPLE_OF_CHANGED /multipleOf"]),
    (STRICT, array(uniqueItems=True), array(), ["UNIQUE_ITEMS_ADDED /uniqueItems"]),
    (STRICT, array(items=STRING), array(), ["SCHEMA_ADDED /items"]),
    (STRICT, array(items=INTEGER), array(items=NUMBER), ["TYPE_NARROWED /items"]),
    (TYPES, INTEGER, NUMBER, ["TYPE_NARROWED"]),
    (TYPES, STRING, NUMBER, ["TYPE_CHANGED"]),
    (TYPES, STRING, {}, ["TYPE_CHANGED"]),
    (TYPES, False, STRING, ["TYPE_CHANGED"]),
    (TYPES, properties(a=NULL), properties(a=STRING), ["TYPE_CHANGED /properties/a"]),
    (TYPES, array(items=STRING), array(items=BOOLEAN), ["TYPE_CHANGED /items"]),
    (ENUM, {"enum": ["a"]}, {"enum": ["a", "b"]}, ["ENUM_ARRAY_NARROWED /enum"]),
    (ENUM, {"enum": ["a", "c"]}, {"enum": ["a", "b"]}, ["ENUM_ARRAY_CHANGED /enum"]),
    (ENUM, {"enum": [True]}, {"enum": [1]}, ["ENUM_ARRAY_CHANGED /enum"]),
    (ENUM, {"const": 2}, {"const": 1}, ["ENUM_ARRAY_CHANGED /const"]),
    (ENUM, text(enum=["a"]), STRING, ["TYPE_CHANGED"]),
    (OPEN, properties(a=STRING), properties(), ["OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"]),
    (
        OPEN,
        properties(a=STRING, required=("a",)),
        properties(),
        ["REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        OPEN,
        properties(a=text(default=""), required=("a",)),
        properties(),
        ["REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (OPEN, closed(), properties(), ["ADDITIONAL_PROPERTIES_REMOVED /additionalProperties"]),
    (CLOSED, closed(), closed(a=STRING), ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL /properties/a"]),
    (
        CLOSED,
        closed(a=STRING, required=("a",)),
        closed(),
        ["REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        PARTLY,
        partly(STRING, a=NUMBER),
        partly(STRING),
        ["TYPE_CHANGED /properties/a", "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/a"],
    ),
    (
        PARTLY,
        patterned("^n", NUMBER),
        closed(n1=STRING),
        ["TYPE_CHANGED /properties/n1", "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /properties/n1"],
    ),
    (PARTLY, patterned("^n", NUMBER), closed(m=NUMBER), ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL /properties/m"]),
    (
        PARTLY,
        obj(patternProperties={"^n": NUMBER}),
        properties(m=NUMBER),
        ["PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL /properties/m"],
    ),
    (PARTLY, partly(STRING), properties(), ["ADDITIONAL_PROPERTIES_NARROWED /additionalProperties"]),
    (PARTLY, partly(STRING), partly(NUMBER), ["TYPE_CHANGED /additionalProperties"]),
    (REQUIRED, properties(a=STRING, required=("a",)), properties(a=STRING), ["REQUIRED_ATTRIBUTE_ADDED /required/a"]),
    (DEPENDS, {"dependencies": {"a": ["b"]}}, {"dependencies": {}}, ["DEPENDENCY_ARRAY_ADDED /dependencies/a"]),
    (
        DEPENDS,
        {"dependencies": {"a": ["b", "c"]}},
        {"dependencies": {"a": ["b"]}},
        ["DEPENDENCY_ARRAY_EXTENDED /dependencies/a"],
    ),
    (
        DEPENDS,
        {"dependencies": {"a": ["c"]}},
        {"dependencies": {"a": ["b"]}},
        ["DEPENDENCY_ARRAY_CHANGED /dependencies/a"],
    ),
    (DEPENDS, {"dependencies": {"a": obj()}}, {"dependencies": {}}, ["DEPENDENCY_SCHEMA_ADDED /dependencies/a"]),
    (DEPENDS, {"dependencies": {"a": STRING}}, {"dependencies": {"a": NUMBER}}, ["TYPE_CHANGED /dependencies/a"]),
    (SUM, {"oneOf": [STRING]}, {"oneOf": [STRING, NUMBER]}, ["SUM_TYPE_NARROWED"]),
    (SUM, {"type": ["string"]}, {"type": ["string", "null"]}, ["SUM_TYPE_NARROWED"]),
    (SUM, STRING, {"type": ["string", "null"]}, ["TYPE_CHANGED"]),
    (SUM, {"oneOf": [STRING]}, {"anyOf": [STRING, NUMBER]}, ["COMBINED_TYPE_CHANGED"]),
    (SUM, {"anyOf": [STRING, NULL]}, INTEGER, ["TYPE_CHANGED"]),
    (PRODUCT, {"allOf": [STRING, {"enum": ["a"]}]}, {"allOf": [STRING]}, ["PRODUCT_TYPE_EXTENDED"]),
    (PRODUCT, {"allOf": [STRING, {"enum": ["a"]}]}, STRING, ["TYPE_CHANGED"]),
    (PARTS, {"oneOf": [STRING, NUMBER]}, {"oneOf": [STRING, NULL]}, ["COMBINED_TYPE_SUBSCHEMAS_CHANGED"]),
    (
        PARTS,
        {"anyOf": [number(maximum=9), STRING]},
        {"anyOf": [number(maximum=5), number(maximum=7)]},
        ["COMBINED_TYPE_SUBSCHEMAS_CHANGED"],
    ),
    (NOT, {"not": NUMBER}, {"not": INTEGER}, ["NOT_TYPE_EXTENDED /not"]),
    (TUPLE, items(STRING), items(), ["ITEM_ADDED_TO_OPEN_CONTENT_MODEL /items/1"]),
    (TUPLE, items(rest=False), items(STRING, rest=False), ["ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL /items/1"]),
    (
        TUPLE,
        items(STRING, rest=NUMBER),
        items(rest=NUMBER),
        ["TYPE_CHANGED /items/1", "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /items/1"],
    ),
    (
        TUPLE,
        items(rest=NUMBER),
        items(STRING, rest=NUMBER),
        ["TYPE_CHANGED /items/1", "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL /items/1"],
    ),
    (TUPLE, items(rest=False), items(), ["ADDITIONAL_ITEMS_REMOVED /additionalItems"]),
    (TUPLE, items(rest=STRING), items(), ["ADDITIONAL_ITEMS_NARROWED /additionalItems"]),
    (
        MODERN,
        modern(**obj(unevaluatedProperties=False)),
        modern(**obj()),
        ["UNEVALUATED_PROPERTIES_REMOVED /unevaluatedProperties"],
    ),
    (
        MODERN,
        modern(**obj(unevaluatedProperties=STRING)),
        modern(**obj()),
        ["UNEVALUATED_PROPERTIES_NARROWED /unevaluatedProperties"],
    ),
    (
        MODERN,
        modern(**array(unevaluatedItems=False)),
        modern(**array()),
        ["UNEVALUATED_ITEMS_REMOVED /unevaluatedItems"],
    ),
    (
        MODERN,
        modern(**array(unevaluatedItems=STRING)),
        modern(**array()),
        ["UNEVALUATED_ITEMS_NARROWED /unevaluatedItems"],
    ),
    (MODERN, modern(**array(contains=STRING)), modern(**array()), ["MIN_CONTAINS_ADDED /minContains"]),
    (
        MODERN,
        modern(**array(contains=STRING, maxContains=2)),
        modern(**array(contains=STRING, maxContains=3)),
        ["MAX_CONTAINS_DECREASED /maxContains"],
    ),
    (MODERN, modern(prefixItems=[STRING]), modern(prefixItems=[NUMBER]), ["TYPE_CHANGED /items/0"]),
    (
        MODERN,
        modern(dependentSchemas={"a": obj()}),
        modern(dependentSchemas={}),
        ["DEPENDENCY_SCHEMA_ADDED /dependencies/a"],
    ),
]


def found(reader: Any, writer: Any, *, harmless: bool) -> list[str]:
    different = differences(*(read(loads(json.dumps(schema))) for schema in (reader, writer)))
    return [f"{of.kind} {of.path}".rstrip() for of in different if of.is_harmless is harmless]


@pytest.mark.parametrize(("rule", "reader", "writer", "different"), READABLE, ids=range(len(READABLE)))
def test_what_can_be_read(rule: str, reader: Any, writer: Any, different: list[str]) -> None:
    assert found(reader, writer, harmless=False) == [], rule
    assert found(reader, writer, harmless=True) == different, rule


@pytest.mark.parametrize(("rule", "reader", "writer", "misfits"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_and_why(rule: str, reader: Any, writer: Any, misfits: list[str]) -> None:
    assert found(reader, writer, harmless=False) == misfits, rule


def test_draft_4_says_by_a_boolean_whether_a_bound_is_its_own() -> None:
    """https://json-schema.org/draft-04/draft-fge-json-schema-validation-00#rfc.section.5.1.2"""
    draft_4 = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "maximum": 5}
    exclusive = {**draft_4, "exclusiveMaximum": True}
    assert found(exclusive, draft_4, harmless=False) == ["EXCLUSIVE_MAXIMUM_ADDED /exclusiveMaximum"]
    assert found(draft_4, exclusive, harmless=False) == []
    assert found({**draft_4, "exclusiveMaximum": False}, draft_4, harmless=False) == []


def test_a_schema_that_holds_itself_is_compared_to_its_end() -> None:
    tree = {
        "$ref": "#/definitions/tree",
        "definitions": {"tree": properties(left={"$ref": "#/definitions/tree"}, n=INTEGER)},
    }
    wider = {
        "$ref": "#/definitions/tree",
        "definitions": {"tree": properties(left={"$ref": "#/definitions/tree"}, n=NUMBER)},
    }
    assert found(wider, tree, harmless=False) == []
    assert found(tree, wider, harmless=False)[-1] == "TYPE_NARROWED /properties/n"


def test_what_was_assumed_of_a_pair_on_the_way_is_not_taken_for_known() -> None:
    """While `a` is compared, `b` holds it and seems to fit; then `a` turns out not to, and so does `b` beside it."""

    def knot(last: Any) -> dict[str, Any]:
        to_a, to_b = {"$ref": "#/definitions/a"}, {"$ref": "#/definitions/b"}
        a = properties(b={"anyOf": [to_b, NULL]}, n=last)
        return {
            **properties(a={"anyOf": [to_a, STRING]}, b={"anyOf": [to_b, STRING]}),
            "definitions": {"a": a, "b": properties(a={"anyOf": [to_a, NULL]})},
        }

    assert found(knot(NUMBER), knot(STRING), harmless=False) == [
        "COMBINED_TYPE_SUBSCHEMAS_CHANGED /properties/a",
        "COMBINED_TYPE_SUBSCHEMAS_CHANGED /properties/b",
    ]


def test_a_reference_is_what_it_leads_to() -> None:
    through = {"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/b"}, "b": STRING}}
    assert found(STRING, through, harmless=False) == found(through, STRING, harmless=False) == []
