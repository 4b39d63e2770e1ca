"""JSON Schemas through the registry's routes, and through Confluent's own client and serializers.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from tests.local.registry.conftest import ListLog
from tests.local.registry.talk import ONE, reference, refusal, register, registered

# What the client's extra `schemaregistry` brings.
for needed in ("authlib", "cachetools", "attrs"):
    pytest.importorskip(needed)

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient  # noqa: E402
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer  # noqa: E402
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError  # noqa: E402

MONEY = json.dumps({"type": "object", "properties": {"amount": {"type": "integer"}}, "additionalProperties": False})
ORDER = json.dumps(
    {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Order",
        "type": "object",
        "properties": {"id": {"type": "string"}, "total": {"$ref": "money.json"}},
        "required": ["id"],
        "additionalProperties": False,
    }
)
TO_MONEY = [reference("money.json", "money", 1)]


def changed(schema: str, **properties: Any) -> str:
    tree = json.loads(schema)
    return json.dumps({**tree, "properties": tree["properties"] | properties})


def taken(registry: httpx.Client, subject: str, schema: str, query: str = "", **body: Any) -> int:
    return registered(registry, subject, schema, query, schemaType="JSON", **body)


@pytest.fixture
def shop(registry: httpx.Client) -> httpx.Client:
    taken(registry, "money", MONEY)
    taken(registry, "orders-value", ORDER, references=TO_MONEY)
    return registry


def test_a_schema_is_registered_and_found_as_avro_is(shop: httpx.Client) -> None:
    version = shop.get("/subjects/orders-value/versions/1").json()
    assert version["schemaType"] == "JSON"
    assert version["references"] == TO_MONEY
    assert json.loads(version["schema"]) == json.loads(ORDER)
    body = {"schema": ORDER, "schemaType": "JSON", "references": TO_MONEY}
    assert shop.post("/subjects/orders-value", json=body).json() == version
    assert taken(shop, "orders-value", ORDER, references=TO_MONEY) == version["id"]
    by_id = shop.get(f"/schemas/ids/{version['id']}").json()
    assert (by_id["schema"], by_id["schemaType"], by_id["references"]) == (version["schema"], "JSON", TO_MONEY)
    assert shop.get(f"/schemas/guids/{version['guid']}").json()["schema"] == version["schema"]
    assert shop.get("/subjects/money/versions/1/referencedby").json() == [version["id"]]
    assert "JSON" in shop.get("/schemas/types").json()
    assert [entry["schemaType"] for entry in shop.get("/schemas").json()] == ["JSON", "JSON"]


def test_a_resolved_schema_is_the_one_that_refers(shop: httpx.Client) -> None:
    whole = shop.get("/subjects/orders-value/versions/1/schema?format=resolved").text
    assert json.loads(whole)["definitions"]["money.json"]["properties"] == {"amount": {"type": "integer"}}
    assert shop.post("/subjects/orders-value", json={"schema": whole, "schemaType": "JSON"}).json()["version"] == 1


def test_a_normalized_schema_is_the_same_in_any_order(registry: httpx.Client) -> None:
    first = taken(registry, "s", '{"type": "object", "title": "T"}', "?normalize=true")
    assert taken(registry, "s", '{"title": "T", "type": "object"}', "?normalize=true") == first
    assert registry.get("/subjects/s/versions/1/schema").text == '{"title":"T","type":"object"}'


def test_what_does_not_fit_is_refused_and_says_why(shop: httpx.Client) -> None:
    note = {"note": {"type": "string"}}
    assert taken(shop, "orders-value", changed(ORDER, **note), references=TO_MONEY)
    worse = changed(ORDER, id={"type": "integer"})
    response = register(shop, "orders-value", worse, schemaType="JSON", references=TO_MONEY)
    assert refusal(response) == (409, 40901)
    message = response.json()["message"]
    assert "{errorType:'TYPE_CHANGED', description:'The type at path '#/properties/id' of the new schema" in message
    assert "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL" in message
    assert "{oldSchemaVersion: 2}" in message


@pytest.mark.parametrize(("level", "fits"), [("BACKWARD", True), ("FORWARD", False), ("FULL", False), ("NONE", True)])
def test_each_level_asks_in_its_direction(shop: httpx.Client, level: str, fits: bool) -> None:
    """An optional property more in a closed content model: the old schema takes no data that has it."""
    shop.put("/config/orders-value", json={"compatibility": level})
    body = {"schema": changed(ORDER, note={"type": "string"}), "schemaType": "JSON", "references": TO_MONEY}
    answer = shop.post("/compatibility/subjects/orders-value/versions/latest?verbose=true", json=body).json()
    assert answer["is_compatible"] is fits
    told = any("'#/properties/note' of the new schema is missing in the old schema" in m for m in answer["messages"])
    assert told is not fits


def test_compatibility_looks_into_what_is_referred_to(shop: httpx.Client) -> None:
    shop.put("/config/money", json={"compatibility": "NONE"})
    taken(shop, "money", changed(MONEY, amount={"type": "string"}))
    body = {"schema": ORDER, "schemaType": "JSON", "references": [reference("money.json", "money", 2)]}
    answer = shop.post("/compatibility/subjects/orders-value/versions?verbose=true", json=body).json()
    assert "'#/properties/total/properties/amount'" in answer["messages"][0]


def test_a_subject_keeps_its_language(shop: httpx.Client) -> None:
    assert refusal(register(shop, "money", ONE)) == (409, 40901)
    registered(shop, "avro", ONE)
    assert refusal(register(shop, "avro", MONEY, schemaType="JSON")) == (409, 40901)


@pytest.mark.parametrize(
    ("schema", "references"),
    [
        ('{"type": "txt"}', []),
        ("[]", []),
        ("{", []),
        ('{"$ref": "money.json"}', []),
        ('{"$ref": "euro.json"}', TO_MONEY),
        ('{"title": "\\ud800"}', []),
        ('{"not":' * 5_000 + "{}" + "}" * 5_000, []),
    ],
)
def test_what_is_no_schema_is_refused(shop: httpx.Client, schema: str, references: Any) -> None:
    assert refusal(register(shop, "s", schema, schemaType="JSON", references=references)) == (422, 42201)


def test_what_was_registered_outlives_the_registry(shop: httpx.Client, log: ListLog, run_registry: Any) -> None:
    before = shop.get("/subjects/orders-value/versions/1").json()
    with run_registry(log) as again:
        assert again.get("/subjects/orders-value/versions/1").json() == before


def test_the_language_is_learned_when_the_first_schema_in_it_comes() -> None:
    """The platform starts quickly and stays small for who has no JSON Schema."""
    code = (
        "import sys; from millstream.local.registry import serve; from millstream.schemas import formats;"
        "formats.find('AVRO');"
        "assert not {'jsonschema', 'pydantic_core'} & set(sys.modules); formats.find('JSON');"
        "assert 'jsonschema' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


PLACE = SerializationContext("orders", MessageField.VALUE)
VALUE = {"id": "o-1", "total": {"amount": 7}}


def test_confluents_serializers_write_and_read_with_references(registry: httpx.Client) -> None:
    with SchemaRegistryClient({"url": str(registry.base_url)}) as client:
        client.register_schema("money", Schema(MONEY, "JSON"))
        order = Schema(ORDER, "JSON", [SchemaReference("money.json", "money", 1)])
        write = JSONSerializer(order, client)
        written = write(VALUE, PLACE)
        assert written is not None
        assert written[:1] == b"\0"
        schema_id = int.from_bytes(written[1:5])
        assert client.get_subjects_by_schema_id(schema_id) == ["orders-value"]
        assert JSONDeserializer(order, schema_registry_client=client)(written, PLACE) == VALUE
        assert JSONDeserializer(None, schema_registry_client=client)(written, PLACE) == VALUE
        latest = {"auto.register.schemas": False, "use.latest.version": True}
        assert JSONSerializer(order, client, conf=latest)(VALUE, PLACE) == written
        with pytest.raises(SerializationError):
            write({"id": "o-1", "total": {"amount": "seven"}}, PLACE)


def test_confluents_client_hears_of_compatibility(registry: httpx.Client) -> None:
    with SchemaRegistryClient({"url": str(registry.base_url)}) as client:
        client.register_schema("money", Schema(MONEY, "JSON"))
        wider = Schema(changed(MONEY, amount={"type": "number"}), "JSON")
        assert client.test_compatibility("money", wider)
        assert not client.test_compatibility("money", Schema(changed(MONEY, amount={"type": "string"}), "JSON"))
        assert client.get_latest_version("money").schema.schema_type == "JSON"
        assert client.lookup_schema("money", Schema(MONEY, "JSON")).version == 1
