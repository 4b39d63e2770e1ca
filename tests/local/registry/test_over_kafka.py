"""The registry as a process of its own, with its schemas in a Kafka."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import KafkaError, Message, Producer

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
        assert httpx.post(f"{beside.url}/subjects/s/versions", json=schema).json() == {"id": 1}
    kafka.restart()
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s"]
    assert httpx.post(f"{kafka.registry}/subjects/s/versions", json=schema).json() == {"id": 1}


@pytest.mark.parametrize("codec", ["lz4", "snappy", "zstd"])
def test_nobody_locks_the_registry_out_with_what_it_cannot_read(kafka: LocalKafka, codec: str) -> None:
    schema = {"schema": '"string"'}
    httpx.get(f"{kafka.registry}/subjects").raise_for_status()
    reports: list[KafkaError | None] = []

    def told(error: KafkaError | None, _: Message) -> None:
        reports.append(error)

    # librdkafka compresses only where that makes it smaller.
    value = b'{"subject": "foreign"}' + b" " * 2_000
    foreign = Producer({"bootstrap.servers": kafka.bootstrap, "compression.type": codec})
    foreign.produce("_schemas", value, b'{"keytype":"NOOP","magic":0}', on_delivery=told)
    assert foreign.flush(20) == 0
    (error,) = reports
    assert error is not None
    assert error.code() == KafkaError.UNSUPPORTED_COMPRESSION_TYPE
    assert httpx.post(f"{kafka.registry}/subjects/s/versions", json=schema).json() == {"id": 1}
    kafka.restart()
    assert httpx.get(f"{kafka.registry}/subjects").json() == ["s"]
