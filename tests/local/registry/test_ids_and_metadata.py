"""Ids, GUIDs, metadata, and the smaller routes.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

import hashlib
import json
import uuid
from typing import Any

import httpx
import pytest
from tests.local.registry.talk import ONE, TWO, record, reference, refusal, register, registered

META = {"properties": {"owner": "shop"}, "tags": {"Order.id": ["PII"]}, "sensitive": ["owner"]}


def test_a_guid_is_the_fingerprint_of_what_is_stored(registry: httpx.Client) -> None:
    """The MD5 of the text, of each reference and of the metadata: the same in every registry."""
    registered(registry, "ref", '{"type":"fixed","name":"F","size":4}')
    answer = register(registry, "s", '"F"', references=[reference("F", "ref", 1)], metadata=META).json()
    spelled = b'"F"' + b"Fref\x00\x00\x00\x01" + b"\x01" + b"Order.idPII" + b"ownershop" + b"owner"
    assert answer["guid"] == str(uuid.UUID(bytes=hashlib.md5(spelled).digest()))


def test_a_schema_is_found_by_its_guid(registry: httpx.Client) -> None:
    answer = register(registry, "s", ONE).json()
    found = registry.get(f"/schemas/guids/{answer['guid']}").json()
    assert found == {"guid": answer["guid"], "schemaType": "AVRO", "schema": answer["schema"]}
    assert registry.get(f"/schemas/guids/{answer['guid']}/ids").json() == [{"context": ".", "id": answer["id"]}]
    unknown = uuid.UUID(int=7)
    assert refusal(registry.get(f"/schemas/guids/{unknown}")) == (404, 40403)
    assert registry.get(f"/schemas/guids/{unknown}/ids").json() == []


def test_registering_answers_with_everything(registry: httpx.Client) -> None:
    answer = register(registry, "s", ONE, metadata=META).json()
    assert set(answer) == {"id", "version", "guid", "schemaType", "schema", "metadata"}
    assert answer["metadata"] == META


def test_an_id_tells_a_subject_only_to_those_who_ask_for_one(registry: httpx.Client) -> None:
    schema_id = registered(registry, "s", ONE)
    assert set(registry.get(f"/schemas/ids/{schema_id}").json()) == {"guid", "schemaType", "schema"}
    found = registry.get(f"/schemas/ids/{schema_id}?subject=s&fetchMaxId=true").json()
    assert (found["subject"], found["version"], found["maxId"]) == ("s", 1, 1)
    assert registry.get(f"/schemas/ids/{schema_id}?subject=other").json()["subject"] == "s", "it is a hint"


def test_metadata_makes_another_schema_and_passes_to_the_next_version(registry: httpx.Client) -> None:
    """https://docs.confluent.io/platform/current/schema-registry/fundamentals/data-contracts.html#metadata"""
    plain = registered(registry, "s", ONE)
    described = registered(registry, "s", ONE, metadata=META)
    assert described == plain + 1
    registered(registry, "s", TWO)
    assert registry.get("/subjects/s/versions/latest").json()["metadata"] == META
    assert registry.post("/subjects/s", json={"schema": TWO}).json()["version"] == 3
    assert registered(registry, "s", TWO) == described + 1


def test_without_a_schema_only_the_metadata_changes(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    assert registry.post("/subjects/s/versions", json={"metadata": META}).status_code == 200
    assert json.loads(registry.get("/subjects/s/versions/2/schema").text) == json.loads(ONE)
    assert refusal(registry.post("/subjects/new/versions", json={"metadata": META})) == (422, 42201)


def test_the_latest_version_with_some_metadata_is_found(registry: httpx.Client) -> None:
    registered(registry, "s", ONE, metadata={"properties": {"major": "1", "owner": "a"}})
    registered(registry, "s", TWO, metadata={"properties": {"major": "2", "owner": "a"}})
    found = registry.get("/subjects/s/metadata?key=major&value=1&key=owner&value=a")
    assert found.json()["version"] == 1
    assert registry.get("/subjects/s/metadata?key=owner&value=a").json()["version"] == 2
    assert refusal(registry.get("/subjects/s/metadata?key=major&value=3")) == (404, 40403)
    assert refusal(registry.get("/subjects/none/metadata?key=major&value=3")) == (404, 40401)


def test_all_schemas_are_listed_as_asked(registry: httpx.Client) -> None:
    registered(registry, "a", ONE)
    registered(registry, "a", TWO)
    registered(registry, "b", ONE)
    registry.delete("/subjects/a/versions/1")

    def listed(query: str) -> list[tuple[str, int]]:
        return [(entry["subject"], entry["version"]) for entry in registry.get(f"/schemas{query}").json()]

    assert listed("") == [("a", 2), ("b", 1)]
    assert listed("?deleted=true") == [("a", 1), ("a", 2), ("b", 1)]
    assert listed("?deleted=true&latestOnly=true") == [("a", 2), ("b", 1)]
    assert listed("?subjectPrefix=a") == [("a", 2)]
    assert listed("?offset=1&limit=1") == [("b", 1)]
    assert refusal(registry.get("/schemas?aliases=true")) == (422, 422)


@pytest.mark.parametrize(
    "path", ["/contexts/.other/subjects", "/contexts/other/subjects/s/versions", "/contexts/other"]
)
def test_other_contexts_are_refused_by_name(registry: httpx.Client, path: str) -> None:
    assert refusal(registry.get(path)) == (422, 42208)


def test_the_default_context_is_everything(registry: httpx.Client) -> None:
    registered(registry, ":.:s", ONE)
    assert registry.get("/contexts").json() == ["."]
    assert registry.get("/contexts?contextPrefix=x").json() == []
    assert registry.get("/contexts/:.:/subjects").json() == ["s"]
    assert registry.get("/contexts/:.:/subjects/s/versions").json() == [1]
    registry.put("/config/:.:", json={"compatibility": "FULL"})
    assert registry.get("/config").json() == {"compatibilityLevel": "FULL"}


def test_the_registry_tells_what_it_is(registry: httpx.Client) -> None:
    clusters = {"kafka-cluster": "a-list", "schema-registry-cluster": "schema-registry"}
    assert registry.get("/v1/metadata/id").json() == {"scope": {"path": [], "clusters": clusters}}
    assert registry.get("/v1/metadata/version").json()["version"] == "8.0.0"
    assert registry.get("/").json() == registry.post("/", json={}).json() == {}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ('{"type": "string"}', '"string"'),
        ('{"type": {"type": "string"}}', '"string"'),
        (
            '{"fields": [], "type": "record", "name": "a.b.C"}',
            '{"type":"record","name":"C","namespace":"a.b","fields":[]}',
        ),
        (
            '{"type":"record","name":"a.C","fields":[{"name":"f","type":{"type":"enum","name":"a.E","symbols":["X"]}}]}',
            '{"type":"record","name":"C","namespace":"a","fields":[{"name":"f","type":{"type":"enum","name":"E",'
            '"symbols":["X"]}}]}',
        ),
        (
            '{"type":"record","name":"a.C","fields":[{"name":"f","type":["null","a.C"],"doc":"d","aliases":["g"],'
            '"default":null,"order":"ignore","x":1}]}',
            '{"type":"record","name":"C","namespace":"a","fields":[{"name":"f","type":["null","C"],"doc":"d",'
            '"default":null,"order":"ignore","aliases":["g"],"x":1}]}',
        ),
        (
            '{"logicalType":"decimal","type":"bytes","scale":2,"precision":9}',
            '{"type":"bytes","logicalType":"decimal","scale":2,"precision":9}',
        ),
        ('{"type":"fixed","size":16,"doc":"d","name":"F"}', '{"type":"fixed","name":"F","doc":"d","size":16}'),
        (
            '{"type":"record","name":"C","namespace":"a","doc":"é","fields":[{"name":"f","order":"ascending",'
            '"type":{"type":"map","values":{"type":"array","items":"int"}}}]}',
            '{"type":"record","name":"C","namespace":"a","doc":"é","fields":[{"name":"f","type":{"type":"map",'
            '"values":{"type":"array","items":"int"}}}]}',
        ),
        ("[]", "[]"),
        ('["null","int"]', '["null","int"]'),
    ],
    ids=range(10),
)
def test_a_schema_is_stored_as_apache_avro_prints_it(registry: httpx.Client, sent: str, stored: str) -> None:
    answer = register(registry, "s", sent).json()
    assert answer["schema"] == stored
    assert registry.get("/subjects/s/versions/1/schema").text == stored
    assert registered(registry, "t", stored) == answer["id"]


INVALID: list[Any] = [
    "unknown",
    7,
    None,
    {},
    {"type": None},
    {"type": "record", "name": "R"},
    {"type": "record", "fields": []},
    {"type": "record", "name": "1R", "fields": []},
    {"type": "record", "name": "R-S", "fields": []},
    {"type": "record", "name": "int", "fields": []},
    {"type": "record", "name": "R", "namespace": "a..b", "fields": []},
    {"type": "record", "name": "R", "fields": {}},
    {"type": "record", "name": "R", "fields": [7]},
    {"type": "record", "name": "R", "fields": [{"name": "f"}]},
    {"type": "record", "name": "R", "fields": [{"type": "int"}]},
    {"type": "record", "name": "R", "fields": [{"name": "f-g", "type": "int"}]},
    {"type": "record", "name": "R", "fields": [{"name": "f", "type": "int"}, {"name": "f", "type": "int"}]},
    {"type": "record", "name": "R", "fields": [{"name": "f", "type": "int", "order": "up"}]},
    {"type": "record", "name": "R", "fields": [{"name": "f", "type": "Later"}]},
    {"type": "enum", "name": "E"},
    {"type": "enum", "name": "E", "symbols": "A"},
    {"type": "enum", "name": "E", "symbols": ["A", "A"]},
    {"type": "enum", "name": "E", "symbols": ["A-B"]},
    {"type": "enum", "name": "E", "symbols": ["A"], "default": "B"},
    {"type": "fixed", "name": "F"},
    {"type": "fixed", "name": "F", "size": -1},
    {"type": "fixed", "name": "F", "size": "4"},
    {"type": "fixed", "name": "F", "size": True},
    {"type": "array"},
    {"type": "map", "items": "int"},
    ["int", "int"],
    ["int", ["string"]],
    [{"type": "array", "items": "int"}, {"type": "array", "items": "string"}],
    [{"type": "fixed", "name": "F", "size": 4}, "F"],
]


@pytest.mark.parametrize("schema", INVALID, ids=range(len(INVALID)))
def test_what_the_specification_forbids_is_refused(registry: httpx.Client, schema: Any) -> None:
    assert refusal(register(registry, "s", json.dumps(schema))) == (422, 42201)


@pytest.mark.parametrize(
    ("of", "default", "good"),
    [
        ("int", 0, True),
        ("int", 2**31, False),
        ("int", "0", False),
        ("int", 1.5, False),
        ("int", True, False),
        ("int", None, False),
        ("long", 2**63 - 1, True),
        ("long", 2**63, False),
        ("double", 1, True),
        ("boolean", 0, False),
        ("string", "x", True),
        ("bytes", "\u00ff", True),
        ("null", None, True),
        ("null", 0, False),
        (["null", "int"], None, True),
        (["null", "int"], 7, True),
        (["null", "int"], "7", False),
        ({"type": "array", "items": "int"}, [], True),
        ({"type": "array", "items": "int"}, [1, "2"], False),
        ({"type": "map", "values": "int"}, {"a": 1}, True),
        ({"type": "map", "values": "int"}, [], False),
        (json.loads(record(("a", "int"), ("b", "int", 2), name="In")), {"a": 1}, True),
        (json.loads(record(("a", "int"), name="In")), {}, False),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "A", True),
        ({"type": "fixed", "name": "F", "size": 1}, "x", True),
    ],
    ids=range(25),
)
def test_a_default_is_a_value_of_its_type(registry: httpx.Client, of: Any, default: Any, good: bool) -> None:
    """https://avro.apache.org/docs/1.12.0/specification/#schema-record; a union's may be of any branch."""
    answer = register(registry, "s", record(("f", of, default)))
    assert answer.status_code == 200 if good else refusal(answer) == (422, 42201)


def test_types_nested_deeper_than_anybody_means_are_refused(registry: httpx.Client) -> None:
    nested: Any = "int"
    for _ in range(99):
        nested = {"type": "array", "items": nested}
    registered(registry, "s", json.dumps(nested))
    deeper = json.dumps({"type": "array", "items": {"type": "array", "items": nested}})
    assert refusal(register(registry, "t", deeper)) == (422, 42201)
