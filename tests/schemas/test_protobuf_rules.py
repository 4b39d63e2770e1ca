"""Who can read whose Protobuf: the guide's rules for updating a message, in the kinds that Confluent's registry tells.

Each case says which rule it stands for: the guide (https://protobuf.dev/programming-guides/proto3/#updating), or
Confluent's names for differences, with the place that its registry tells for them.
"""

import base64
import time
from typing import Any

import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from millstream.schemas.formats import Referred, TooMuch
from millstream.schemas.protobuf.format import FORMAT, ProtobufSchema
from millstream.schemas.protobuf.rules import MAX_MISFITS, MAX_STEPS, differences, misfits


def parse(text: str, **imports: str) -> ProtobufSchema:
    """A proto3 file unless it says otherwise; `money=…` is what it may import as `money.proto`."""
    referred = [Referred(whole(other), (f"{name}.proto",)) for name, other in imports.items()]
    return FORMAT.parse(whole(text), referred, as_new=True)


def whole(text: str) -> str:
    return text if text.startswith("syntax") else f'syntax = "proto3"; {text}'


def found(reader: ProtobufSchema, writer: ProtobufSchema) -> list[str]:
    return sorted(f"{of.kind} {of.path}" for of in differences(reader.linked, writer.linked))


def holding(kind: str, more: str = "") -> str:
    return f"message M {{ {kind} f = 1; }} {more}"


def m(members: str, more: str = "") -> str:
    return f"message M {{ {members} }} {more}"


def proto2(members: str) -> str:
    return f'syntax = "proto2"; {m(members)}'


STATUS, PART = "enum Status { NEW = 0; }", "message Part { int32 a = 1; }"
VARINTS = ["int32", "uint32", "int64", "uint64", "bool"]
GUIDE_VARINTS = "int32, uint32, int64, uint64, and bool are all compatible"
GUIDE_ZIGZAG = "sint32 and sint64 are compatible with each other but not with the other integer types"
GUIDE_TEXT = "string and bytes are compatible as long as the bytes are valid UTF-8"
GUIDE_FIXED = "fixed32 is compatible with sfixed32, and fixed64 with sfixed64"
GUIDE_ENUM = "enum is compatible with int32, uint32, int64, and uint64 in terms of wire format"
GUIDE_LABELS = "for string, bytes, and message fields, singular is compatible with repeated; generally not for numbers"
GUIDE_ADD = "if you add new fields, old messages can still be parsed"
GUIDE_REMOVE = "fields can be removed, as long as the number is not used again"
GUIDE_RENAME = "a field's name is not on the wire"
GUIDE_ONE_INTO_ONEOF = "changing a single field into a member of a new oneof is safe"
GUIDE_INTO_ONEOF = "moving fields into an existing oneof is not safe"
GUIDE_MANY_INTO_ONEOF = "moving several fields into a new oneof may be unsafe: only one of them is kept"
GUIDE_OUT_OF_ONEOF = "a field out of a oneof keeps its number and type"
GUIDE_REQUIRED = "required is forever: adding or removing one is not compatible"
GUIDE_MAP = "a map is a repeated message of key and value"
CONFLUENT_NAMES = "messages are known by their names: serializers find the message of a record in the schema by it"
CONFLUENT_ONEOF_REMOVED = "removing a field from a oneof loses which one was set; removing the whole oneof does not"

# The rule, the reader, the writer.
READABLE: list[tuple[str, str, str]] = [
    *[(GUIDE_VARINTS, holding(a), holding(b)) for a in VARINTS for b in VARINTS],
    (GUIDE_ZIGZAG, holding("sint32"), holding("sint64")),
    (GUIDE_ZIGZAG, holding("sint64"), holding("sint32")),
    (GUIDE_TEXT, holding("string"), holding("bytes")),
    (GUIDE_TEXT, holding("bytes"), holding("string")),
    (GUIDE_FIXED, holding("fixed32"), holding("sfixed32")),
    (GUIDE_FIXED, holding("sfixed32"), holding("fixed32")),
    (GUIDE_FIXED, holding("fixed64"), holding("sfixed64")),
    (GUIDE_FIXED, holding("sfixed64"), holding("fixed64")),
    (GUIDE_ENUM, holding("Status", STATUS), holding("int32")),
    (GUIDE_ENUM, holding("uint64"), holding("Status", STATUS)),
    (GUIDE_ENUM, holding("map<int32, Status>", STATUS), holding("map<int32, int32>")),
    (GUIDE_LABELS, holding("repeated string"), holding("optional string")),
    (GUIDE_LABELS, holding("optional bytes"), holding("repeated bytes")),
    (GUIDE_LABELS, holding("repeated Part", PART), holding("optional Part", PART)),
    ("Confluent: a field without a label is like any", holding("repeated int32"), holding("int32")),
    ("Confluent: a field without a label is like any", holding("optional int32"), holding("int32")),
    (GUIDE_ADD, m("int32 a = 1; string b = 2;"), holding("int32")),
    (GUIDE_ADD, proto2("optional int32 a = 1; repeated string b = 2;"), proto2("optional int32 a = 1;")),
    (GUIDE_ADD, m("oneof o { int32 a = 1; } oneof p { int32 b = 2; }"), m("")),
    (GUIDE_REMOVE, m(""), holding("int32")),
    (GUIDE_REMOVE, m("reserved 1;"), holding("int32")),
    (GUIDE_REMOVE, proto2("optional int32 a = 1;"), proto2("optional int32 a = 1; optional int32 b = 2;")),
    ("a number that changes is a field that goes and one that comes", m("int32 f = 2;"), holding("int32")),
    (GUIDE_RENAME, m("int32 g = 1;"), holding("int32")),
    (GUIDE_RENAME, 'message M { int32 f = 1 [json_name = "x"]; }', holding("int32")),
    (GUIDE_MAP, holding("map<string, int32>"), holding("map<bytes, int64>").replace("bytes", "string")),
    (GUIDE_MAP, holding("map<int32, string>"), holding("map<int64, bytes>")),
    (GUIDE_MAP, holding("map<string, M>"), holding("map<string, M>")),
    (GUIDE_ONE_INTO_ONEOF, m("oneof o { int32 f = 1; }"), holding("int32")),
    (GUIDE_ONE_INTO_ONEOF, m("oneof o { int32 f = 1; int32 g = 2; }"), holding("int32")),
    (GUIDE_OUT_OF_ONEOF, holding("int32"), m("oneof o { int32 f = 1; }")),
    ("a oneof's name is not on the wire", m("oneof a { int32 f = 1; }"), m("oneof b { int32 f = 1; }")),
    (CONFLUENT_ONEOF_REMOVED, m(""), m("oneof o { int32 f = 1; int32 g = 2; }")),
    ("a new member of a oneof", m("oneof o { int32 f = 1; M g = 2; }"), m("oneof o { int32 f = 1; }")),
    (
        "enums are open: constants come, go and are renamed",
        holding("Status", STATUS),
        holding("Status", "enum Status { OLD = 0; MORE = 1; }"),
    ),
    ("enums are not on the wire", m(""), f"message M {{}} {STATUS}"),
    ("MESSAGE_ADDED", f"message M {{}} {PART}", m("")),
    (
        "MESSAGE_MOVED: indexes are those of the schema that a record was written with",
        f"{PART} message M {{}}",
        f"message M {{}} {PART}",
    ),
    (
        "a type may be named relatively or in full",
        "package p; message M { M m = 1; }",
        "package p; message M { .p.M m = 1; }",
    ),
    ("options say nothing of the wire", holding("int32").replace("= 1", "= 1 [deprecated = true]"), holding("int32")),
    ("services say nothing of the wire", m("", "service S { rpc Do (M) returns (M); }"), m("")),
    (
        "a type that holds itself comes to an end",
        m("M m = 1; Part p = 2;", "message Part { M m = 1; }"),
        m("M m = 1; Part p = 2;", "message Part { M m = 1; }"),
    ),
    (
        "a group's fields are those of a message",
        proto2("optional group G = 1 { optional int32 a = 1; }"),
        proto2("optional group G = 1 { optional int64 a = 1; }"),
    ),
    ("the syntax is not on the wire", m("repeated int32 f = 1;"), proto2("repeated int32 f = 1;")),
    (
        "a well-known type is everybody's",
        'import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp f = 1; }',
        'import "google/protobuf/timestamp.proto"; message M { .google.protobuf.Timestamp f = 1; }',
    ),
]


@pytest.mark.parametrize(("rule", "reader", "writer"), READABLE, ids=range(len(READABLE)))
def test_what_can_be_read(rule: str, reader: str, writer: str) -> None:
    assert misfits(parse(reader).linked, parse(writer).linked) == [], rule


KIND, NAMED_TYPE, NUMERIC_LABEL = "FIELD_KIND_CHANGED", "FIELD_NAMED_TYPE_CHANGED", "FIELD_NUMERIC_LABEL_CHANGED"


def changed(a: str, b: str, kind: str = "FIELD_SCALAR_KIND_CHANGED") -> list[tuple[str, str, list[str]]]:
    """Neither can be read as the other."""
    return [(x, y, [f"{kind} #/M/1"]) for x, y in ((a, b), (b, a))]


# The rule, the reader, the writer, what is told.
UNREADABLE: list[tuple[str, str, str, list[str]]] = [
    *[(GUIDE_ZIGZAG, *of) for of in changed(holding("sint32"), holding("int32"))],
    *[(GUIDE_ZIGZAG, *of) for of in changed(holding("sint64"), holding("Status", STATUS))],
    *[(GUIDE_FIXED, *of) for of in changed(holding("fixed32"), holding("fixed64"))],
    *[(GUIDE_FIXED, *of) for of in changed(holding("fixed32"), holding("float"))],
    *[(GUIDE_FIXED, *of) for of in changed(holding("sfixed64"), holding("double"))],
    *[(GUIDE_FIXED, *of) for of in changed(holding("sfixed32"), holding("int32"))],
    *[(GUIDE_TEXT, *of) for of in changed(holding("string"), holding("int32"))],
    *[(GUIDE_VARINTS, *of) for of in changed(holding("bool"), holding("double"))],
    *[("float and double differ in length", *of) for of in changed(holding("float"), holding("double"))],
    *[("FIELD_KIND_CHANGED", *of) for of in changed(holding("Part", PART), holding("int32", PART), KIND)],
    *[("FIELD_KIND_CHANGED", *of) for of in changed(holding("Part", PART), holding("bytes", PART), KIND)],
    *[(GUIDE_MAP, *of) for of in changed(holding("map<string, int32>"), holding("int32"), KIND)],
    *[(GUIDE_MAP, *of) for of in changed(holding("map<string, Part>", PART), holding("repeated Part", PART), KIND)],
    *[(GUIDE_MAP, *of) for of in changed(holding("map<string, int32>"), holding("map<int32, int32>"))],
    *[(GUIDE_MAP, *of) for of in changed(holding("map<int32, string>"), holding("map<int32, float>"))],
    *[
        (GUIDE_MAP, *of)
        for of in changed(holding("map<int32, Part>", PART), holding("map<int32, M>", PART), NAMED_TYPE)
    ],
    *[(GUIDE_LABELS, *of) for of in changed(holding("optional int32"), holding("repeated int32"), NUMERIC_LABEL)],
    *[
        (GUIDE_LABELS, *of)
        for of in changed(holding("optional Status", STATUS), holding("repeated Status", STATUS), NUMERIC_LABEL)
    ],
    *[(GUIDE_LABELS, *of) for of in changed(holding("optional double"), holding("repeated double"), NUMERIC_LABEL)],
    *[
        (GUIDE_REQUIRED, *of)
        for of in changed(proto2("required int32 a = 1;"), proto2("optional int32 a = 1;"), NUMERIC_LABEL)
    ],
    *[
        ("a group has other marks than a message", *of)
        for of in changed(
            proto2("optional group G = 1 {} message N {}"), proto2("optional N g = 1; message N {}"), KIND
        )
    ],
    *[(CONFLUENT_NAMES, *of) for of in changed(holding("M", PART), holding("Part", PART), NAMED_TYPE)],
    (GUIDE_REQUIRED, proto2("required int32 a = 1;"), proto2(""), ["REQUIRED_FIELD_ADDED #/M/1"]),
    (GUIDE_REQUIRED, proto2(""), proto2("required int32 a = 1;"), ["REQUIRED_FIELD_REMOVED #/M/1"]),
    (CONFLUENT_NAMES, "package a; message M {}", "package b; message M {}", ["PACKAGE_CHANGED #/"]),
    (CONFLUENT_NAMES, "package a; message M {}", m(""), ["PACKAGE_CHANGED #/"]),
    (CONFLUENT_NAMES, m(""), m("} message N {"), ["MESSAGE_REMOVED #/N"]),
    (CONFLUENT_NAMES, m(""), m("message N {}"), ["MESSAGE_REMOVED #/M/N"]),
    (CONFLUENT_NAMES, "message N {}", m(""), ["MESSAGE_REMOVED #/M"]),
    (
        GUIDE_MANY_INTO_ONEOF,
        m("oneof o { int32 a = 1; int32 b = 2; }"),
        m("int32 a = 1; int32 b = 2;"),
        ["MULTIPLE_FIELDS_MOVED_TO_ONEOF #/M/o"],
    ),
    (
        GUIDE_INTO_ONEOF,
        m("oneof o { int32 a = 1; int32 b = 2; }"),
        m("int32 a = 1; oneof o { int32 b = 2; }"),
        ["FIELD_MOVED_TO_EXISTING_ONEOF #/M/o"],
    ),
    (
        GUIDE_INTO_ONEOF,
        m("oneof o { int32 a = 1; int32 b = 2; }"),
        m("oneof p { int32 a = 1; } oneof o { int32 b = 2; }"),
        ["FIELD_MOVED_TO_EXISTING_ONEOF #/M/o"],
    ),
    (
        GUIDE_INTO_ONEOF,
        m("oneof r { int32 a = 1; int32 b = 2; }"),
        m("oneof p { int32 a = 1; } oneof q { int32 b = 2; }"),
        ["FIELD_MOVED_TO_EXISTING_ONEOF #/M/r"],
    ),
    (
        CONFLUENT_ONEOF_REMOVED,
        m("oneof o { int32 a = 1; }"),
        m("oneof o { int32 a = 1; int32 b = 2; }"),
        ["ONEOF_FIELD_REMOVED #/M/o/2"],
    ),
    (
        CONFLUENT_ONEOF_REMOVED,
        m("int32 a = 1;"),
        m("oneof o { int32 a = 1; int32 b = 2; }"),
        ["ONEOF_FIELD_REMOVED #/M/o/2"],
    ),
    (GUIDE_OUT_OF_ONEOF, m("string a = 1;"), m("oneof o { int32 a = 1; }"), ["FIELD_SCALAR_KIND_CHANGED #/M/1"]),
    (GUIDE_ONE_INTO_ONEOF, m("oneof o { string a = 1; }"), m("int32 a = 1;"), ["FIELD_SCALAR_KIND_CHANGED #/M/o/1"]),
    (
        "messages in messages are judged, too",
        m("message N { int32 a = 1; }"),
        m("message N { float a = 1; }"),
        ["FIELD_SCALAR_KIND_CHANGED #/M/N/1"],
    ),
    (
        "the innermost of several types of one name is meant",
        m("Part f = 1; enum Part { NO = 0; }", "message Part {}"),
        m("Part f = 1;", "message Part {}"),
        ["FIELD_KIND_CHANGED #/M/1"],
    ),
]


@pytest.mark.parametrize(("rule", "reader", "writer", "told"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_what_cannot_be_read_and_why(rule: str, reader: str, writer: str, told: list[str]) -> None:
    misfitting = misfits(parse(reader).linked, parse(writer).linked)
    assert [f"{of.kind} {of.path}" for of in misfitting] == told, rule


FIXED = ["fixed32", "fixed64", "sfixed32", "sfixed64", "float", "double"]
SCALARS = [*VARINTS, "sint32", "sint64", *FIXED, "string", "bytes"]


def class_of(schema: ProtobufSchema) -> Any:
    pool = DescriptorPool()
    pool.AddSerializedFile(base64.b64decode(schema.formatted("serialized") or ""))
    return GetMessageClass(pool.FindMessageTypeByName("M"))


@pytest.mark.parametrize("writer", SCALARS)
def test_the_verdict_on_two_scalars_is_what_happens_to_a_value(writer: str) -> None:
    """What Protobuf's own library has written as the one, it reads as the other, or not."""
    written_by = parse(holding(writer))
    value: Any = {"string": "1", "bytes": b"1"}.get(writer, 1)
    written = class_of(written_by)(f=value).SerializeToString()
    for reader in SCALARS:
        read_by = parse(holding(reader))
        found = class_of(read_by).FromString(written).f
        arrives = str(found).strip("b'") == "1" if {reader, writer} <= {"string", "bytes"} else found == value
        # A bool is true for every number but zero, however that was written.
        if not (reader == "bool" and writer.startswith("sint")):
            assert (misfits(read_by.linked, written_by.linked) == []) is arrives, reader


NAMED: list[tuple[str, str, list[str]]] = [
    (m("int32 a = 1; int32 b = 2;"), m("int32 a = 1;"), ["FIELD_ADDED #/M/2"]),
    (m(""), m("int32 a = 1;"), ["FIELD_REMOVED #/M/1"]),
    (m("int32 b = 1;"), m("int32 a = 1;"), ["FIELD_NAME_CHANGED #/M/1"]),
    (f"{PART} message M {{}}", m(""), ["MESSAGE_ADDED #/Part", "MESSAGE_MOVED #/M"]),
    (f"message M {{}} {STATUS}", m(""), ["ENUM_ADDED #/Status"]),
    (m(""), f"message M {{ {STATUS} }}", ["ENUM_REMOVED #/M/Status"]),
    ("enum E { A = 0; B = 1; }", "enum E { A = 0; C = 2; }", ["ENUM_CONST_ADDED #/E/1", "ENUM_CONST_REMOVED #/E/2"]),
    ("enum E { A = 0; }", "enum E { B = 0; }", ["ENUM_CONST_CHANGED #/E/0"]),
    (holding("optional string"), holding("repeated string"), ["FIELD_STRING_OR_BYTES_LABEL_CHANGED #/M/1"]),
    (m("oneof o { int32 a = 1; }"), m(""), ["ONEOF_ADDED #/M/o", "ONEOF_FIELD_ADDED #/M/o/1"]),
    (m(""), m("oneof o { int32 a = 1; }"), ["ONEOF_REMOVED #/M/o"]),
    (
        m("int32 a = 1;"),
        m("oneof o { int32 a = 1; }"),
        ["ONEOF_FIELD_MOVED_TO_TOP_LEVEL #/M/1", "ONEOF_REMOVED #/M/o"],
    ),
]


@pytest.mark.parametrize(("reader", "writer", "names"), NAMED, ids=range(len(NAMED)))
def test_differences_that_keep_nobody_from_reading_have_names_too(reader: str, writer: str, names: list[str]) -> None:
    assert found(parse(reader), parse(writer)) == names
    assert misfits(parse(reader).linked, parse(writer).linked) == []


USES_MONEY = 'import "money.proto"; message M { Money total = 1; }'


def test_a_type_from_another_file_is_looked_into() -> None:
    cents = parse(USES_MONEY, money="message Money { int32 cents = 1; }")
    more = parse(USES_MONEY, money="message Money { int64 cents = 1; string currency = 2; }")
    text = parse(USES_MONEY, money="message Money { string amount = 1; }")
    assert found(more, cents) == ["FIELD_ADDED #/Money/2"]
    assert [f"{of.kind} {of.path}" for of in misfits(text.linked, cents.linked)] == [
        "FIELD_SCALAR_KIND_CHANGED #/Money/1",
        "FIELD_NAMED_TYPE_CHANGED #/M/1",
    ]


def test_a_type_may_come_from_another_package_but_not_vanish_from_the_file() -> None:
    """The types of an imported file are not the file's own: whoever looks for one of its messages does not find it."""
    here = parse("message M { Money total = 1; } message Money { int32 cents = 1; }")
    there = parse(USES_MONEY.replace("Money", "other.Money"), money="package other; message Money { int32 cents = 1; }")
    assert found(there, here) == ["MESSAGE_REMOVED #/Money"]
    assert found(here, there) == ["MESSAGE_ADDED #/Money"]


def test_a_compiled_map_is_a_map() -> None:
    entry = "message FEntry { option map_entry = true; %s key = 1; Part value = 2; }"
    entry = m(f"repeated FEntry f = 1; {entry}")
    compiled = FORMAT.parse(whole(entry % "string" + PART), [], as_new=False)
    written = parse(holding("map<string, Part>", PART))
    assert found(compiled, written) == found(written, compiled) == []
    other = FORMAT.parse(whole(entry % "int32" + PART), [], as_new=False)
    assert "FIELD_SCALAR_KIND_CHANGED #/M/1" in found(other, written)


def test_what_is_wrong_is_said_with_both_sides_open() -> None:
    told = parse(holding("string")).misfits(parse(holding("int32")))
    assert told == [
        "{errorType:'FIELD_SCALAR_KIND_CHANGED', description:'The scalar at path '#/M/1' of the %(reader)s schema "
        "cannot hold what the %(writer)s schema has there', additionalInfo:''}"
    ]


def test_a_type_that_is_used_everywhere_is_judged_once() -> None:
    """Each of thirty files holds the one below twice: two to the power of thirty ways lead to the lowest."""

    def tower(lowest: str) -> ProtobufSchema:
        files = [Referred(whole(f"message T0 {{ {lowest} a = 1; }}"), ("t0.proto",))]
        for i in range(1, 30):
            uses = f'import "t{i - 1}.proto"; message T{i} {{ T{i - 1} a = 1; T{i - 1} b = 2; }}'
            files.append(Referred(whole(uses), (f"t{i}.proto",)))
        return FORMAT.parse(whole('import "t29.proto"; message M { T29 a = 1; }'), files, as_new=True)

    began = time.process_time()
    told = misfits(tower("int32").linked, tower("string").linked)
    assert told[0].path == "#/T0/1"
    assert {of.kind for of in told[1:]} == {"FIELD_NAMED_TYPE_CHANGED"}
    assert len(told) == 60
    assert time.process_time() - began < 60


@pytest.mark.slow
def test_a_comparison_has_an_end_and_does_not_tell_everything() -> None:
    def giant(kind: str) -> ProtobufSchema:
        fields = "".join(f"{kind} f{i} = {i};" for i in range(1, 20_000))
        return FORMAT.parse(whole(m(fields)), [], as_new=False)

    began = time.process_time()
    assert len(misfits(giant("int32").linked, giant("string").linked)) == MAX_MISFITS
    constants = "enum E {" + "".join(f"A{i} = {i};" for i in range(MAX_STEPS + 1)) + "}"
    endless = FORMAT.parse(whole(constants), [], as_new=False)
    with pytest.raises(TooMuch, match=str(MAX_STEPS)):
        misfits(endless.linked, endless.linked)
    assert time.process_time() - began < 60


def test_a_chain_of_files_longer_than_the_stack_is_refused() -> None:
    def chain() -> ProtobufSchema:
        links = [Referred(whole("message T0 {}"), ("t0.proto",))]
        for i in range(1, 490):
            uses = f'import "t{i - 1}.proto"; message T{i} {{ T{i - 1} a = 1; }}'
            links.append(Referred(whole(uses), (f"t{i}.proto",)))
        return FORMAT.parse(whole('import "t489.proto"; message M { T489 a = 1; }'), links, as_new=False)

    with pytest.raises(TooMuch, match="too deep"):
        misfits(chain().linked, chain().linked)
