"""Which texts are JSON Schemas, in which form they are kept, and where references lead."""

import json
from typing import Any

import pytest
from tests.schemas.json_schemas import DRAFTS, parse

from millstream.schemas.formats import InvalidSchema

MONEY = {"type": "object", "properties": {"amount": {"type": "integer"}}, "additionalProperties": False}
BY_NAME = {"$id": "http://else.example/a", "allOf": [{"$ref": "b.json#/$defs/m"}]}


@pytest.mark.parametrize("text", ["true", "false", "{}", '{"type": "string"}', '{"unknown": 1, "type": ["null"]}'])
def test_objects_and_booleans_are_schemas(text: str) -> None:
    assert parse(text).canonical == json.dumps(json.loads(text), separators=(",", ":"))


@pytest.mark.parametrize("draft", DRAFTS)
def test_every_draft_is_held_against_its_own_meta_schema(draft: str) -> None:
    text = {"type": "string", "maxLength": 3}
    parse({"$schema": DRAFTS[draft], "type": "object", "properties": {"a": text}, "required": ["a"]})
    for wrong in ({"properties": {"a": {"type": "txt"}}}, {"maxItems": -1}, {"required": [1]}, {"allOf": []}):
        with pytest.raises(InvalidSchema, match=f"is not as draft {draft} has it"):
            parse({"$schema": DRAFTS[draft], "not": wrong})


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        (DRAFTS["4"], {"minimum": 1, "exclusiveMinimum": 1}),
        (DRAFTS["4"], {"properties": {"a": True}}),
        (DRAFTS["6"], {"exclusiveMinimum": True}),
        (DRAFTS["7"], {"if": 1}),
        (DRAFTS["2019-09"], {"dependentRequired": {"a": "b"}}),
        (DRAFTS["2020-12"], {"items": [{}]}),
        (DRAFTS["2020-12"], {"$anchor": "1 2"}),
    ],
)
def test_what_only_some_drafts_allow(url: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSchema):
        parse({"$schema": url, **wrong})


def test_a_schema_without_a_draft_is_of_the_seventh() -> None:
    with pytest.raises(InvalidSchema, match="draft 7"):
        parse({"exclusiveMinimum": True})
    with pytest.raises(InvalidSchema, match="draft 7"):
        parse({"$schema": "https://example.com/ours", "exclusiveMinimum": True})


@pytest.mark.parametrize(
    "text", ["", "{", '"string"', "1", "[]", "null", '{"type": NaN}', '{"a": 1e}', '{"$ref": 1}', '{"minimum": "1"}']
)
def test_what_is_no_schema(text: str) -> None:
    with pytest.raises(InvalidSchema):
        parse(text)


def test_what_was_taken_once_is_not_held_against_the_meta_schema() -> None:
    """A foreign registry, or an older version of this one, may have let it pass."""
    old = {"properties": {"a": {"type": "string", "description": 1}}, "required": []}
    with pytest.raises(InvalidSchema):
        parse(old)
    assert parse(old, as_new=False).misfits(parse({"properties": {"a": {"type": "string"}}})) == []


@pytest.mark.parametrize("broken", [{"type": 1}, {"properties": []}, {"maxLength": "x"}, {"allOf": {}}, {"items": 1}])
def test_what_was_taken_once_and_is_no_schema_at_all_is_refused(broken: Any) -> None:
    with pytest.raises(InvalidSchema):
        parse(broken, as_new=False)


def test_a_schema_is_kept_as_it_was_written_but_for_white_space() -> None:
    """The GUID is that of the text: numbers, order and letters stay, as Confluent's registry keeps them."""
    text = '{ "title": "\\u00e9\\/",\n "maximum" : 1.50, "minimum": -1e2, "default": 12345678901234567890123 }'
    assert parse(text).canonical == '{"title":"é/","maximum":1.50,"minimum":-1E+2,"default":12345678901234567890123}'


def test_a_normalized_schema_has_its_keywords_in_order() -> None:
    one, other = (
        {"type": "object", "properties": {"b": {}, "a": True}},
        {"properties": {"a": True, "b": {}}, "type": "object"},
    )
    assert parse(one).canonical != parse(other).canonical
    assert parse(one).normalized() == parse(other).normalized() == '{"properties":{"a":true,"b":{}},"type":"object"}'
    assert parse(one).means_the_same_as(parse(other))
    assert not parse(one).means_the_same_as(parse({"type": "object"}))


def test_the_order_of_an_array_means_something() -> None:
    one, other = {"prefixItems": [True, False]}, {"prefixItems": [False, True]}
    assert parse(one).normalized() != parse(other).normalized()


@pytest.mark.parametrize(
    ("schema", "referred"),
    [
        ({"$ref": "money.json"}, [("money.json", MONEY)]),
        ({"$ref": "./money.json"}, [("money.json", MONEY)]),
        ({"$ref": "shop/money.json"}, [("shop/money.json", MONEY)]),
        ({"$ref": "http://example.com/money"}, [("http://example.com/money", MONEY)]),
        ({"$id": "http://a.example/order", "allOf": [{"$ref": "money.json"}]}, [("money.json", MONEY)]),
        ({"$ref": "all.json#/definitions/money"}, [("all.json", {"definitions": {"money": MONEY}})]),
        ({"$ref": "all.json#/$defs/money"}, [("all.json", {"definitions": {"money": MONEY}})]),
        ({"$ref": "all.json#money"}, [("all.json", {"definitions": {"money": {**MONEY, "$id": "#money"}}})]),
        ({"$ref": "a.json"}, [("money.json", MONEY), ("a.json", {"$ref": "money.json"})]),
        (
            {"$ref": "a.json"},
            [("b.json", MONEY), ("a.json", {"$id": "http://else.example/a", "allOf": [{"$ref": "b.json"}]})],
        ),
        ({"$ref": "http://example.com/m"}, [("money.json", {**MONEY, "$id": "http://example.com/m"})]),
        ({"$ref": "#/definitions/money", "definitions": {"money": MONEY}}, []),
        ({"$id": "http://a.example/o", "not": False, "$ref": "#/$defs/m", "definitions": {"m": MONEY}}, []),
        ({"allOf": [{"$ref": "#/$defs/m"}], "$id": "http://a.example/o", "definitions": {"m": MONEY}}, []),
        (
            {"$id": "http://a.example/o", "allOf": [{"$ref": "all.json#/$defs/m"}]},
            [("all.json", {"$defs": {"m": MONEY}})],
        ),
        ({"allOf": [{"$ref": "a.json"}]}, [("b.json", {"$defs": {"m": MONEY}}), ("a.json", BY_NAME)]),
        ({"$schema": DRAFTS["2020-12"], "$ref": "#money", "$defs": {"m": {**MONEY, "$anchor": "money"}}}, []),
        ({"$schema": DRAFTS["2020-12"], "$ref": "m", "$defs": {"m": {**MONEY, "$id": "m"}}}, []),
        ({"$schema": DRAFTS["4"], "$ref": "m", "definitions": {"m": {**MONEY, "id": "m"}}}, []),
    ],
)
def test_a_reference_leads_to_what_is_called_so(schema: Any, referred: list[tuple[str, Any]]) -> None:
    money, euro = (
        parse({"type": "object", "properties": {"amount": {"type": "string"}}, "additionalProperties": False}),
        {},
    )
    found = parse(schema, *referred)
    assert found.misfits(parse(MONEY)) == []
    assert any("/properties/amount" in misfit or "TYPE_CHANGED" in misfit for misfit in found.misfits(money))
    assert parse(euro).misfits(found) == []


def test_a_meta_schema_is_known_without_asking_anybody() -> None:
    assert parse({"properties": {"schema": {"$ref": DRAFTS["7"]}}}).node.properties["schema"].target.kind == "combined"


@pytest.mark.parametrize(
    "ref",
    ["#/definitions/nothing", "nowhere.json", "https://example.com/remote", "#anchor", "", "money.json#/nothing", "::"],
)
def test_a_reference_that_leads_nowhere_says_so(ref: str) -> None:
    with pytest.raises(InvalidSchema, match=r"leads (nowhere|back to itself)"):
        parse({"$ref": ref}, ("money.json", MONEY))


def test_a_reference_within_a_schema_does_not_lead_into_the_one_that_refers_to_it() -> None:
    with pytest.raises(InvalidSchema, match="leads nowhere"):
        parse({"$ref": "a.json", "definitions": {"m": MONEY}}, ("a.json", {"allOf": [{"$ref": "#/definitions/m"}]}))


def test_what_stands_beside_a_reference_counts_from_2019_on() -> None:
    short: dict[str, Any] = {"$ref": "#/$defs/s", "maxLength": 3, "$defs": {"s": {"type": "string"}}}
    assert parse(short).misfits(parse({"type": "string"})) == []
    assert "TYPE_CHANGED" in parse({**short, "$schema": DRAFTS["2019-09"]}).misfits(parse({"type": "string"}))[0]


def test_a_resolved_schema_stands_alone() -> None:
    order = {
        "type": "object",
        "properties": {"total": {"$ref": "money.json"}, "currency": {"$ref": "euro.json#/oneOf/0"}},
    }
    euro = {"$id": "http://else.example/euro", "oneOf": [{"type": "string"}, False]}
    referring = parse(order, ("money.json", MONEY), ("euro.json", euro), ("never.json", True))
    text = referring.formatted("resolved")
    assert text is not None
    alone = parse(text)
    assert alone.misfits(referring) == referring.misfits(alone) == []
    assert "TYPE_CHANGED" in alone.misfits(parse({"type": "object", "properties": {"total": {"type": "null"}}}))[0]
    assert alone.means_the_same_as(referring)
    assert referring.formatted("anything else") is None


def test_a_misfit_says_what_and_where() -> None:
    reader, writer = ({"properties": {"50%": {"type": name}}} for name in ("string", "number"))
    (misfit,) = parse(reader).misfits(parse(writer))
    assert misfit % {"reader": "new", "writer": "old"} == (
        "{errorType:'TYPE_CHANGED', description:'The type at path '#/properties/50%' of the new schema is not that of "
        "the old schema', additionalInfo:'reader: string, writer: number'}"
    )
