"""The registry over HTTP, as Confluent's clients and people with curl use it."""

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from millstream.schemas.formats import TYPES


def record(*fields: tuple[str, Any] | tuple[str, Any, Any], name: str = "Order") -> str:
    """A record schema; a third item of a field is its default."""
    described = [{"name": f[0], "type": f[1]} | ({"default": f[2]} if len(f) == 3 else {}) for f in fields]
    return json.dumps({"type": "record", "name": name, "fields": described})


ONE = record(("id", "string"))
WITH_DEFAULT = record(("id", "string"), ("note", ["null", "string"], None))
WITHOUT_DEFAULT = record(("id", "string"), ("total", "long"))


def register(registry: httpx.Client, subject: str, schema: str) -> httpx.Response:
    return registry.post(f"/subjects/{subject}/versions", json={"schema": schema})


def registered(registry: httpx.Client, subject: str, schema: str) -> int:
    response = register(registry, subject, schema)
    assert response.status_code == 200, response.text
    return response.json()["id"]


def refusal(response: httpx.Response) -> tuple[int, int]:
    body = response.json()
    assert set(body) == {"error_code", "message"}
    return response.status_code, body["error_code"]


def test_a_schema_has_one_id_whatever_the_subject_and_the_white_space(registry: httpx.Client) -> None:
    first = registered(registry, "a-value", ONE)
    assert registered(registry, "a-value", json.dumps(json.loads(ONE), indent=4)) == first
    assert registered(registry, "b-value", ONE) == first
    assert registered(registry, "b-value", WITH_DEFAULT) == first + 1
    assert registry.get("/subjects/a-value/versions").json() == [1]
    assert registry.get("/subjects/b-value/versions").json() == [1, 2]


def test_what_was_registered_can_be_read_in_every_way(registry: httpx.Client) -> None:
    schema_id = registered(registry, "a-value", ONE)
    text = registry.get(f"/schemas/ids/{schema_id}").json()["schema"]
    assert json.loads(text) == json.loads(ONE)
    guid = str(uuid.UUID(bytes=hashlib.md5(text.encode()).digest()))
    described = {
        "subject": "a-value",
        "version": 1,
        "id": schema_id,
        "guid": guid,
        "schemaType": "AVRO",
        "schema": text,
    }
    for path in ("/subjects/a-value/versions/1", "/subjects/a-value/versions/latest", "/subjects/a-value/versions/-1"):
        assert registry.get(path).json() == described
    assert registry.post("/subjects/a-value", json={"schema": ONE}).json() == described
    assert registry.get("/subjects/a-value/versions/1/schema").json() == json.loads(ONE)
    assert registry.get(f"/schemas/ids/{schema_id}/schema").json() == json.loads(ONE)
    assert registry.get(f"/schemas/ids/{schema_id}/subjects").json() == ["a-value"]
    assert registry.get(f"/schemas/ids/{schema_id}/versions").json() == [{"subject": "a-value", "version": 1}]
    assert registry.get("/subjects").json() == ["a-value"]
    assert registry.get("/subjects", params={"subjectPrefix": "b"}).json() == []
    assert registry.get("/schemas/types").json() == TYPES
    assert registry.get("/").headers["content-type"] == "application/vnd.schemaregistry.v1+json"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/subjects/none/versions", (404, 40401)),
        ("GET", "/subjects/none/versions/1", (404, 40401)),
        ("GET", "/subjects/a/versions/7", (404, 40402)),
        ("GET", "/subjects/a/versions/earliest", (422, 42202)),
        ("GET", "/subjects/a/versions/0", (422, 42202)),
        ("GET", "/subjects/a/versions/2147483648", (422, 42202)),
        ("GET", "/schemas/ids/99", (404, 40403)),
        ("GET", "/schemas/ids/99/subjects", (404, 40403)),
        ("GET", "/config/a", (404, 40408)),
        ("DELETE", "/subjects/none", (404, 40401)),
        ("DELETE", "/subjects/a?permanent=true", (404, 40405)),
        ("DELETE", "/subjects/a/versions/1?permanent=true", (404, 40407)),
        ("DELETE", "/config/a", (404, 40401)),
        ("DELETE", "/mode/a", (404, 40401)),
        ("GET", "/mode/a", (404, 40409)),
        ("GET", "/exporters", (404, 404)),
        ("PUT", "/contexts", (405, 405)),
    ],
)
def test_refusals_carry_confluents_codes(
    registry: httpx.Client, method: str, path: str, expected: tuple[int, int]
) -> None:
    registered(registry, "a", ONE)
    assert refusal(registry.request(method, path)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"schema": "{"}, (422, 42201)),
        ({"schema": '{"type": "record", "name": "x"}'}, (422, 42201)),
        ({"schema": '"no such type"'}, (422, 42201)),
        ({"schema": "[" * 100_000}, (422, 42201)),
        ({"schema": ONE, "schemaType": "PROTOBUF"}, (422, 42201)),
        ({"schema": ONE, "references": [{"name": "x", "subject": "x", "version": 1}]}, (422, 42201)),
        ({"schema": [7]}, (400, 400)),
        ({}, (422, 42201)),
        ([], (400, 400)),
        ({"schema": json.dumps({"type": "string", "doc": "x" * 1_000_000})}, (422, 42209)),
        ({"schema": "x" * 5_000_000}, (413, 413)),
    ],
)
def test_what_is_no_avro_schema_is_refused_and_not_written(
    registry: httpx.Client, log: Any, body: Any, expected: tuple[int, int]
) -> None:
    assert refusal(registry.post("/subjects/a/versions", json=body)) == expected
    assert log.topics["_schemas"] == []


def test_looking_up_tells_an_unknown_subject_from_an_unknown_schema(registry: httpx.Client) -> None:
    registered(registry, "a", ONE)
    assert refusal(registry.post("/subjects/none", json={"schema": ONE})) == (404, 40401)
    assert refusal(registry.post("/subjects/a", json={"schema": WITH_DEFAULT})) == (404, 40403)


@pytest.mark.parametrize(
    ("level", "old", "new", "compatible"),
    [
        ("BACKWARD", ONE, WITH_DEFAULT, True),
        ("BACKWARD", ONE, WITHOUT_DEFAULT, False),
        ("BACKWARD", WITHOUT_DEFAULT, ONE, True),
        ("FORWARD", ONE, WITHOUT_DEFAULT, True),
        ("FORWARD", WITHOUT_DEFAULT, ONE, False),
        ("FULL", ONE, WITH_DEFAULT, True),
        ("FULL", ONE, WITHOUT_DEFAULT, False),
        ("FULL", WITHOUT_DEFAULT, ONE, False),
        ("NONE", ONE, '"long"', True),
        ("BACKWARD", '"int"', '"long"', True),
        ("BACKWARD", '"long"', '"int"', False),
        ("BACKWARD", '["int", "string"]', '["int"]', False),
        (
            "BACKWARD",
            '{"type":"enum","name":"E","symbols":["A","B"]}',
            '{"type":"enum","name":"E","symbols":["A"]}',
            False,
        ),
        ("BACKWARD", ONE, record(("id", "string"), name="Renamed"), False),
    ],
)
def test_levels(registry: httpx.Client, level: str, old: str, new: str, compatible: bool) -> None:
    registered(registry, "s", old)
    assert registry.put("/config/s", json={"compatibility": level}).json() == {"compatibility": level}
    assert registry.get("/config/s").json() == {"compatibilityLevel": level}
    verdict = registry.post("/compatibility/subjects/s/versions/latest?verbose=true", json={"schema": new}).json()
    assert verdict["is_compatible"] is compatible
    assert bool(verdict["messages"]) is not compatible
    answer = register(registry, "s", new)
    assert answer.status_code == 200 if compatible else refusal(answer) == (409, 40901)


@pytest.mark.parametrize("level", ["BACKWARD", "BACKWARD_TRANSITIVE"])
def test_only_transitive_levels_look_behind_the_latest_version(registry: httpx.Client, level: str) -> None:
    registered(registry, "s", record(("id", "string"), ("total", "string")))
    registered(registry, "s", ONE)
    registry.put("/config", json={"compatibility": level.lower()})
    reads_the_latest_only = record(("id", "string"), ("total", "long", 0))
    check = registry.post("/compatibility/subjects/s/versions", json={"schema": reads_the_latest_only}).json()
    assert check == {"is_compatible": level == "BACKWARD"}
    assert (register(registry, "s", reads_the_latest_only).status_code == 200) is (level == "BACKWARD")


def test_a_subjects_level_goes_before_the_global_one(registry: httpx.Client) -> None:
    assert registry.get("/config").json() == {"compatibilityLevel": "BACKWARD"}
    registry.put("/config", json={"compatibility": "FULL"})
    assert registry.get("/config").json() == {"compatibilityLevel": "FULL"}
    assert registry.get("/config/s?defaultToGlobal=true").json() == {"compatibilityLevel": "FULL"}
    registry.put("/config/s", json={"compatibility": "NONE"})
    assert registry.get("/config/s").json() == {"compatibilityLevel": "NONE"}
    assert registry.delete("/config/s").json() == {"compatibilityLevel": "NONE"}
    assert registry.delete("/config").json() == {"compatibilityLevel": "FULL"}
    assert registry.get("/config").json() == {"compatibilityLevel": "BACKWARD"}
    assert refusal(registry.put("/config", json={"compatibility": "SIDEWAYS"})) == (422, 42203)


def test_checking_against_a_version_that_is_not_there(registry: httpx.Client) -> None:
    body = {"schema": ONE}
    assert registry.post("/compatibility/subjects/none/versions/latest", json=body).json() == {"is_compatible": True}
    registered(registry, "s", ONE)
    assert refusal(registry.post("/compatibility/subjects/s/versions/9", json=body)) == (404, 40402)
    assert refusal(registry.post("/compatibility/subjects/s/versions/x", json=body)) == (422, 42202)


def test_a_soft_deleted_subject_keeps_its_ids_until_it_is_deleted_for_ever(registry: httpx.Client) -> None:
    schema_id = registered(registry, "s", ONE)
    assert registry.delete("/subjects/s").json() == [1]
    assert registry.get("/subjects").json() == []
    assert registry.get("/subjects?deleted=true").json() == ["s"]
    assert refusal(registry.get("/subjects/s/versions/1")) == (404, 40401)
    assert registry.get("/subjects/s/versions/1?deleted=true").json()["id"] == schema_id
    assert registry.get(f"/schemas/ids/{schema_id}").status_code == 200
    assert refusal(registry.delete("/subjects/s")) == (404, 40404)
    assert registry.delete("/subjects/s?permanent=true").json() == [1]
    assert refusal(registry.get(f"/schemas/ids/{schema_id}")) == (404, 40403)
    assert registry.get("/subjects?deleted=true").json() == []


def test_registering_again_after_a_soft_delete_makes_a_new_version_with_the_old_id(registry: httpx.Client) -> None:
    schema_id = registered(registry, "s", ONE)
    registered(registry, "s", WITH_DEFAULT)
    assert registry.delete("/subjects/s/versions/1").json() == 1
    assert refusal(registry.delete("/subjects/s/versions/1")) == (404, 40406)
    assert registry.get("/subjects/s/versions").json() == [2]
    assert registered(registry, "s", ONE) == schema_id
    assert registry.get("/subjects/s/versions").json() == [2, 3]
    assert refusal(registry.delete("/subjects/s/versions/1?permanent=true")) == (404, 40402)
    assert registry.get("/subjects/s/versions?deleted=true").json() == [2, 3]
    assert registry.get(f"/schemas/ids/{schema_id}").status_code == 200


def test_everything_survives_a_restart(log: Any, run_registry: Any) -> None:
    with run_registry(log) as before:
        first, second = registered(before, "s", ONE), registered(before, "t", WITH_DEFAULT)
        before.put("/config/s", json={"compatibility": "FULL"})
        before.delete("/subjects/t")
    with run_registry(log) as after:
        assert after.get("/subjects").json() == ["s"]
        assert after.get("/config/s").json() == {"compatibilityLevel": "FULL"}
        assert registered(after, "s", ONE) == first
        assert registered(after, "u", WITHOUT_DEFAULT) == second + 1


def test_a_record_that_no_registry_wrote_is_passed_over(log: Any, run_registry: Any) -> None:
    log.topics["_schemas"] = [
        (b"\xff", b"{}"),
        (b"[]", b"1"),
        (b'{"keytype":"SCHEMA"}', b"{}"),
        (b'{"keytype":"NOOP","magic":0}', None),
    ]
    with run_registry(log) as registry:
        assert registered(registry, "s", ONE) == 1


def test_an_id_that_another_writer_gave_again_stays_with_its_first_schema(log: Any, run_registry: Any) -> None:
    """Confluent's registry passes over such a record, too."""

    def record_of(subject: str, text: str) -> tuple[bytes, bytes]:
        key = {"keytype": "SCHEMA", "subject": subject, "version": 1, "magic": 1}
        value = {"subject": subject, "version": 1, "id": 1, "schema": text, "md5": "AAAA", "ts": 7, "deleted": False}
        return json.dumps(key).encode(), json.dumps(value).encode()

    log.topics["_schemas"] = [record_of("a", '"int"'), record_of("b", '"long"'), record_of("c", '"int"')]
    with run_registry(log) as registry:
        assert registry.get("/schemas/ids/1").json()["schema"] == '"int"'
        assert registry.get("/schemas/ids/1/subjects").json() == ["a", "c"]
        assert registered(registry, "b", '"long"') == 2


def test_records_are_written_as_confluents_registry_writes_them(registry: httpx.Client, log: Any) -> None:
    registered(registry, "s", '"string"')
    registry.put("/config", json={"compatibility": "NONE"})
    registry.delete("/subjects/s")
    registry.delete("/subjects/s?permanent=true")
    assert log.topics["_schemas"] == [
        (
            b'{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}',
            b'{"subject":"s","version":1,"id":1,"schema":"\\"string\\"","deleted":false}',
        ),
        (b'{"keytype":"CONFIG","subject":null,"magic":0}', b'{"compatibilityLevel":"NONE"}'),
        (b'{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}', b'{"subject":"s","version":1}'),
        (b'{"keytype":"NOOP","magic":0}', b'{"highestId":1}'),
        (b'{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}', None),
        (b'{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}', None),
    ]


def test_registrations_at_the_same_time_agree_on_one_id(registry: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: registered(registry, f"s{i % 4}", ONE), range(40)))
    assert set(answers) == {1}
    assert registry.get("/schemas/ids/1/subjects").json() == ["s0", "s1", "s2", "s3"]
