"""The registry as a process of its own, with its schemas in a Kafka."""

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
