"""Settings and modes, for all and for one subject.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html#config and #mode
"""

import json
from typing import Any

import httpx
import pytest
from tests.local.registry.talk import ONE, THREE, TWO, UNREADABLE, record, refusal, register, registered


@pytest.mark.parametrize(
    "level", ["NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"]
)
def test_every_level_is_taken_in_any_case(registry: httpx.Client, level: str) -> None:
    assert registry.put("/config/s", json={"compatibility": level.lower()}).json() == {"compatibility": level}
    assert registry.get("/config/s").json() == {"compatibilityLevel": level}
    assert registry.get("/config/s?defaultToGlobal=true").json() == {"compatibilityLevel": level}
    assert registry.get("/config").json() == {"compatibilityLevel": "BACKWARD"}
    assert registry.delete("/config/s").json() == {"compatibilityLevel": level}
    assert refusal(registry.get("/config/s")) == (404, 40408)


def test_a_setting_that_is_not_named_stays_and_null_takes_it_back(registry: httpx.Client) -> None:
    registry.put("/config/s", json={"compatibility": "FULL", "normalize": True})
    assert registry.put("/config/s", json={"alias": "t"}).json() == {
        "compatibility": "FULL",
        "normalize": True,
        "alias": "t",
    }
    assert registry.put("/config/s", json={"normalize": None}).json() == {"compatibility": "FULL", "alias": "t"}
    assert registry.put("/config/s", json={"compatibility": None}).json() == {"alias": "t"}
    assert registry.put("/config/s", json={"compatibilityLevel": "none"}).json()["compatibility"] == "NONE"


def test_a_subject_without_a_level_of_its_own_has_the_default_one(registry: httpx.Client) -> None:
    registry.put("/config", json={"compatibility": "FULL", "normalize": True})
    registry.put("/config/s", json={"compatibilityGroup": "app.version"})
    found = registry.get("/config/s?defaultToGlobal=true").json()
    assert found == {"compatibilityLevel": "BACKWARD", "normalize": True, "compatibilityGroup": "app.version"}


@pytest.mark.parametrize(
    "name",
    [
        "aliasForDeks",
        "validateFields",
        "validateNewSchemas",
        "validateRules",
        "compatibilityPolicy",
        "defaultMetadata",
        "overrideMetadata",
        "defaultRuleSet",
        "overrideRuleSet",
    ],
)
def test_a_setting_that_would_do_nothing_is_refused_by_name(registry: httpx.Client, name: str) -> None:
    answer = registry.put("/config", json={name: {"properties": {}} if "Meta" in name or "Rule" in name else "x"})
    assert refusal(answer) == (422, 422)
    assert name in answer.json()["message"]


def test_an_alias_stands_for_its_subject(registry: httpx.Client) -> None:
    schema_id = registered(registry, "real", ONE)
    registry.put("/config/nick", json={"alias": "real"})
    assert registry.get("/subjects/nick/versions/latest").json()["subject"] == "real"
    assert registered(registry, "nick", TWO) == schema_id + 1
    assert registry.get("/subjects/nick/versions").json() == [1, 2]
    assert registry.get(f"/schemas/ids/{schema_id}?subject=nick").json()["subject"] == "real"
    assert registry.get("/subjects").json() == ["real"]


def test_a_compatibility_group_judges_among_its_own(registry: httpx.Client) -> None:
    """Metadata says which major version an application's schema belongs to."""
    registry.put("/config/s", json={"compatibilityGroup": "major"})
    one, two = ({"properties": {"major": number}} for number in "12")
    registered(registry, "s", ONE, metadata=one)
    assert refusal(register(registry, "s", UNREADABLE, metadata=one)) == (409, 40901)
    registered(registry, "s", UNREADABLE, metadata=two)
    registered(registry, "s", TWO, metadata=one)


def test_normalizing_finds_what_differs_in_form_only(registry: httpx.Client) -> None:
    """https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#schema-normalization"""
    plain = record(("id", {"type": "string", "b": 2, "a": 1}), name="Order", namespace="shop", aliases=["Z", "A"])
    tangled = json.dumps(
        {
            "aliases": ["shop.A", "Z"],
            "name": "shop.Order",
            "fields": [{"type": {"a": 1, "type": "string", "b": 2}, "name": "id", "order": "ascending"}],
            "type": "record",
        }
    )
    registry.put("/config/s", json={"normalize": True})
    first = registered(registry, "s", plain)
    assert registered(registry, "s", tangled) == first
    text = json.loads(registry.get(f"/schemas/ids/{first}").json()["schema"])
    assert text == {
        "name": "shop.Order",
        "type": "record",
        "fields": [{"name": "id", "type": {"type": "string", "a": 1, "b": 2}, "order": "ascending"}],
        "aliases": ["shop.A", "shop.Z"],
    }
    assert registered(registry, "t", tangled, "?normalize=true") == first
    assert registry.post("/subjects/t?normalize=true", json={"schema": plain}).json()["id"] == first


@pytest.mark.parametrize("mode", ["READONLY", "READONLY_OVERRIDE"])
def test_nothing_is_changed_where_all_is_read_only(registry: httpx.Client, mode: str) -> None:
    schema_id = registered(registry, "s", ONE)
    assert registry.put("/mode", json={"mode": mode}).json() == {"mode": mode}
    assert registry.get("/mode").json() == {"mode": mode}
    refused = [
        register(registry, "s", TWO),
        registry.delete("/subjects/s"),
        registry.delete("/subjects/s/versions/1"),
        registry.put("/config/s", json={"compatibility": "NONE"}),
    ]
    assert [refusal(answer) for answer in refused] == [(422, 42205)] * 4
    assert registered(registry, "s", ONE) == schema_id, "what is registered already is answered"
    assert registry.delete("/mode").json() == {"mode": mode}
    assert registered(registry, "s", TWO) == schema_id + 1


def test_a_subjects_mode_goes_before_the_global_one(registry: httpx.Client) -> None:
    registry.put("/mode", json={"mode": "readonly"}).raise_for_status()
    registry.put("/mode/s", json={"mode": "READWRITE"}).raise_for_status()
    assert registry.get("/mode/s").json() == {"mode": "READWRITE"}
    registered(registry, "s", ONE)
    assert refusal(register(registry, "t", ONE)) == (422, 42205)
    assert registry.get("/mode/t?defaultToGlobal=true").json() == {"mode": "READONLY"}
    assert registry.delete("/mode/s").json() == {"mode": "READWRITE"}
    assert refusal(registry.delete("/mode/s")) == (404, 40401)
    assert refusal(registry.get("/mode/s")) == (404, 40409)


def test_a_mode_of_null_takes_it_back(registry: httpx.Client) -> None:
    registry.put("/mode", json={"mode": "READONLY"})
    assert registry.put("/mode", json={"mode": None}).json() == {"mode": None}
    assert registry.get("/mode").json() == {"mode": "READWRITE"}


@pytest.mark.parametrize("mode", ["", "SIDEWAYS", "FORWARD", "WRITEONLY"])
def test_modes_that_are_none_are_refused(registry: httpx.Client, mode: str) -> None:
    assert refusal(registry.put("/mode", json={"mode": mode})) == (422, 42204)


def test_importing_keeps_ids_and_versions(registry: httpx.Client) -> None:
    registry.put("/mode/s", json={"mode": "IMPORT"}).raise_for_status()
    answer = register(registry, "s", ONE, id=100, version=7).json()
    assert (answer["id"], answer["version"]) == (100, 7)
    assert registered(registry, "s", UNREADABLE, id=90, version=3) == 90, "compatibility is not judged"
    assert registry.get("/subjects/s/versions").json() == [3, 7]
    assert registered(registry, "s", ONE) == 100, "what is there already is answered"
    assert refusal(register(registry, "s", THREE)) == (422, 42205), "importing needs an id"
    assert refusal(register(registry, "s", THREE, id=100)) == (422, 42205), "another schema has it"
    registry.delete("/mode/s")
    assert registered(registry, "t", THREE) == 101, "new ids come after those that were imported"


def test_ids_are_given_by_whoever_imports_alone(registry: httpx.Client) -> None:
    assert refusal(register(registry, "s", ONE, id=5, version=1)) == (422, 42205)
    registered(registry, "s", ONE)
    assert refusal(register(registry, "s", TWO, version=5)) == (422, 42201)
    assert register(registry, "s", TWO, version=2).json()["version"] == 2


def test_importing_begins_where_nothing_is(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    assert refusal(registry.put("/mode/s", json={"mode": "IMPORT"})) == (422, 42205)
    assert refusal(registry.put("/mode", json={"mode": "IMPORT"})) == (422, 42205)
    registry.put("/mode/t", json={"mode": "IMPORT"}).raise_for_status()
    registry.put("/mode/s?force=true", json={"mode": "IMPORT"}).raise_for_status()
    assert registry.get("/subjects/s/versions").json() == [1]


def test_importing_forgets_what_was_soft_deleted(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    registry.delete("/subjects/s")
    registry.put("/mode/s", json={"mode": "IMPORT"}).raise_for_status()
    assert registry.get("/subjects?deleted=true").json() == []
    assert registered(registry, "s", ONE, id=2, version=1) == 2


def test_forcing_registers_what_does_not_fit(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    assert refusal(register(registry, "s", UNREADABLE)) == (409, 40901)
    registered(registry, "s", UNREADABLE, "?force=true")
    assert registry.get("/subjects/s/versions").json() == [1, 2]


@pytest.mark.parametrize(
    ("subject", "expected"), [("__GLOBAL", 42208), ("__EMPTY", 42208), ("a%0Ab", 42208), (":.other:s", 42208)]
)
def test_names_that_no_subject_may_have(registry: httpx.Client, subject: str, expected: int) -> None:
    for answer in (
        register(registry, subject, ONE),
        registry.put(f"/config/{subject}", json={"compatibility": "NONE"}),
        registry.put(f"/mode/{subject}", json={"mode": "READONLY"}),
    ):
        assert refusal(answer) == (422, expected)


@pytest.mark.parametrize("subject", ["a b", "a/b", "ä-值", "100%", "a?b#c", ".", ":.:s"])
def test_every_other_name_is_a_subjects(registry: httpx.Client, subject: str) -> None:
    path = "/".join(f"%{byte:02X}" for byte in subject.encode()).replace("/", "")
    registered(registry, path, ONE)
    assert registry.get("/subjects").json() == [subject.removeprefix(":.:")]
    assert registry.get(f"/subjects/{path}/versions").json() == [1]


def verdict(registry: httpx.Client, query: str, schema: str) -> Any:
    return registry.post(f"/compatibility/subjects/s/versions{query}", json={"schema": schema}).json()


def test_a_verbose_verdict_says_what_is_wrong_and_with_which_version(registry: httpx.Client) -> None:
    """https://docs.confluent.io/platform/current/schema-registry/develop/api.html#compatibility"""
    registered(registry, "s", ONE)
    found = verdict(registry, "?verbose=true", UNREADABLE)
    assert found["is_compatible"] is False
    first, version, schema, level = found["messages"]
    assert "READER_FIELD_MISSING_DEFAULT_VALUE" in first
    assert "'total'" in first
    assert "/fields/1" in first
    assert version == "{oldSchemaVersion: 1}"
    assert schema.startswith("{oldSchema: '")
    assert level == "{validateFields: 'false', compatibility: 'BACKWARD'}"
    assert verdict(registry, "?verbose=true", TWO) == {"is_compatible": True, "messages": []}
    assert verdict(registry, "/latest", UNREADABLE) == {"is_compatible": False}


def test_an_invalid_schema_is_a_verdict_only_for_those_who_want_to_know_all(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    assert verdict(registry, "/latest?verbose=true", "{")["is_compatible"] is False
    assert verdict(registry, "/latest", "{")["error_code"] == 42201
