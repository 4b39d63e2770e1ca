"""Soft and hard deletes.

https://docs.confluent.io/platform/current/schema-registry/schema-deletion-guidelines.html
"""

import httpx
import pytest
from tests.local.registry.talk import ONE, THREE, TWO, refusal, registered


@pytest.fixture
def three(registry: httpx.Client) -> httpx.Client:
    """Subject `s` with three versions."""
    for schema in (ONE, TWO, THREE):
        registered(registry, "s", schema)
    return registry


def test_the_latest_version_is_the_latest_that_is_not_deleted(three: httpx.Client) -> None:
    assert three.delete("/subjects/s/versions/latest").json() == 3
    assert three.get("/subjects/s/versions/latest").json()["version"] == 2
    assert three.get("/subjects/s/versions/-1?deleted=true").json()["version"] == 2
    assert three.delete("/subjects/s/versions/-1").json() == 2
    assert three.delete("/subjects/s/versions/1").json() == 1
    assert refusal(three.get("/subjects/s/versions/latest")) == (404, 40401)
    assert refusal(three.get("/subjects/s/versions/latest?deleted=true")) == (404, 40402)


def test_compatibility_is_judged_against_what_is_not_deleted(three: httpx.Client) -> None:
    three.put("/config/s", json={"compatibility": "FORWARD"})
    body = {"schema": TWO.replace('"note"', '"word"')}
    assert three.post("/compatibility/subjects/s/versions", json=body).json() == {"is_compatible": True}
    three.delete("/subjects/s/versions/3")
    three.delete("/subjects/s/versions/2")
    assert refusal(three.post("/compatibility/subjects/s/versions/2", json=body)) == (404, 40402)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [2]),
        ("?deleted=true", [1, 2, 3]),
        ("?deletedOnly=true", [1, 3]),
        ("?deleted=true&deletedOnly=true", [1, 3]),
        ("?deletedAsNegative=true", [-1, 2, -3]),
        ("?deleted=true&offset=1", [2, 3]),
        ("?deleted=true&limit=2", [1, 2]),
        ("?deleted=true&offset=2&limit=5", [3]),
        ("?deleted=true&offset=9", []),
        ("?deleted=true&limit=0", [1, 2, 3]),
    ],
)
def test_versions_are_listed_as_asked(three: httpx.Client, query: str, expected: list[int]) -> None:
    three.delete("/subjects/s/versions/1")
    three.delete("/subjects/s/versions/3")
    assert three.get(f"/subjects/s/versions{query}").json() == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["a", "b-1", "b-2"]),
        ("?deleted=true", ["a", "b-1", "b-2", "gone"]),
        ("?deletedOnly=true", ["gone"]),
        ("?subjectPrefix=b", ["b-1", "b-2"]),
        ("?subjectPrefix=:*:b", ["b-1", "b-2"]),
        ("?subjectPrefix=:.:b", ["b-1", "b-2"]),
        ("?subjectPrefix=:.other:", []),
        ("?subjectPrefix=B", []),
        ("?offset=1&limit=1", ["b-1"]),
        ("?limit=-1", ["a", "b-1", "b-2"]),
    ],
)
def test_subjects_are_listed_as_asked(registry: httpx.Client, query: str, expected: list[str]) -> None:
    for subject in ("b-2", "a", "gone", "b-1"):
        registered(registry, subject, ONE)
    registry.delete("/subjects/gone")
    assert registry.get(f"/subjects{query}").json() == expected


def test_a_soft_deleted_version_is_found_only_by_those_who_ask_for_it(three: httpx.Client) -> None:
    three.delete("/subjects/s/versions/1")
    schema_id = three.get("/subjects/s/versions/1?deleted=true").json()["id"]
    assert three.get("/subjects/s/versions/1?deleted=true").json()["deleted"] is True
    assert refusal(three.get("/subjects/s/versions/1")) == (404, 40402)
    assert refusal(three.post("/subjects/s", json={"schema": ONE})) == (404, 40403)
    assert three.post("/subjects/s?deleted=true", json={"schema": ONE}).json()["version"] == 1
    assert three.get(f"/schemas/ids/{schema_id}").json()["schema"]
    assert three.get(f"/schemas/ids/{schema_id}/subjects").json() == []
    assert three.get(f"/schemas/ids/{schema_id}/subjects?deleted=true").json() == ["s"]
    assert three.get(f"/schemas/ids/{schema_id}/versions?deleted=true").json() == [{"subject": "s", "version": 1}]


def test_looking_into_a_subject_that_is_deleted_as_a_whole(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    registry.delete("/subjects/s")
    assert refusal(registry.get("/subjects/s/versions")) == (404, 40401)
    assert refusal(registry.post("/subjects/s", json={"schema": ONE})) == (404, 40401)
    assert registry.get("/subjects/s/versions?deleted=true").json() == [1]
    assert registry.get("/subjects/s/versions?deletedOnly=true").json() == [1]
    assert refusal(registry.delete("/subjects/s/versions/1")) == (404, 40406)
    assert refusal(registry.delete("/subjects/s/versions/2")) == (404, 40402)
    assert refusal(registry.delete("/subjects/t/versions/2")) == (404, 40401)


def test_only_what_is_softly_deleted_may_go_for_ever(three: httpx.Client) -> None:
    three.delete("/subjects/s/versions/2")
    assert refusal(three.delete("/subjects/s?permanent=true")) == (404, 40405)
    assert refusal(three.delete("/subjects/s/versions/1?permanent=true")) == (404, 40407)
    assert refusal(three.delete("/subjects/s/versions/latest?permanent=true")) == (404, 40407)
    assert three.delete("/subjects/s/versions/2?permanent=true").json() == 2
    assert refusal(three.delete("/subjects/s/versions/2?permanent=true")) == (404, 40402)
    assert three.get("/subjects/s/versions?deleted=true").json() == [1, 3]


def test_the_number_of_a_version_is_not_given_again_while_the_subject_lives(three: httpx.Client) -> None:
    three.delete("/subjects/s/versions/2")
    three.delete("/subjects/s/versions/2?permanent=true")
    three.put("/config/s", json={"compatibility": "NONE"})
    registered(three, "s", '"string"')
    assert three.get("/subjects/s/versions").json() == [1, 3, 4]


def test_settings_outlive_a_soft_delete_and_go_with_the_hard_one(three: httpx.Client) -> None:
    three.put("/config/s", json={"compatibility": "FULL"})
    three.put("/mode/s", json={"mode": "READWRITE"})
    three.delete("/subjects/s")
    assert three.get("/config/s").json() == {"compatibilityLevel": "FULL"}
    three.delete("/subjects/s?permanent=true")
    assert refusal(three.get("/config/s")) == (404, 40408)
    assert refusal(three.get("/mode/s")) == (404, 40409)


def test_settings_go_with_the_last_version_too(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    registry.put("/config/s", json={"compatibility": "FULL"})
    registry.delete("/subjects/s/versions/1")
    registry.delete("/subjects/s/versions/1?permanent=true")
    assert refusal(registry.get("/config/s")) == (404, 40408)
    assert registry.get("/subjects?deleted=true").json() == []
