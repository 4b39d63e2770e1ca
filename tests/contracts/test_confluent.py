"""Confluent's own serializers read what we write, and we read what they write, through one registry."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from tests.contracts.samples import Line

from millstream.contracts import Contracts, Registry, json_schema, protobuf_schema, schema_text, subject_for
from millstream.declare import Event, Topic, Value

# What the client's extra `schemaregistry` brings.
for needed in ("authlib", "cachetools", "attrs"):
    pytest.importorskip(needed)

from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: E402
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer  # noqa: E402
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer  # noqa: E402
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer  # noqa: E402
from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: E402


class InAvro(Event, key="id", namespace="interplay"):
    id: str
    lines: tuple[Line, ...]
    note: str | None = None


class InProtobuf(Event, key="id", namespace="interplay"):
    id: str
    lines: tuple[Line, ...]
    note: str | None = None


class InJson(Event, key="id", namespace="interplay"):
    id: str
    lines: tuple[Line, ...]
    note: str | None = None


avro = Topic("interplay.avro", InAvro)
protobuf = Topic("interplay.protobuf", InProtobuf, format="protobuf")
in_json = Topic("interplay.json", InJson, format="json_schema")
LINES = (
    Line(product="p", quantity=300, price=Decimal("2.5500")),
    Line(product="", quantity=0, price=Decimal("0.0000")),
)


def context(topic: Topic) -> SerializationContext:
    return SerializationContext(topic.name, MessageField.VALUE)


def by_topic_and_record(context: SerializationContext, name: str | None) -> str:
    return subject_for(str(context.topic), str(name))


SUBJECTS: dict[str, Any] = {"subject.name.strategy": by_topic_and_record}


@pytest.fixture
def confluent(registry_url: str) -> Any:
    with SchemaRegistryClient({"url": registry_url}) as client:
        yield client


@pytest.fixture
def contracts(registry_url: str) -> Contracts:
    return Contracts(Registry(registry_url))


def test_avro(contracts: Contracts, confluent: Any) -> None:
    event = InAvro(id="i", lines=LINES, note="n")
    message = contracts.encode(event)
    plain = AvroDeserializer(confluent)(message, context(avro))
    assert plain["lines"][0] == {"product": "p", "quantity": 300, "price": Decimal("2.5500")}
    theirs = AvroSerializer(confluent, schema_text(InAvro), conf=SUBJECTS)(plain, context(avro))
    assert theirs == message
    assert contracts.decoder([avro]).decode(theirs) == event


def test_protobuf(contracts: Contracts, confluent: Any, tmp_path: Path) -> None:
    event = InProtobuf(id="i", lines=LINES, note="")
    message = contracts.encode(event)
    generated = compiled(InProtobuf, tmp_path)
    plain = ProtobufDeserializer(generated, {"use.deprecated.format": False}, confluent)(message, context(protobuf))
    assert [line.quantity for line in plain.lines] == [300, 0]
    assert plain.HasField("note")
    serializer = ProtobufSerializer(generated, confluent, SUBJECTS | {"use.deprecated.format": False})
    theirs = serializer(plain, context(protobuf))
    assert contracts.decoder([protobuf]).decode(theirs) == event


def test_json(contracts: Contracts, confluent: Any) -> None:
    event = InJson(id="i", lines=LINES)
    message = contracts.encode(event)
    plain = JSONDeserializer(None, schema_registry_client=confluent)(message, context(in_json))
    assert plain["lines"][0] == {"product": "p", "quantity": 300, "price": "2.5500"}
    theirs = JSONSerializer(json.dumps(json_schema(InJson)), confluent, conf=SUBJECTS)(plain, context(in_json))
    assert contracts.decoder([in_json]).decode(theirs) == event


def compiled(contract: type[Value], folder: Path) -> Any:
    """The class that Google's compiler makes."""
    (folder / "made.proto").write_text(protobuf_schema(contract))
    included = Path(protoc.__file__).parent / "_proto"
    arguments = ["protoc", f"-I{folder}", f"-I{included}", f"--descriptor_set_out={folder / 'made.bin'}"]
    assert protoc.main([*arguments, "--include_imports", str(folder / "made.proto")]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString((folder / "made.bin").read_bytes()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"interplay.{contract.__name__}"))
