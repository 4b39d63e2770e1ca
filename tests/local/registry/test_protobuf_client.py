"""Confluent's own Protobuf serializers and client against the registry, with classes that `protoc` has compiled.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-protobuf.html
"""

import base64
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_tools
import httpx
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_tools import protoc
from tests.local.registry.talk import ONE, reference, refusal, register, registered

# What the client's extra `schemaregistry` brings.
for needed in ("authlib", "cachetools", "attrs"):
    pytest.importorskip(needed)

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient  # noqa: E402
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer  # noqa: E402
from confluent_kafka.serialization import MessageField, SerializationContext  # noqa: E402

MONEY = 'syntax = "proto3"; package till; message Money { sint64 cents = 1; }'
ORDER = """
syntax = "proto3";
package till;
import "till_money.proto";
import "google/protobuf/timestamp.proto";
message Note { string text = 1; }
message Order {
  message Line { string sku = 1; Money price = 2; }
  string id = 1;
  map<string, Line> lines = 2;
  oneof paid { Money cash = 3; string card = 4; }
  optional int32 priority = 5;
  google.protobuf.Timestamp at = 6;
}
"""
PLACE = SerializationContext("orders", MessageField.VALUE)


@pytest.fixture
def client(registry: httpx.Client) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": str(registry.base_url)}) as client:
        yield client


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module that `protoc` made: once, for a file may be in Protobuf's pool of a process only once."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "till_money.proto").write_text(MONEY)
    (folder / "till_order.proto").write_text(ORDER)
    known = Path(grpc_tools.__file__).parent / "_proto"
    files = ["till_money.proto", "till_order.proto"]
    assert protoc.main(["", f"-I{folder}", f"-I{known}", f"--python_out={folder}", *files]) == 0
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("till_order_pb2")
    finally:
        sys.path.remove(str(folder))


def another(client: SchemaRegistryClient) -> SchemaRegistryClient:
    """A reader's own: who has registered a schema remembers its text, and would not ask for its other form."""
    return SchemaRegistryClient({"url": client.config()["url"]})


def read(client: SchemaRegistryClient, message: Any, written: bytes, **conf: Any) -> Any:
    with another(client) as own:
        return ProtobufDeserializer(message, {"use.deprecated.format": False, **conf}, own)(written, PLACE)


def an_order(classes: Any) -> Any:
    order = classes.Order(id="o-1", priority=0)
    order.lines["a"].price.cents = -5
    order.cash.cents = 7
    order.at.seconds = 1
    return order


@pytest.mark.parametrize("normalize", [False, True], ids=["as it is", "normalized"])
def test_serializers_write_and_read_with_references(
    client: SchemaRegistryClient, classes: Any, normalize: bool
) -> None:
    conf = {"use.deprecated.format": False, "normalize.schemas": normalize}
    order = an_order(classes)
    written = ProtobufSerializer(classes.Order, client, conf)(order, PLACE)
    assert written is not None
    assert written[0] == 0
    assert written[5:7] == b"\x02\x02", "one index, that of the second message in the file"
    assert client.get_subjects() == ["orders-value", "till_money.proto"]
    schema_id = int.from_bytes(written[1:5])
    assert client.get_referenced_by("till_money.proto", 1) == [schema_id]
    assert client.get_schema_versions(schema_id)[0].subject == "orders-value"
    assert read(client, classes.Order, written) == order
    latest = {"use.deprecated.format": False, "auto.register.schemas": False, "use.latest.version": True}
    with another(client) as other:
        assert ProtobufSerializer(classes.Order, other, latest)(order, PLACE) == written


def test_a_message_in_a_message_is_found_by_its_numbers(client: SchemaRegistryClient, classes: Any) -> None:
    """Maps are compiled to messages of their own, which are numbered with the others."""
    line = classes.Order.Line(sku="s")
    conf = {"use.deprecated.format": False}
    written = ProtobufSerializer(classes.Order.Line, client, conf)(line, PLACE)
    assert written is not None
    assert read(client, classes.Order.Line, written) == line
    with another(client) as other:
        schema = other.get_schema(int.from_bytes(written[1:5]), fmt="serialized")
    stored = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str or ""))
    compiled = FileDescriptorProto.FromString(classes.DESCRIPTOR.serialized_pb)
    names = [nested.name for nested in compiled.message_type[1].nested_type]
    assert [nested.name for nested in stored.message_type[1].nested_type] == names == ["Line", "LinesEntry"]


def test_what_is_written_by_one_version_is_read_by_the_next(client: SchemaRegistryClient, classes: Any) -> None:
    """The class of the reader is the old one; the topic's schema has moved on."""
    conf = {"use.deprecated.format": False}
    written = ProtobufSerializer(classes.Order, client, conf)(an_order(classes), PLACE)
    newer = ORDER.replace("string id = 1;", "string id = 1; repeated string tags = 7;")
    to_money = [SchemaReference("till_money.proto", "till_money.proto", 1)]
    client.register_schema("orders-value", Schema(newer, "PROTOBUF", to_money))
    assert client.get_latest_version("orders-value").version == 2
    assert written is not None
    assert read(client, classes.Order, written, **{"use.latest.version": True}) == an_order(classes)


@pytest.fixture
def shop(registry: httpx.Client) -> httpx.Client:
    registered(registry, "money", MONEY, schemaType="PROTOBUF")
    registered(registry, "orders", ORDER, schemaType="PROTOBUF", references=TO_MONEY)
    return registry


TO_MONEY = [reference("till_money.proto", "money", 1)]


def test_every_route_takes_protobuf(shop: httpx.Client) -> None:
    version = shop.get("/subjects/orders/versions/latest").json()
    assert version["schemaType"] == "PROTOBUF"
    assert version["references"] == TO_MONEY
    assert version["schema"].startswith('syntax = "proto3";\npackage till;\n\nimport "till_money.proto";\n')
    by_id = shop.get(f"/schemas/ids/{version['id']}").json()
    assert (by_id["schemaType"], by_id["schema"]) == ("PROTOBUF", version["schema"])
    assert shop.get(f"/schemas/guids/{version['guid']}").json()["schema"] == version["schema"]
    assert shop.get("/subjects/orders/versions/1/schema").text == version["schema"]
    offer = {"schema": ORDER, "schemaType": "PROTOBUF", "references": TO_MONEY}
    assert shop.post("/subjects/orders", json=offer).json() == version
    assert shop.get("/subjects/money/versions/1/referencedby").json() == [version["id"]]
    assert refusal(shop.delete("/subjects/money")) == (422, 42206)
    assert "PROTOBUF" in shop.get("/schemas/types").json()


@pytest.mark.parametrize("path", ["/subjects/orders/versions/1", "/schemas/ids/2", "/schemas/guids/{guid}"])
def test_a_schema_can_be_had_compiled(shop: httpx.Client, classes: Any, path: str) -> None:
    guid = shop.get("/schemas/ids/2").json()["guid"]
    answer = shop.get(path.format(guid=guid), params={"format": "serialized"}).json()
    file = FileDescriptorProto.FromString(base64.b64decode(answer["schema"]))
    assert list(file.dependency) == ["till_money.proto", "google/protobuf/timestamp.proto"]
    assert file.message_type[1].field[0].name == "id"
    assert shop.get("/schemas/ids/2?format=unheard-of").json() == shop.get("/schemas/ids/2").json()


def test_what_cannot_be_compiled_is_given_as_it_is(registry: httpx.Client) -> None:
    """As importing takes it from another registry, with what it refers to not there."""
    registry.put("/mode/s", json={"mode": "IMPORT"}).raise_for_status()
    registered(registry, "s", 'import "gone.proto"; message A { Gone g = 1; }', schemaType="PROTOBUF", id=7)
    answer = registry.get("/schemas/ids/7?format=serialized")
    assert answer.status_code == 200
    assert "message A {" in answer.json()["schema"]


def test_the_same_schema_compiled_is_the_same_version(shop: httpx.Client, classes: Any) -> None:
    offer: dict[str, Any] = {"schemaType": "PROTOBUF", "references": TO_MONEY}
    compiled = base64.b64encode(classes.DESCRIPTOR.serialized_pb).decode()
    assert shop.post("/subjects/orders", json={"schema": compiled, **offer}).json()["version"] == 1
    assert registered(shop, "orders", compiled, **offer) == 2
    ids = {registered(shop, "elsewhere", text, "?normalize=true", **offer) for text in (compiled, ORDER)}
    assert len(ids) == 1


def test_compatibility_is_told_with_reasons(shop: httpx.Client) -> None:
    worse = ORDER.replace("string id = 1;", "int32 id = 1;").replace("message Note { string text = 1; }", "")
    offer = {"schema": worse, "schemaType": "PROTOBUF", "references": TO_MONEY}
    answer = shop.post("/compatibility/subjects/orders/versions/latest?verbose=true", json=offer).json()
    assert answer["is_compatible"] is False
    assert answer["messages"][:2] == [
        "{errorType:'MESSAGE_REMOVED', description:'The message at path '#/Note' of the old schema is missing in the "
        "new schema', additionalInfo:''}",
        "{errorType:'FIELD_SCALAR_KIND_CHANGED', description:'The scalar at path '#/Order/1' of the new schema cannot "
        "hold what the old schema has there', additionalInfo:''}",
    ]
    refused = register(shop, "orders", worse, schemaType="PROTOBUF", references=TO_MONEY)
    assert refusal(refused) == (409, 40901)
    better = ORDER.replace("string id = 1;", "bytes id = 1;")
    assert registered(shop, "orders", better, schemaType="PROTOBUF", references=TO_MONEY) == 3


@pytest.mark.parametrize("level", ["BACKWARD", "FORWARD", "FULL"])
def test_levels_ask_in_their_direction(registry: httpx.Client, level: str) -> None:
    """Only the old schema has the second message: the old one is not missed by who reads with it."""
    registry.put("/config/s", json={"compatibility": level}).raise_for_status()
    registered(registry, "s", "message A {} message B {}", schemaType="PROTOBUF")
    answer = register(registry, "s", "message A {}", schemaType="PROTOBUF")
    assert (answer.status_code == 200) is (level == "FORWARD")


@pytest.mark.parametrize(
    ("text", "references"),
    [
        (ORDER, []),
        (ORDER, [reference("money.proto", "money", 1)]),
        (ORDER, [reference("till_money.proto", "nobody", 1)]),
        (ORDER, [reference("till_money.proto", "records", 1)]),
        (ONE, []),
        ("message A { B b = 1; }", []),
    ],
    ids=["none", "by another name", "no such subject", "another type", "Avro", "no such type"],
)
def test_what_cannot_be_understood_is_an_invalid_schema(registry: httpx.Client, text: str, references: Any) -> None:
    registered(registry, "money", MONEY, schemaType="PROTOBUF")
    registered(registry, "records", ONE)
    refused = register(registry, "s", text, schemaType="PROTOBUF", references=references)
    assert refusal(refused) == (422, 42201)


def test_one_subject_keeps_to_one_type(shop: httpx.Client) -> None:
    refused = register(shop, "money", ONE)
    assert refusal(refused) == (409, 40901)
    assert "different schema type" in refused.json()["message"]


def test_a_type_in_an_import_is_looked_into(shop: httpx.Client) -> None:
    shop.put("/config/money", json={"compatibility": "NONE"}).raise_for_status()
    registered(shop, "money", MONEY.replace("sint64", "string"), schemaType="PROTOBUF")
    to_new = [reference("till_money.proto", "money", 2)]
    offer = {"schema": ORDER, "schemaType": "PROTOBUF", "references": to_new}
    answer = shop.post("/compatibility/subjects/orders/versions/latest?verbose=true", json=offer).json()
    assert "FIELD_SCALAR_KIND_CHANGED" in answer["messages"][0]
    assert "'#/Money/1'" in answer["messages"][0]


def test_protobuf_is_loaded_with_the_first_schema_in_it() -> None:
    """The platform must start fast and stay small for those who have none."""
    code = "import sys, millstream.local.registry.server; assert 'google.protobuf' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
