"""What is imported means the same as the file that it came from; what cannot be is named with its remedy."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.operate.schemas.importable import AVRO, JSON_SCHEMA, PROTOBUF, avro, described

from millstream.contracts import json_schema, protobuf_schema, schema_text
from millstream.errors import DeclarationError
from millstream.operate.schemas.imports import import_file, import_text
from millstream.operate.schemas.imports.module import Refused
from millstream.operate.schemas.imports.verify import running
from millstream.schemas import formats

TYPES = {"avro": "AVRO", "protobuf": "PROTOBUF", "json_schema": "JSON"}
MAKE = {
    "avro": schema_text,
    "protobuf": protobuf_schema,
    "json_schema": lambda contract: json.dumps(json_schema(contract)),
}
ALL = [
    (language, name, text)
    for language, schemas in (("avro", AVRO), ("protobuf", PROTOBUF), ("json_schema", JSON_SCHEMA))
    for name, text in schemas.items()
]
IDS = [f"{language}-{name.replace(' ', '-')}" for language, name, _ in ALL]


def test_there_are_a_dozen_of_each():
    assert min(len(AVRO), len(PROTOBUF), len(JSON_SCHEMA)) >= 12


@pytest.mark.parametrize(
    ("language", "name", "text"),
    # The registry holds against these how they are said: `oneOf` for `anyOf`, `const` and a type beside an enum.
    [each for each in ALL if each[:2] not in [("json_schema", name) for name in ("one of", "enums", "const")]],
)
def test_each_reads_what_the_other_writes_by_the_rules_of_the_registry(language: str, name: str, text: str):
    source = import_text(language, text, "order")
    with running(source) as classes:
        ours = MAKE[language](classes["Order"])
    speaks = formats.find(TYPES[language])
    theirs, made = speaks.parse(text, (), as_new=True), speaks.parse(ours, (), as_new=True)
    assert theirs.misfits(made) == []
    if name != "two stories":  # a class is a file of its own
        assert made.misfits(theirs) == []


@pytest.mark.parametrize(("language", "name", "text"), ALL, ids=IDS)
def test_what_is_imported_is_imported_again_as_it_was(language: str, name: str, text: str):
    source = import_text(language, text, "order")
    with running(source) as classes:
        ours = MAKE[language](classes["Order"])
    with running(import_text(language, ours, "order")) as again:
        assert MAKE[language](again["Order"]).replace("imported_schemas.", "") == ours.replace("imported_schemas.", "")


@pytest.mark.parametrize(("language", "name", "text"), ALL, ids=IDS)
def test_the_source_is_ready_to_commit(language: str, name: str, text: str):
    source = import_text(language, text, "order")
    for command in (["format", "--diff"], ["check", "--select", "E,F,W,I,UP,B"]):
        call = [sys.executable, "-m", "ruff", *command, "--line-length", "120", "--target-version", "py311", "-"]
        done = subprocess.run(call, input=source, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, source + done.stdout + done.stderr


_HEAD = 'syntax = "proto3";\npackage shop;\n'


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("avro", avro(("n", "int")), "Order.n: int has no counterpart in a class: write long"),
        ("avro", avro(("n", "float")), "Order.n: float has no counterpart in a class: write double"),
        ("avro", avro(("h", {"type": "fixed", "name": "H", "size": 4})), r"Order.h: fixed\(4\) .* write bytes"),
        ("avro", avro(("t", {"type": "long", "logicalType": "timestamp-millis"})), "timestamp-millis .* --nearest"),
        ("avro", avro({"name": "n", "type": "long", "order": "ignore"}), "the order ignore"),
        ("avro", '"string"', "string at the top .* field of a record"),
        ("avro", "{", "it is no Avro schema"),
        ("avro", avro(("Value", {"type": "record", "name": "Value", "fields": []})), "'Value' is no name for a class"),
        ("protobuf", "syntax = 'proto2'; message A { required string a = 1; }", "syntax proto2 .* write it in proto3"),
        ("protobuf", _HEAD + "message A { int32 n = 1; }", "A.n: int32 .* write int64"),
        ("protobuf", _HEAD + "message A { string a = 1; oneof b { string c = 2; string d = 3; } }", "A.b: a oneof"),
        ("protobuf", _HEAD + "message A { map<int64, string> m = 1; }", "A.m: a map by int64"),
        ("protobuf", _HEAD + 'import "other.proto"; message A { string a = 1; }', 'import "other.proto"'),
        ("protobuf", _HEAD + "message A { Nobody a = 1; }", "A.a: Nobody .* declare it in this file"),
        ("protobuf", _HEAD + "message A { string a = 1; message B { string b = 1; } }", "A.B: a type inside"),
        ("protobuf", "syntax = 'proto3'; message A { string a = 1; }", "no package .* declare one"),
        ("protobuf", _HEAD + "message {", "it is no .proto file"),
        ("protobuf", _HEAD + "message A { string a = 1; reserved 2; }", "A: reserved .* leave it out"),
        ("protobuf", _HEAD + "enum E { Z = 0; reserved 2; } message A { E e = 1; }", "E: reserved .* leave it out"),
        ("protobuf", _HEAD + "message A { optional group G = 1 { string a = 2; } }", "A.g: a group .* plain proto3"),
        ("protobuf", _HEAD + "message A { required string a = 1; }", "A.a: required .* plain proto3"),
        ("protobuf", _HEAD + "message A { string a = 1; extensions 4 to 9; }", "A: an extension .* plain proto3"),
        ("protobuf", _HEAD + "message A { extend A { string a = 4; } }", "A: an extension .* plain proto3"),
        ("protobuf", _HEAD + "message A { string a = 1; } extend A { string b = 4; }", "extend A: .* leave it out"),
        ("protobuf", _HEAD + "message A { string a = 1; } service S { }", "S: .* only messages travel"),
        (
            "json_schema",
            described({"a": {"type": "string", "minLength": 1}}),
            "Order.a: 'minLength' .* where the event",
        ),
        ("json_schema", described({"a": {"type": "string", "pattern": "x"}}), "Order.a: the pattern 'x'"),
        ("json_schema", described({"a": {"type": "string"}}, additionalProperties=True), "an open object"),
        ("json_schema", described({"a": {"type": "string"}}, required=[]), "an optional property without a default"),
        ("json_schema", described({"a": {"$ref": "other.json#"}}), "Order.a: the reference other.json#"),
        ("json_schema", described({"a-b": {"type": "string"}}), "the name 'a-b'"),
        ("json_schema", described({"a": {"not": {"type": "string"}}}), "Order.a: 'not' without a type"),
        ("json_schema", described({"a": {"enum": ["x", 1]}}), "the enum .* texts only"),
        ("json_schema", '{"type": "string"}', "anything but an object at the top"),
    ],
)
def test_what_no_class_can_say_is_named_with_its_remedy(language: str, text: str, said: str):
    with pytest.raises(Refused, match=said):
        import_text(language, text, "order")


@pytest.mark.parametrize(
    ("language", "text", "field"),
    [
        ("avro", avro(("n", "int"), ("t", {"type": "long", "logicalType": "timestamp-millis"})), "n: int"),
        ("protobuf", _HEAD + "message Order { int32 n = 1; oneof b { string c = 2; Order d = 3; } }", "c: str | None"),
        ("json_schema", '{"properties": {"a": {"type": "string", "minLength": 1}}}', "a: str | None = None"),
    ],
)
def test_the_nearest_is_taken_where_that_will_do(language: str, text: str, field: str):
    assert field in import_text(language, text, "order", nearest=True)


def test_comments_of_a_proto_file_stand_before_what_they_are_about():
    text = """\ufeff// A licence.
syntax = "proto3";
package shop;  // trailing

/* What somebody
 * wants: "//" */
message Order {  // trailing
  // not of the size

  // how large
  Size size = 1;  // trailing, too
  string note = 2;
  // a "quoted" remark
  string remark = 3 [json_name = "// no comment"]; /* trails */
  string last = 4;
}
// in letters
enum Size { SIZE_UNSPECIFIED = 0; /* the smallest */ SIZE_S = 1; }
"""
    source = import_text("protobuf", text, "order", nearest=True)
    assert (
        source.partition("\n\n\n")[2]
        == '''class Size(StrEnum):
    """in letters"""

    S = "S"


class Order(Value, namespace="shop"):
    """What somebody wants: "//" """

    size: Annotated[Size, Doc("not of the size how large")]
    note: str
    remark: Annotated[str, Doc(\'a "quoted" remark\')]
    last: str
'''
    )


def test_fields_of_a_oneof_stay_where_they_are_among_the_others():
    text = _HEAD + "message Order { string a = 1; oneof how { string b = 2; string c = 3; } string d = 4; }"
    source = import_text("protobuf", text, "order", nearest=True)
    assert [line.strip()[0] for line in source.splitlines() if line.startswith("    ")] == ["a", "b", "c", "d"]


def test_the_command_writes_modules_with_an_event(tmp_path: Path, millstream: Callable[..., object]):
    (tmp_path / "shop" / "order-placed.avsc").write_text(AVRO["aliases and docs"])
    (tmp_path / "shop" / "parcel.proto").write_text(PROTOBUF["scalars"])
    done: subprocess.CompletedProcess[str] = millstream(  # pyright: ignore[reportAssignmentType]
        "schemas", "import", "order-placed.avsc", "parcel.proto", "--key", "a", "--out", "made"
    )
    assert (done.returncode, done.stdout) == (0, "made/order_placed.py\nmade/parcel.py\n")
    assert (
        'class Order(Event, key="a", namespace="shop"' in (tmp_path / "shop" / "made" / "order_placed.py").read_text()
    )


def test_errors_name_the_file(tmp_path: Path):
    (tmp_path / "order.avsc").write_text(avro(("n", "int")))
    with pytest.raises(DeclarationError, match=r"order\.avsc: Order\.n: int"):
        import_file(tmp_path / "order.avsc")
