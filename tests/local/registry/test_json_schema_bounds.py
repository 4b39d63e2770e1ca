"""What is hostile takes a moment, not minutes: the broker lives in the same process."""

import asyncio
import json
import time
from contextlib import suppress
from typing import Any

import pytest
from tests.schemas.json_schemas import DRAFTS, parse

from millstream.local.registry import offers
from millstream.local.registry.catalog import Catalog
from millstream.local.registry.judging import objections
from millstream.local.registry.offers import Offer
from millstream.local.registry.records import Config, SchemaRecord
from millstream.schemas.formats import InvalidSchema, TooMuch
from millstream.schemas.json_schema.content import MAX_PATTERNS
from millstream.schemas.json_schema.differences import MAX_TOLD
from millstream.schemas.json_schema.drafts import MAX_DEPTH, MAX_SHAPES
from millstream.schemas.json_schema.rules import MAX_STEPS

pytestmark = pytest.mark.slow

SECONDS = 60
CHAIN = {f"d{i}": {"$ref": f"#/definitions/d{i + 1}"} for i in range(20_000)} | {"d20000": {}}


def deep(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "{}" + closing * levels


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        deep('{"not":', "}", 90_000),
        deep('{"not":', "}", MAX_DEPTH + 1),
        json.dumps({"default": json.loads("[" * 300 + "]" * 300)}),
        json.dumps({"properties": {f"p{i}": {"type": ["string"] * i} for i in range(1, MAX_SHAPES + 2)}}),
        '{"minimum":' + "1" * 900_000 + "}",
        json.dumps({"$ref": "#"}),
        json.dumps({"$ref": "#/not", "not": {"$ref": "#"}}),
        json.dumps({f"p{i}": {"$ref": f"#a{i}"} for i in range(20_000)} | {"$ref": "#nowhere"}),
    ],
    ids=[
        "arrays",
        "schemas",
        "one too deep",
        "a deep default",
        "all kinds",
        "a long number",
        "itself",
        "a ring",
        "anchors",
    ],
)
def test_a_text_without_end_is_refused_soon(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidSchema):
        parse(text)
    assert time.process_time() - began < SECONDS


@pytest.mark.parametrize(
    "tree",
    [
        {"properties": {f"p{i}": {"type": "string", "description": f"the {i}th"} for i in range(15_000)}},
        {"$schema": DRAFTS["2020-12"], "anyOf": [{"required": [f"r{i}"], "minimum": i / 7} for i in range(15_000)]},
        {"$ref": "#/definitions/d0", "definitions": CHAIN},
        {"definitions": {f"d{i}": {"$id": f"http://x.example/{i}"} for i in range(20_000)}},
        {"enum": [{"a": i} for i in range(80_000)]},
        json.loads(deep('{"type":["array","null"],"items":', "}", MAX_DEPTH)),
        json.loads(deep('{"type":"object","properties":{"a":', "}}", MAX_DEPTH)),
        json.loads(deep('{"anyOf":[true,', "]}", MAX_DEPTH)),
    ],
    ids=["properties", "parts", "a chain of references", "identifiers", "an enum", "arrays", "objects", "choices"],
)
def test_a_big_schema_is_read_and_can_read_itself(tree: Any) -> None:
    began = time.process_time()
    schema, same = parse(tree), parse({**tree, "title": "the same"})
    if len(tree.get("anyOf", ())) < 500:
        assert same.misfits(schema) == []
    assert len(schema.normalized()) == len(schema.canonical)
    assert time.process_time() - began < SECONDS


def tower(floor: dict[str, Any], keyword: str, floors: int = 60) -> dict[str, Any]:
    """Each floor holds the one below twice: two to the power of sixty ways lead to the lowest."""

    def held(i: int) -> dict[str, Any]:
        below = {"$ref": f"#/definitions/d{i + 1}"}
        return {keyword: {"a": below, "b": below} if keyword == "properties" else [below, {"not": {}, **below}]}

    floors_by_name = {f"d{i}": held(i) for i in range(floors)} | {f"d{floors}": floor}
    return {"$ref": "#/definitions/d0", "definitions": floors_by_name}


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf", "properties"])
def test_what_is_used_everywhere_is_compared_once_and_not_told_everywhere(keyword: str) -> None:
    text, number = parse(tower({"type": "string"}, keyword)), parse(tower({"type": "number"}, keyword))
    began = time.process_time()
    assert text.misfits(text) == []
    assert 1 <= len(text.misfits(number)) <= MAX_TOLD
    assert time.process_time() - began < SECONDS


def knot(size: int, last: str) -> Any:
    """Every definition may be any other: a pair of them leads to all pairs."""
    every = [{"$ref": f"#/definitions/d{i}"} for i in range(size)]
    definitions = {f"d{i}": {"title": str(i), "anyOf": every} for i in range(size)} | {"d0": {"type": last}}
    return {"$ref": "#/definitions/d1", "definitions": definitions}


@pytest.mark.parametrize(
    ("reader", "writer", "why"),
    [
        (
            {"oneOf": [{"const": i} for i in range(4_000)]},
            {"oneOf": [{"const": -i} for i in range(4_000)]},
            str(MAX_STEPS),
        ),
        (knot(200, "string"), knot(200, "number"), str(MAX_STEPS)),
        (
            {"properties": {f"a{i}": {} for i in range(1_000)}, "additionalProperties": False},
            {"patternProperties": {f"(a+)+{i}$": {} for i in range(1_000)}, "additionalProperties": False},
            str(MAX_PATTERNS),
        ),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"patternProperties": {"^(?!b)a": {}}, "additionalProperties": False},
            "has to be tried",
        ),
    ],
    ids=["wide sums", "a knot", "patterns", "a pattern that looks ahead"],
)
def test_a_comparison_without_end_is_given_up_soon(reader: Any, writer: Any, why: str) -> None:
    new, old = parse(reader), parse(writer)
    began = time.process_time()
    with pytest.raises(TooMuch, match=why):
        new.misfits(old)
    assert time.process_time() - began < SECONDS


def short_knot(size: int, last: str) -> str:
    every = [{"$ref": f"#/d/{i}"} for i in range(size)]
    definitions = {f"{i}": {"anyOf": every} for i in range(size)} | {"0": {"type": last}}
    return json.dumps({"$ref": "#/d/1", "d": definitions}, separators=(",", ":"))


@pytest.mark.parametrize("size", [20, 30])
def test_a_short_schema_is_no_longer_compared_than_a_long_one(size: int) -> None:
    texts = short_knot(size, "string"), short_knot(size, "number")
    assert max(map(len, texts)) <= offers.SMALL
    new, old = (parse(json.loads(text)) for text in texts)
    began = time.process_time()
    with suppress(TooMuch):
        assert new.misfits(old)
    assert time.process_time() - began < SECONDS


def test_the_loop_goes_on_while_short_schemas_are_compared() -> None:
    async def compared() -> int:
        two = (Offer(short_knot(20, last), "JSON") for last in ("string", "number"))
        new, old = [await offers.understand(Catalog(), offer, normalize=False, as_new=True) for offer in two]
        before = SchemaRecord(subject="s", version=1, id=1, schema=old.text, schemaType="JSON")
        judging = asyncio.create_task(objections(Catalog(), Config(level="BACKWARD"), new, None, [before]))
        turns = 0
        while not judging.done():
            await asyncio.sleep(0)
            turns += 1
        assert await judging
        return turns

    assert asyncio.run(compared()) > 5


def test_a_pattern_made_to_take_for_ever_is_matched_at_once() -> None:
    began = time.process_time()
    reader = parse({"patternProperties": {"^(a+)+$": {"type": "string"}}, "additionalProperties": False})
    (misfit,) = reader.misfits(parse({"properties": {"a" * 50_000 + "b": {}}, "additionalProperties": False}))
    assert "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" in misfit
    assert time.process_time() - began < SECONDS


def market(kinds: int, **ids: str) -> dict[str, Any]:
    """Products of many kinds, each of which may be made of all others: every pair of them leads to every pair."""

    def any_kind() -> dict[str, Any]:
        return {"oneOf": [{"$ref": f"#/definitions/k{i}"} for i in range(kinds)]}

    def product(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"id": {"type": ids.get(name, "string")}, "of": any_kind()}}

    return {**any_kind(), "definitions": {f"k{i}": product(f"k{i}") for i in range(kinds)}}


def test_kinds_that_hold_each_other_are_compared_to_their_end() -> None:
    """Pairs of them wait for each other deeper than the stack is."""
    began = time.process_time()
    old, same, other = parse(market(20)), parse({**market(20), "title": "the same"}), parse(market(20, k7="number"))
    assert same.misfits(old) == []
    assert any("COMBINED_TYPE_SUBSCHEMAS_CHANGED" in misfit for misfit in other.misfits(old))
    assert time.process_time() - began < SECONDS


def test_a_chain_longer_than_the_stack_is_compared_to_its_end() -> None:
    def chain(last: str, links: int = 1_000) -> dict[str, Any]:
        definitions = {f"d{i}": {"type": "array", "items": {"$ref": f"#/definitions/d{i + 1}"}} for i in range(links)}
        return {"$ref": "#/definitions/d0", "definitions": definitions | {f"d{links}": {"type": last}}}

    text = parse(chain("string"))
    assert text.misfits(parse({**chain("string"), "title": "the same"})) == []
    (misfit,) = text.misfits(parse(chain("null")))
    assert f"path '#{'/items' * 1_000}'" in misfit
