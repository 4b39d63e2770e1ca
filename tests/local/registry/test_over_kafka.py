"""The registry as a process of its own, with its schemas in a Kafka."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from millstream.testing.local import LocalKafka
from millstream.testing.registry import RegistryProcess


@pytest.fixture(params=["local", pytest.param("apache", marks=pytest.mark.real)])
def bootstrap(request: Any) -> str:
    """A cluster of this test's own where it can be had quickly: a local broker has a registry inside already."""
    return request.getfixturevalue("kafka" if request.param == "local" else "apache_kafka").bootstrap


def test_schemas_are_kept_in_the_cluster(bootstrap: str, tmp_path: Path) -> None:
    subject, schema = f"{tmp_path.name}-value", {"schema": '{"type": "record", "name": "Kept", "fields": []}'}
    with RegistryProcess(bootstrap, tmp_path / "first.log") as first:
        registered = httpx.post(f"{first.url}/subjects/{subject}/versions", json=schema)
        assert registered.status_code == 200, registered.text
        assert httpx.put(f"{first.url}/config/{subject}", json={"compatibility": "FULL"}).status_code == 200
    with RegistryProcess(bootstrap, tmp_path / "second.log") as second:
        again = httpx.post(f"{second.url}/subjects/{subject}/versions", json=schema)
        assert again.json() == registered.json()
        assert httpx.get(f"{second.url}/config/{subject}").json() == {"compatibilityLevel": "FULL"}


def test_two_registries_on_one_cluster_see_each_others_schemas_when_they_write(bootstrap: str, tmp_path: Path) -> None:
    with (
        RegistryProcess(bootstrap, tmp_path / "one.log") as one,
        RegistryProcess(bootstrap, tmp_path / "two.log") as two,
    ):
        ids = [
            httpx.post(
                f"{registry.url}/subjects/{tmp_path.name}/versions",
                json={"schema": f'{{"type": "record", "name": "{name}", "fields": []}}'},
            ).json()
            for registry, name in ((one, "Shared"), (two, "Shared"))
        ]
        assert ids[0] == ids[1]


def test_a_local_broker_reads_what_a_registry_beside_it_wrote(kafka: Any, tmp_path: Path) -> None:
    schema = {"schema": '"string"'}
    with RegistryProcess(kafka.bootstrap, tmp_path / "beside.log") as beside:
        assert httpx.post(f"{beside.url}/subjects/s/versions", json=schema).json()["id"] == 1
    kafka.restart()
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s"]
    assert httpx.post(f"{kafka.registry}/subjects/s/versions", json=schema).json()["id"] == 1


@pytest.mark.parametrize("codec", ["none", "gzip", "lz4", "snappy", "zstd"])
def test_what_another_registry_wrote_is_read_whatever_its_compression(kafka: LocalKafka, codec: str) -> None:
    httpx.get(f"{kafka.registry}/subjects").raise_for_status()
    # librdkafka compresses only where that makes it smaller.
    value = b'{"subject":"s","version":1,"id":7,"schema":"\\"string\\"","deleted":false}' + b" " * 2_000
    foreign = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec})
    foreign.produce("_schemas", value, b'{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}')
    assert foreign.flush(20) == 0
    assert httpx.get(f"{kafka.registry}/schemas/ids/7").json()["schema"] == '"string"'
    kafka.restart()
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s"]
    assert httpx.post(f"{kafka.registry}/subjects/t/versions", json={"schema": '"string"'}).json()["id"] == 7


@pytest.mark.slow
def test_registries_that_write_at_the_same_time_never_give_one_id_to_two_schemas(
    bootstrap: str, tmp_path: Path
) -> None:
    """Each takes its turn by fencing the other; whoever is shut out reads and decides again."""
    prefix = tmp_path.name

    def written(registry: RegistryProcess, number: int) -> tuple[int, int, str]:
        schema = f'{{"type": "record", "name": "R{number}", "fields": []}}'
        body = {"schema": schema}
        httpx.put(f"{registry.url}/config/{prefix}", json={"compatibility": "NONE"}, timeout=60).raise_for_status()
        answer = httpx.post(f"{registry.url}/subjects/{prefix}/versions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"], answer.json()["version"], answer.json()["schema"]

    with (
        RegistryProcess(bootstrap, tmp_path / "one.log") as one,
        RegistryProcess(bootstrap, tmp_path / "two.log") as two,
        ThreadPoolExecutor(4) as pool,
    ):
        # Numbers 0 to 3 are registered at both.
        work = [(one, n) for n in (0, 1, 2, 3, 4, 5)] + [(two, n) for n in (0, 1, 2, 3, 6, 7)]
        answers = set(pool.map(lambda args: written(*args), work))
        assert len(answers) == 8
        assert len({schema_id for schema_id, _, _ in answers}) == 8
        assert sorted(version for _, version, _ in answers) == list(range(1, 9))
        for registry in (one, two):
            for schema_id, version, schema in answers:
                found = httpx.get(f"{registry.url}/subjects/{prefix}/versions/{version}").json()
                assert (found["id"], found["schema"]) == (schema_id, schema)


def test_a_registry_shows_at_once_what_another_wrote(bootstrap: str, tmp_path: Path) -> None:
    with (
        RegistryProcess(bootstrap, tmp_path / "one.log") as one,
        RegistryProcess(bootstrap, tmp_path / "two.log") as two,
    ):
        subject = f"{tmp_path.name}-shown"
        schema = {"schema": f'{{"type": "record", "name": "{tmp_path.name}", "fields": []}}'.replace("-", "_")}
        made = httpx.post(f"{one.url}/subjects/{subject}/versions", json=schema).json()
        assert httpx.get(f"{two.url}/subjects/{subject}/versions/latest").json()["id"] == made["id"]
        assert httpx.get(f"{two.url}/schemas/ids/{made['id']}").json()["schema"] == made["schema"]
        assert httpx.get(f"{two.url}/v1/metadata/id").json() == httpx.get(f"{one.url}/v1/metadata/id").json()
        httpx.delete(f"{two.url}/subjects/{subject}").raise_for_status()
        assert httpx.get(f"{one.url}/subjects/{subject}/versions").json()["error_code"] == 40401


def test_what_was_not_committed_is_no_schema(kafka: LocalKafka) -> None:
    def schema(number: int) -> tuple[bytes, bytes]:
        key = f'{{"keytype":"SCHEMA","subject":"s{number}","version":1,"magic":1}}'
        return f'{{"subject":"s{number}","version":1,"id":{number},"schema":"\\"int\\""}}'.encode(), key.encode()

    writer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": "other"})
    assert httpx.get(f"{kafka.registry}/subjects").json() == []
    writer.init_transactions(20)
    writer.begin_transaction()
    writer.produce("_schemas", *schema(1))
    assert writer.flush(20) == 0
    assert httpx.get(f"{kafka.registry}/subjects").json() == []
    writer.abort_transaction(20)
    assert httpx.get(f"{kafka.registry}/subjects").json() == []
    writer.begin_transaction()
    writer.produce("_schemas", *schema(2))
    writer.commit_transaction(20)
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s2"]
    kafka.restart()
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s2"]


def test_compaction_changes_nothing_that_a_registry_tells(kafka: LocalKafka) -> None:
    """The topic is compacted: every key names a state. Ids are not given again, though their last trace is gone."""

    def post(subject: str, schema: str) -> int:
        answer = httpx.post(f"{kafka.registry}/subjects/{subject}/versions", json={"schema": schema})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def told() -> list[Any]:
        paths = [
            "/schemas?deleted=true",
            "/subjects?deleted=true",
            "/config",
            "/config/kept?defaultToGlobal=true",
            "/mode/kept?defaultToGlobal=true",
            "/subjects/kept/versions?deleted=true",
            "/subjects/gone/versions?deleted=true",
            "/schemas/ids/1/versions?deleted=true",
        ]
        return [httpx.get(f"{kafka.registry}{path}").json() for path in paths]

    httpx.put(f"{kafka.registry}/config", json={"compatibility": "NONE"}).raise_for_status()
    for level in ("FULL", "NONE"):
        httpx.put(f"{kafka.registry}/config/kept", json={"compatibility": level}).raise_for_status()
    for schema in ('"string"', '"int"', '"long"'):
        post("kept", schema)
    httpx.delete(f"{kafka.registry}/subjects/kept/versions/2").raise_for_status()
    httpx.put(f"{kafka.registry}/mode/kept", json={"mode": "READONLY"}).raise_for_status()
    highest = post("gone", '"double"')
    httpx.delete(f"{kafka.registry}/subjects/gone").raise_for_status()
    httpx.delete(f"{kafka.registry}/subjects/gone?permanent=true").raise_for_status()
    before = told()
    kafka.compact("_schemas")
    assert told() == before
    kafka.restart()
    assert told() == before
    assert post("new", '"float"') == highest + 1


def test_what_was_answered_survives_the_brokers_death(kafka: LocalKafka) -> None:
    ids = []
    for number in range(3):
        schema = {"schema": f'{{"type": "fixed", "name": "F{number}", "size": 1}}'}
        ids.append(httpx.post(f"{kafka.registry}/subjects/s{number}/versions", json=schema).json()["id"])
        kafka.kill()
        kafka.restart()
    assert ids == [1, 2, 3]
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s0", "s1", "s2"]


@pytest.mark.slow
def test_a_registry_outlives_an_outage_of_its_kafka(kafka: LocalKafka, tmp_path: Path) -> None:
    with (
        RegistryProcess(kafka.bootstrap, tmp_path / "beside.log") as beside,
        httpx.Client(base_url=beside.url, timeout=60) as client,
    ):
        schema = {"schema": '"string"'}
        answer = client.post("/subjects/s/versions", json=schema)
        assert answer.status_code == 200, answer.text
        kafka.stop()
        began = time.monotonic()
        assert client.get("/schemas/ids/1").json()["schema"] == '"string"'
        assert time.monotonic() - began < 20, "what is known is answered without Kafka"
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: client.get("/subjects").json()["error_code"], range(6)))
        assert answers == [50001] * 6
        assert time.monotonic() - began < 45
        kafka.restart()
        answer = client.post("/subjects/t/versions", json=schema)
        assert answer.status_code == 200, answer.text
        assert client.get("/subjects").json() == ["s", "t"]
