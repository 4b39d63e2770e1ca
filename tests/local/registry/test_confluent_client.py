"""Confluent's own Python client, sync and async, and its Avro serializers, which must notice nothing.

https://docs.confluent.io/platform/current/clients/confluent-kafka-python/html/index.html#schemaregistry
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.local.registry.talk import ONE, TWO, UNREADABLE, record

from millstream.schemas.formats import TYPES

# What the client's extra `schemaregistry` brings.
for needed in ("authlib", "cachetools", "attrs"):
    pytest.importorskip(needed)

from confluent_kafka.schema_registry import (  # noqa: E402
    AsyncSchemaRegistryClient,
    ConfigCompatibilityLevel,
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer  # noqa: E402
from confluent_kafka.schema_registry.error import SchemaRegistryError  # noqa: E402
from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: E402


@pytest.fixture
def client(registry: httpx.Client) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": str(registry.base_url)}) as client:
        yield client


def avro(text: str, *references: tuple[str, str, int]) -> Schema:
    return Schema(text, "AVRO", [SchemaReference(*of) for of in references])


def test_registering_and_finding_again(client: SchemaRegistryClient) -> None:
    schema_id = client.register_schema("s", avro(ONE))
    assert client.register_schema("t", avro(ONE)) == schema_id
    assert client.get_schema(schema_id).schema_type == "AVRO"
    full = client.register_schema_full_response("u", avro(ONE))
    assert full.schema_id == schema_id
    assert full.guid is not None
    assert client.get_schema_by_guid(full.guid).schema_str == client.get_schema(schema_id).schema_str
    assert client.lookup_schema("s", avro(ONE)).version == 1
    assert client.get_subjects_by_schema_id(schema_id) == ["s", "t", "u"]
    assert [(use.subject, use.version) for use in client.get_schema_versions(schema_id)] == [
        ("s", 1),
        ("t", 1),
        ("u", 1),
    ]
    assert client.get_subjects() == ["s", "t", "u"]
    assert client.get_schema_types() == TYPES
    assert client.get_contexts() == ["."]


def test_versions_and_deletes(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(ONE))
    client.register_schema("s", avro(TWO))
    assert client.get_versions("s") == [1, 2]
    assert client.get_latest_version("s").version == 2
    assert client.get_version("s", 1).schema_id == 1
    assert client.delete_version("s", 1) == 1
    assert client.get_versions("s", deleted=True) == [1, 2]
    assert client.get_version("s", 1, deleted=True).version == 1
    assert client.delete_version("s", 1, permanent=True) == 1
    assert client.delete_subject("s") == [2]
    assert client.delete_subject("s", permanent=True) == [2]
    with pytest.raises(SchemaRegistryError) as raised:
        client.get_versions("s")
    assert (raised.value.http_status_code, raised.value.error_code) == (404, 40401)


def test_compatibility_config_and_mode(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(ONE))
    assert client.test_compatibility("s", avro(TWO))
    assert not client.test_compatibility_all_versions("s", avro(UNREADABLE))
    client.set_compatibility("s", "none")
    assert client.get_compatibility("s") == "NONE"
    client.set_config("s", ServerConfig(compatibility=ConfigCompatibilityLevel.FULL, compatibility_group="major"))
    config = client.get_config("s")
    assert (config.compatibility_level, config.compatibility_group) == (ConfigCompatibilityLevel.FULL, "major")
    client.delete_config("s")
    assert client.get_config().compatibility_level == ConfigCompatibilityLevel.BACKWARD
    assert client.update_mode("s", "READONLY") == "READONLY"
    assert client.get_mode("s") == "READONLY"
    with pytest.raises(SchemaRegistryError, match="read-only") as raised:
        client.register_schema("s", avro(TWO))
    assert raised.value.error_code == 42205
    assert client.delete_mode("s") == "READONLY"
    assert client.get_global_mode() == "READWRITE"
    assert client.update_global_mode("READWRITE") == "READWRITE"


def test_an_incompatible_schema_is_a_conflict(client: SchemaRegistryClient) -> None:
    client.register_schema("s", avro(ONE))
    with pytest.raises(SchemaRegistryError) as raised:
        client.register_schema("s", avro(UNREADABLE))
    assert (raised.value.http_status_code, raised.value.error_code) == (409, 40901)


def test_serializers_write_and_read_with_references(client: SchemaRegistryClient) -> None:
    money = record(("amount", "long"), name="Money", namespace="shop")
    client.register_schema("money", avro(money))
    order = avro(
        record(("id", "string"), ("total", "shop.Money"), name="Order", namespace="shop"), ("shop.Money", "money", 1)
    )
    value = {"id": "o-1", "total": {"amount": 7}}
    place = SerializationContext("orders", MessageField.VALUE)
    written = AvroSerializer(client, order)(value, place)
    assert written is not None
    assert written[:1] == b"\0"
    schema_id = int.from_bytes(written[1:5])
    assert client.get_subjects_by_schema_id(schema_id) == ["orders-value"]
    assert AvroDeserializer(client)(written, place) == value
    assert client.get_referenced_by("money", 1) == [schema_id]
    latest = {"auto.register.schemas": False, "use.latest.version": True}
    assert AvroSerializer(client, order, conf=latest)(value, place) == written


async def _converse(url: str) -> list[Any]:
    async with AsyncSchemaRegistryClient({"url": url}) as client:
        schema_id = await client.register_schema("s", avro(ONE))
        found = await client.get_schema(schema_id)
        latest = await client.get_latest_version("s")
        fits = await client.test_compatibility("s", avro(TWO))
        gone = await client.delete_subject("s")
        assert found.schema_str is not None
        return [schema_id, json.loads(found.schema_str), latest.version, fits, gone]


def test_the_asynchronous_client_sees_the_same(registry: httpx.Client) -> None:
    import asyncio

    assert asyncio.run(_converse(str(registry.base_url))) == [1, json.loads(ONE), 1, True, [1]]
