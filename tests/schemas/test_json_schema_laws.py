"""What holds for all JSON Schemas, and for all values, as far as drawing them finds out.

The family that is drawn from is where the rules of Confluent are exact. They let some things pass that can go wrong: a
part of a `oneOf` more, which may match what another one does; something required that has a default; and they do not
look at `format`, `propertyNames`, `if`, nor at which patterns an object has.
"""

import json
from contextlib import suppress
from typing import Any

import jsonschema
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.schemas.json_schemas import DRAFTS, parse

from millstream.schemas.formats import InvalidSchema, TooMuch

pytestmark = pytest.mark.slow

NAMES = st.sampled_from("abc")
SMALL = st.integers(-1, 6)
COUNT = st.integers(0, 3)
LETTERS = st.text("ab", max_size=4)

SCALARS = st.one_of(LETTERS, SMALL, st.sampled_from([0.5, 2.5]), st.booleans(), st.none())
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)


def typed(*types: str, **limits: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.sampled_from(types)}, optional=limits)


LEAVES = st.one_of(
    typed("string", minLength=COUNT, maxLength=COUNT, pattern=st.sampled_from(["^a", "b"])),
    typed("integer", "number", minimum=SMALL, maximum=SMALL, multipleOf=st.sampled_from([1, 2, 3, 4])),
    typed("number", exclusiveMinimum=SMALL, exclusiveMaximum=SMALL),
    typed("boolean", "null"),
    st.lists(SCALARS, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    SCALARS.map(lambda value: {"const": value}),
    st.sampled_from([{}, True, False, {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}]),
)


def bigger(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Schemas that hold others, by kind."""
    rest = st.one_of(st.booleans(), inner)
    objects = st.builds(
        lambda schema, names: {**schema, "required": sorted(names & set(schema["properties"]))},
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(NAMES, inner, max_size=3)},
            optional={"additionalProperties": rest, "minProperties": COUNT, "maxProperties": COUNT},
        ),
        st.sets(NAMES),
    )
    arrays = typed("array", items=inner, minItems=COUNT, maxItems=COUNT, uniqueItems=st.booleans())
    tuples = typed("array", items=st.lists(inner, min_size=1, max_size=2), additionalItems=rest)
    parts = st.lists(inner, min_size=1, max_size=3)
    return {
        "objects": objects,
        "arrays": arrays,
        "tuples": tuples,
        "sums": parts.map(lambda of: {"anyOf": of}),
        "products": parts.map(lambda of: {"allOf": of}),
        "refusals": inner.map(lambda refused: {"not": refused}),
    }


SMALLER = st.one_of(LEAVES, *bigger(LEAVES).values())
KINDS = {"leaves": LEAVES, **bigger(SMALLER)}
SCHEMAS = st.one_of(*KINDS.values())


@st.composite
def edited(draw: st.DrawFn, schema: Any) -> Any:
    """What somebody could make of a schema: something more, something less, something else."""
    if not isinstance(schema, dict) or not schema or draw(st.integers(0, 6)) == 0:
        return draw(st.one_of(st.just(schema), SCHEMAS, st.just({"anyOf": [schema, {"type": "null"}]}), st.just({})))
    new = {key: draw(edited_keyword(key, held)) for key, held in schema.items()}
    new = {
        key: held for key, held in new.items() if key in ("type", "properties", "required") or draw(st.integers(0, 5))
    }
    if "properties" in new:
        new["required"] = [name for name in new["required"] if name in new["properties"] and draw(st.booleans())]
        if draw(st.integers(0, 3)) == 0:
            new["additionalProperties"] = draw(st.booleans())
    return new


def edited_keyword(key: str, held: Any) -> st.SearchStrategy[Any]:
    limit = isinstance(held, int) and not isinstance(held, bool) and key != "const"
    match held:
        case dict() if key == "properties":
            kept = st.fixed_dictionaries({}, optional={name: edited(of) for name, of in held.items()})
            return st.builds(lambda old, new: old | new, kept, st.just({}) | st.dictionaries(NAMES, LEAVES, max_size=1))
        case list() if key in ("items", "anyOf", "allOf"):
            return st.builds(lambda old, new: [*old, *new], st.tuples(*map(edited, held)), st.lists(LEAVES, max_size=1))
        case list() if key == "enum":
            return st.just(held[1:] or held) | SCALARS.map(lambda value: [*held, value]) | st.just(held)
        case dict() | bool() if key in ("items", "not", "additionalProperties", "additionalItems"):
            return edited(held)
        case _ if limit:
            return st.just(held) | st.integers(-2, 2).map(lambda by: max(1 if key == "multipleOf" else 0, held + by))
        case "integer":
            return st.sampled_from(["integer", "number"])
        case _:
            return st.just(held)


def fitting(schema: Any) -> st.SearchStrategy[Any]:
    """Values of which many are as the schema wants them."""
    match schema:
        case {"enum": values}:
            return st.sampled_from(values)
        case {"const": value}:
            return st.just(value)
        case {"anyOf": [*parts]} | {"allOf": [*parts]}:
            return st.one_of(*map(fitting, parts))
        case {"type": "string"}:
            return LETTERS
        case {"type": "integer" | "number"}:
            return SMALL | st.sampled_from([0.5, 2.5])
        case {"type": "array", "items": [*positions]}:
            known = st.tuples(*map(fitting, positions)).map(list)
            return st.builds(lambda first, rest: first + rest, known, st.lists(VALUES, max_size=1))
        case {"type": "array"}:
            return st.lists(fitting(schema.get("items", True)), max_size=3)
        case {"type": "object", "properties": of}:
            known = st.fixed_dictionaries({}, optional={name: fitting(held) for name, held in of.items()})
            return st.builds(
                lambda more, own: more | own, st.just({}) | st.dictionaries(NAMES, VALUES, max_size=1), known
            )
        case _:
            return VALUES


def misfits(reader: Any, writer: Any) -> list[str]:
    return parse(reader).misfits(parse(writer))


@given(SCHEMAS, st.sampled_from(["6", "7"]))
def test_every_schema_can_read_its_own_data(schema: Any, draft: str) -> None:
    if isinstance(schema, dict):
        schema = {"$schema": DRAFTS[draft], **schema}
    assert misfits(schema, schema) == []
    assert misfits({"title": "anything"}, schema) == []


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150)
@given(data=st.data())
def test_what_is_said_to_be_readable_is(kind: str, data: st.DataObject) -> None:
    writer = data.draw(KINDS[kind], "writer")
    reader = data.draw(edited(writer), "reader")
    found = misfits(reader, writer)
    event("compatible, and not the same" if not found and reader != writer else "the same or incompatible")
    if found or reader == writer:
        return
    may_write, can_read = (jsonschema.Draft7Validator(schema) for schema in (writer, reader))
    for value in data.draw(st.lists(VALUES | fitting(writer), min_size=10, max_size=30), "values"):
        if may_write.is_valid(value):
            assert can_read.is_valid(value), value


@given(SCHEMAS)
def test_the_form_that_is_kept_is_its_own(schema: Any) -> None:
    parsed = parse(schema)
    assert parse(parsed.canonical).canonical == parsed.canonical
    assert parse(parsed.normalized()).normalized() == parsed.normalized()
    assert parse(parsed.normalized()).means_the_same_as(parsed)
    assert json.loads(parsed.normalized()) == json.loads(parsed.canonical) == schema


KEYWORDS = (
    *(
        "$schema",
        "$id",
        "id",
        "$ref",
        "$anchor",
        "$defs",
        "definitions",
        "type",
        "enum",
        "const",
        "properties",
        "required",
    ),
    *(
        "patternProperties",
        "additionalProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "anyOf",
        "allOf",
        "oneOf",
    ),
    *(
        "not",
        "if",
        "contains",
        "dependencies",
        "dependentRequired",
        "minimum",
        "exclusiveMinimum",
        "multipleOf",
        "pattern",
    ),
)
WORDS = st.sampled_from(
    ["#", "#/properties/a", "a", "string", "object", "http://x.example/a#b", "::", "(", *DRAFTS.values()]
)
TREES = st.recursive(
    st.one_of(WORDS, SMALL, st.booleans(), st.none(), st.sampled_from([1e300, 0.1])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=4),
        st.dictionaries(NAMES, inner, max_size=2),
    ),
    max_leaves=15,
)


@settings(max_examples=400)
@given(TREES, TREES, st.booleans())
def test_whatever_is_sent_is_read_or_refused(one: Any, other: Any, as_new: bool) -> None:
    with suppress(InvalidSchema, TooMuch):
        reader, writer = parse(one, ("a", other), as_new=as_new), parse(other, ("a", True), as_new=as_new)
        assert reader.misfits(reader) == []
        assert all(misfit % {"reader": "new", "writer": "old"} for misfit in reader.misfits(writer))
        assert reader.means_the_same_as(reader)
        whole = reader.formatted("resolved")
        assert whole is not None
