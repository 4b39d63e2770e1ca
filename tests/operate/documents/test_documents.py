"""`millstream docs`: AsyncAPI that is valid, and a catalogue that says everything."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from tests.operate.documents.conftest import node

from millstream.operate.documents.yaml import to_yaml

Docs = Callable[..., subprocess.CompletedProcess[str]]
READ_YAML = (
    "process.stdout.write(JSON.stringify(require('yaml').parse(require('fs').readFileSync(process.argv[1], 'utf8'))))"
)


@pytest.fixture
def document(docs: Docs, tale: Path) -> dict[str, Any]:
    written = docs("--out", "out", "--json")
    assert written.returncode == 0, written.stderr
    return json.loads((tale / "out" / "asyncapi.json").read_text())


def test_the_command_explains_itself_with_examples(docs: Docs):
    helped = docs("--help")
    assert "millstream docs --check" in helped.stdout.split("Examples:")[1]
    assert "Exit codes: 0 fine, 1 something was found" in helped.stdout


def test_channels_and_operations_come_from_topics_and_annotations(document: dict[str, Any]):
    assert list(document["channels"]) == ["tale.bills", "tale.commands", "tale.news", "tale.orders", "tale.parcels"]
    kafka = document["channels"]["tale.commands"]["bindings"]["kafka"]
    assert (kafka["topic"], kafka["partitions"]) == ("tale.commands", 3)
    assert document["channels"]["tale.orders"]["bindings"]["kafka"]["topicConfiguration"]["retention.ms"] == -1
    assert list(document["operations"]) == [
        "desk.send.tale.commands",
        "order.receive.tale.commands",
        "order.send.tale.orders",
        "parcel.receive.tale.orders",
        "parcel.receive.tale.parcels",
        "parcel.send.tale.bills",
        "parcel.send.tale.news",
        "parcel.send.tale.parcels",
    ]
    received = document["operations"]["order.receive.tale.commands"]
    assert received["messages"] == [{"$ref": "#/channels/tale.commands/messages/PlaceOrder"}]
    assert received["bindings"]["kafka"]["groupId"] == {"type": "string", "enum": ["order.kafka"]}


def test_messages_have_the_schema_that_travels(document: dict[str, Any]):
    messages = document["components"]["messages"]
    payloads = {name: message["payload"] for name, message in messages.items()}
    assert payloads["tale.OrderPlaced"]["schema"]["name"] == "OrderPlaced"
    assert "message PlaceOrder {" in payloads["tale.PlaceOrder"]["schema"]
    assert "order_id" in payloads["tale.OrderShipped"]["schema"]["properties"]
    assert [payload["schemaFormat"].split(";")[0] for payload in payloads.values()] == [
        "application/schema+json",
        "application/vnd.apache.avro",
        "application/schema+json",
        "application/schema+json",
        "application/schema+json",
        "application/vnd.google.protobuf",
    ]
    assert messages["tale.OrderTold"]["contentType"] == "application/cloudevents+json"
    assert "schemaIdLocation" not in messages["tale.OrderTold"]["bindings"]["kafka"]
    whole = payloads["tale.OrderTold"]["schema"]
    assert list(whole["properties"]["data"]["properties"]) == ["order_id", "because", "lines"]
    (example,) = messages["tale.OrderTold"]["examples"]
    Draft202012Validator(whole).validate(example["payload"])
    because = example["payload"] | {"data": {"order_id": "1", "because": {"order_id": 2}}}
    assert not Draft202012Validator(whole).is_valid(because)
    assert messages["tale.OrderPlaced"]["bindings"]["kafka"]["key"]["description"] == "order_id of the event"


def test_a_deletion_is_a_message_without_a_payload(document: dict[str, Any]):
    assert list(document["channels"]["tale.parcels"]["messages"]) == ["OrderShipped", "OrderShipped.Deleted"]
    message = document["components"]["messages"]["tale.OrderShipped.Deleted"]
    assert message["payload"]["schema"] == {"type": "null"}
    assert message["examples"] == [{"name": "Deleted[OrderShipped]", "payload": None}]
    assert message["bindings"]["kafka"]["key"]["description"] == "order_id of the deletion"
    assert "schemaIdLocation" not in message["bindings"]["kafka"]
    received = document["operations"]["parcel.receive.tale.parcels"]
    assert received["messages"][1:] == [{"$ref": "#/channels/tale.parcels/messages/OrderShipped.Deleted"}]


def test_examples_have_nothing_personal(document: dict[str, Any]):
    (example,) = document["components"]["messages"]["tale.OrderPlaced"]["examples"]
    assert example["payload"]["email"] == "••••••"
    assert example["payload"]["total"] == "12.0001"
    assert example["payload"]["lines"] == [{"product": "product-1", "quantity": 1}]


def test_documents_are_the_same_for_the_same_code_and_check_says_when_they_are_not(docs: Docs, tale: Path):
    assert docs("--out", "one").returncode == docs("--out", "two").returncode == 0
    for name in ("asyncapi.yaml", "catalogue.md", "catalogue.html"):
        assert (tale / "one" / name).read_bytes() == (tale / "two" / name).read_bytes()
    assert docs("--out", "one", "--check").returncode == 0
    (tale / "one" / "catalogue.md").write_text("by hand")
    stale = docs("--out", "one", "--check")
    assert stale.returncode == 1
    assert stale.stdout == f"{Path('one') / 'catalogue.md'} is out of date: run `millstream docs` and commit it\n"


@pytest.mark.parametrize("name", ["catalogue.md", "catalogue.html"])
def test_the_catalogue_says_everything(docs: Docs, tale: Path, name: str):
    docs("--out", "out")
    text = (tale / "out" / name).read_text()
    for said in (
        *("tale.commands", "tale.orders", "tale.parcels", "tale.orders.dlq", "3 partitions", "for ever"),
        *("PlaceOrder", "OrderPlaced", "OrderShipped", "Line", "Somebody wants something.", "What, and how many."),
        *("decimal(18, 4)", "list of Line", "one of web, shop", "moment or nothing", "personal"),
        *("in the customer", "deprecated: nobody reads it", "parcel.ship", "order.place", "parcel.lost"),
        *("Deleted[OrderShipped]", "a record without a value"),
    ):
        assert said in text
    assert "nobody here" in text


def test_the_page_stands_alone_and_escapes(docs: Docs, tale: Path):
    docs("--out", "out")
    page = (tale / "out" / "catalogue.html").read_text()
    assert "&lt;wanted&gt;" in page
    assert "<script" not in page
    assert "http" not in page.replace('"https://', "")
    assert r"\|" not in page


HARD = {
    "yes": [
        "no",
        "1",
        "1.0",
        1.5,
        True,
        None,
        "~",
        "a: b",
        "# c",
        "- d",
        " e ",
        "",
        "é\n",
        "a\nb\n",
        " a\nb\n",
        "a\n\n",
    ],
    "nested": [
        [1, [2, []]],
        {"a": {"b": [{"c": 1, "d": [{}]}]}},
        "2026-01-31",
        "0x10",
        "1e3",
        "null",
        "a\tb",
        "%x",
        "@y",
    ],
    "key: odd": {"1": "=", "on": "<<", "": "!tag", "&a": "*b"},
}


@pytest.mark.real
def test_asyncapi_is_valid_by_the_official_schema_and_yaml_says_the_same(
    docs: Docs, document: dict[str, Any], tale: Path, asyncapi_folder: Path
):
    schemas = asyncapi_folder / "node_modules" / "@asyncapi" / "specs" / "schemas"
    official = Draft7Validator(json.loads((schemas / "3.0.0.json").read_text()))
    assert [error.message for error in official.iter_errors(document)] == []
    broken = document | {"channels": {"tale.orders": {"partitions": 3}}}
    assert not official.is_valid(broken)
    docs("--out", "out")
    read = node(asyncapi_folder, "node", "-e", READ_YAML, str(tale / "out" / "asyncapi.yaml"))
    assert json.loads(read) == document


@pytest.mark.real
def test_yaml_comes_back_as_it_was(tmp_path: Path, asyncapi_folder: Path):
    (tmp_path / "hard.yaml").write_text(to_yaml(HARD))
    assert json.loads(node(asyncapi_folder, "node", "-e", READ_YAML, str(tmp_path / "hard.yaml"))) == HARD
