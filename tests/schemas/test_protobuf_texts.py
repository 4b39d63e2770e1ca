"""How Protobuf schemas are read and written: as `protoc` compiles them, and as Confluent's registry prints them."""

import base64
import re
import time
from collections.abc import Sequence
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldOptions, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from hypothesis import given
from hypothesis import strategies as st

from millstream.schemas.formats import InvalidSchema, Referred
from millstream.schemas.protobuf.format import FORMAT, ProtobufSchema

MONEY = 'syntax = "proto3"; package shop.v1; message Money { sint64 cents = 1; }'
SHOP = r"""
/* A shop. */
syntax = "proto3";
package shop.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/descriptor.proto";
import public "money.proto";
option java_package = "com.\x73hop";
option java_multiple_files = true;
option (owner) = "team" ' a';
extend google.protobuf.FileOptions { string owner = 50000; }
extend google.protobuf.FieldOptions { Rule rule = 50001; repeated string tags = 50002; float weight = 50003; }
extend google.protobuf.MessageOptions { optional Status state = 50004; bytes raw = 50005; }
extend google.protobuf.OneofOptions { int32 extra = 50006; }
message Rule { string regex = 1; repeated int32 sizes = 2; Rule inner = 3; map<string, int64> limits = 4; }
enum Status {
  option allow_alias = true;
  NEW = 0; FRESH = 0 [deprecated = true]; DONE = -1;
  reserved 5, 7 to 9; reserved "OLD";
}
message Order { // An order.
  option (state) = DONE; option (raw) = "\001\xff";
  reserved 100, 200 to 210, 1000 to max; reserved "gone", "lost";
  string id = 1 [(rule) = { regex: "a\"b" sizes: [1, 2] inner < regex: 'x' limits { key: "a" value: 5 } > },
                 (tags) = "x", (tags) = "y", json_name = "ID"];
  repeated Line lines = 2;
  map<string, .shop.v1.Order.Line> by_name = 3 [deprecated = true];
  map<int32, Status> states = 30;
  optional int64 maybe = 4;
  oneof paid {
    option (extra) = 1;
    Money cash = 5;
    string card = 6 [(rule).regex = "[0-9]+", (rule).inner.sizes = 3];
  }
  message Line { int32 quantity = 1 [(weight) = -1.5]; message Deep { Line line = 1; } Deep deep = 3; }
  enum Kind { KIND_NONE = 0; }
  Kind kind = 8;
  repeated int32 numbers = 9 [packed = false];
  google.protobuf.Timestamp at = 10;
  optional bool message = 11;
}
service Orders {
  option deprecated = true;
  rpc Get (Order) returns (stream Order) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Put (stream .shop.v1.Order) returns (Order);
};
"""
OLD = r"""
syntax = "proto2";
message Old {
  required int32 a = 1 [default = -0x10];
  optional string s = 2 [default = "a\"\n\u00e9"];
  optional bytes b = 3 [default = "\x00\xfe'z"];
  optional float f = 4 [default = 1000];
  optional double d = 5 [default = -inf];
  optional bool t = 7 [default = true];
  optional E e = 8 [default = Y];
  enum E { X = 1; Y = 0x2; Z = 010; }
  repeated group Item = 9 { optional int32 x = 1; }
  extensions 100 to 199, 500 to max;
  extend Old { optional int32 more = 100; }
  oneof o { int32 p = 10; group Part = 11 { optional string q = 1; } }
}
extend Old { repeated .Old.Item items = 101; }
"""


def parse(text: str, *, as_new: bool = True) -> ProtobufSchema:
    return FORMAT.parse(text, [Referred(MONEY, ("money.proto",))], as_new=as_new)


def compiled(folder: Path, text: str) -> FileDescriptorProto:
    """What `protoc` makes of the text, in the form in which Python's generated code carries it."""
    (folder / "money.proto").write_text(MONEY)
    (folder / "it.proto").write_text(text)
    known = Path(grpc_tools.__file__).parent / "_proto"
    out = folder / "out.bin"
    assert protoc.main(["", f"-I{folder}", f"-I{known}", f"--descriptor_set_out={out}", "it.proto"]) == 0
    file = FileDescriptorSet.FromString(out.read_bytes()).file[0]
    for message in file.message_type:
        forget_json_names(message)
    for extension in file.extension:
        extension.ClearField("json_name")
    return file


def forget_json_names(message: DescriptorProto) -> None:
    for field in (*message.field, *message.extension):
        if field.json_name != "ID":
            field.ClearField("json_name")
    for nested in message.nested_type:
        forget_json_names(nested)


def in_one_order(file: FileDescriptorProto) -> FileDescriptorProto:
    """Where `protoc` goes by the order of the text, this registry and Confluent's put maps and oneofs last."""

    def settle(message: DescriptorProto) -> None:
        fields = sorted(message.field, key=lambda field: field.number)
        nested = sorted(message.nested_type, key=lambda of: of.name)
        del message.field[:], message.nested_type[:]
        message.field.extend(fields)
        message.nested_type.extend(nested)
        for each in message.nested_type:
            settle(each)

    for message in file.message_type:
        settle(message)
    file.ClearField("name")
    return file


def serialized(schema: ProtobufSchema) -> FileDescriptorProto:
    text = schema.formatted("serialized")
    assert text is not None
    return FileDescriptorProto.FromString(base64.b64decode(text))


@pytest.mark.parametrize("text", [SHOP, OLD], ids=["proto3", "proto2"])
def test_what_is_read_is_what_protoc_compiles(tmp_path: Path, text: str) -> None:
    by_protoc = compiled(tmp_path, text)
    assert in_one_order(serialized(parse(text))) == in_one_order(by_protoc)


@pytest.mark.parametrize("text", [SHOP, OLD], ids=["proto3", "proto2"])
def test_every_form_of_a_schema_means_the_same(tmp_path: Path, text: str) -> None:
    schema = parse(text)
    encoded = base64.b64encode(compiled(tmp_path, text).SerializeToString()).decode()
    for form in (schema.canonical, schema.normalized(), encoded, schema.formatted("serialized") or ""):
        again = parse(form)
        assert again.normalized() == schema.normalized()
        assert again.misfits(schema) == schema.misfits(again) == []
        assert parse(again.canonical).canonical == again.canonical
    for form in (schema.canonical, schema.normalized()):
        assert in_one_order(compiled(tmp_path, form)).ByteSize()


P3 = 'syntax = "proto3"; '
CANONICAL = """\
syntax = "proto3";
package p;

import "google/protobuf/any.proto";

option java_package = "a.b";

message A {
  reserved 9, 20 to 30;

  option deprecated = true;

  string a = 1;
  map<string, B> b = 2 [deprecated = true];
  optional .p.A c = 3 [
    packed = true,
    json_name = "C"
  ];

  oneof o {
    int32 d = 4;
  }

  message B {
    enum E {
      reserved 4;
      X = 0;
      Y = 1;
    }
  }
}
message Empty {}
enum F {
  Z = 0;
}

service S {
  rpc R (stream A) returns (A);
}
"""
UNTIDY = """
syntax='proto3'; package p; import'google/protobuf/any.proto';// so
option java_package="a.b"; enum F{Z=0;} service S{rpc R(stream A)returns(A){}}
message A{oneof o{int32 d=4;}message B{enum E{X=0;Y=1;reserved 4;}}string a=1;map<string,B>b=2[deprecated=true];
optional .p.A c=3[json_name="C",packed=true];reserved 9,20 to 30;option deprecated=true;;}
message Empty{/* nothing */};
"""


def test_the_stored_text_is_confluents() -> None:
    """Confluent's registry stores what its printer makes of the parsed file, so that both give one GUID."""
    assert parse(UNTIDY, as_new=False).canonical == CANONICAL
    assert parse(CANONICAL, as_new=False).canonical == CANONICAL


def test_the_normalized_text_forgets_what_means_nothing() -> None:
    schema = parse(
        'syntax = "proto2"; package p; import "google/protobuf/any.proto"; import "google/protobuf/any.proto";'
        "message A { optional B a = 2; optional A.B b = 1;"
        'message B { reserved 9, 2 to 2; reserved "x"; reserved 3; } }'
        "enum E { Y = 2; X = 1; }"
    )
    assert schema.normalized() == (
        'package p;\n\nimport "google/protobuf/any.proto";\n\n'
        "message A {\n  optional .p.A.B b = 1;\n  optional .p.A.B a = 2;\n\n"
        '  message B {\n    reserved 2;\n    reserved 3;\n    reserved 9;\n    reserved "x";\n  }\n}\n'
        "enum E {\n  X = 1;\n  Y = 2;\n}\n"
    )


LIMITS = """
import "google/protobuf/descriptor.proto";
message Limits { Range range = 1; repeated string tags = 2; double most = 3; repeated Range more = 4; }
message Range { int32 min = 1; int32 max = 2; }
extend google.protobuf.FieldOptions { Limits limits = 50001; repeated Range ranges = 50002; }
"""


@pytest.mark.parametrize(
    ("options", "whole"),
    [
        ("(limits).range.min = 1, (limits).range.max = 0x10", "(limits) = { range { max: 16 min: 1 } }"),
        ("(.limits).tags = 'a', (limits).tags = 'b'", "(limits) = { tags: ['a', 'b'] }"),
        ("(limits) = { tags: 'a' tags: 'b', most: 2.0 }", "(limits) = { most: 2 tags: ['a', 'b'] }"),
        ("(limits).more = { min: 1 }, (limits).more = { min: 2 }", "(limits) = { more: [{ min: 1 }, { min: 2 }] }"),
        ("(limits).range = { min: 1 }, (limits).range.min = 2", "(limits) = { range { min: 2 } }"),
        ("(ranges).min = 1, deprecated = true", "(ranges) = { min: 1 }, deprecated = true"),
        ("(ranges) = { min: 1 }, (ranges) = { min: 2 }", "(ranges) = { min: 1 }, (ranges) = { min: 2 }"),
    ],
)
def test_an_option_that_is_set_piece_by_piece_is_one(options: str, whole: str) -> None:
    def with_options(written: str) -> ProtobufSchema:
        return parse(f"{P3} {LIMITS} message A {{ string a = 1 [{written}]; }}", as_new=False)

    normal = with_options(options).normalized()
    assert normal == with_options(whole).normalized()
    assert parse(normal).normalized() == normal


def test_messages_in_another_order_are_another_schema() -> None:
    """A serializer tells by numbers which message it has written."""
    one, other = ("message A {} message B {}", "message B {} message A {}")
    assert not parse(one).means_the_same_as(parse(other))
    assert parse("message A { optional B b = 2; optional A a = 1; } message B {}").means_the_same_as(
        parse("message A { optional .A a = 1; optional .B b = 2; } message B {}")
    )


def test_extensions_can_be_left_out() -> None:
    text = parse(SHOP).formatted("ignore_extensions")
    assert text is not None
    assert "extend " not in text
    assert "(rule)" not in text
    assert "deprecated = true" in text
    assert parse(SHOP).formatted("resolved") is None


REFUSED: list[tuple[str, str]] = [
    ('edition = "2023"; message A {}', "edition"),
    ('syntax = "proto4";', "proto2 or proto3"),
    ("message", "neither a .proto file nor the base64"),
    ("message;", "where a word should be"),
    ("message A {", "its end"),
    ("message A { int32 a = 1 }", "';'"),
    ("message A { optional int32 a = b; }", "number"),
    ("message A { optional int32 a = 1.5; }", "whole number"),
    ("message A { optional int32 a = 99999999999999999999999; }", "too large"),
    ('message A { optional string a = 1 [default = "\\q"]; }', "escape"),
    ('message A { optional string a = 1 [default = "\\ud800"]; }', "no character"),
    ('import "a', "cannot be read from here"),
    ("/* no end", "where a declaration should begin"),
    ("package a; package b;", "package again"),
    (P3 + "message A { oneof o { map<int32, int32> m = 1; } }", "map in a oneof"),
    (P3 + "message A { repeated map<int32, int32> m = 1; }", "no label"),
    (P3 + "message A { int32 a = 1; int32 b = 1; }", "duplicate field number"),
    (P3 + "message A { int32 a = 1; int32 a = 2; }", "duplicate field name"),
    (P3 + "message A {} enum A { X = 0; }", "duplicate symbol"),
    (P3 + "message A { B b = 1; }", "'B', which is not known here"),
    (P3 + "message A { int32 a = 0; }", "invalid field number"),
    (P3 + "message A { int32 a = 536870912; }", "invalid field number"),
    (P3 + "message A { int32 a = 99999999999; }", "out of range"),
    (P3 + "message A { required int32 a = 1; }", "cannot be required"),
    (P3 + "message A { map<float, int32> a = 1; }", "map key"),
    (P3 + "enum E { A = 1; }", "must be zero"),
    (P3 + "enum E {}", "at least one value"),
    (P3 + "message A { int32 a = 1 [deprecated = maybe]; }", "option deprecated"),
    (P3 + "message A { int32 a = 1 [nonsense = 1]; }", "option nonsense"),
    (P3 + "message A { int32 a = 1 [(confluent.field_meta).doc = 'x']; }", "(confluent.field_meta)"),
    (P3 + "service S { rpc R (int32) returns (int32); }", "no message"),
    (P3 + 'import "other.proto";', "'other.proto', which is not among its references"),
    (P3 + "message A { string a = 1 [json_name = 'x']; string b = 2 [json_name = 'x']; }", "duplicate json_name"),
    ("message A { optional int32 \ud800 = 1; }", "lone surrogate"),
    ("AAAA", "neither a .proto file nor the base64"),
    ("bm90IGEgZGVzY3JpcHRvcg==", "neither a .proto file nor the base64"),
]


@pytest.mark.parametrize(("text", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_schema_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidSchema) as refused:
        parse(text)
    assert why in str(refused.value)


def test_what_was_taken_once_is_read_mildly() -> None:
    assert parse(P3 + 'import "gone.proto"; message A { Gone g = 1; }', as_new=False).misfits(parse(P3)) == []


COMMON = [
    *[("google/protobuf/" + name, f"google.protobuf.{kind}") for name, kind in [
        ("any", "Any"), ("duration", "Duration"), ("empty", "Empty"), ("struct", "Struct"), ("timestamp", "Timestamp"),
        ("wrappers", "StringValue"), ("field_mask", "FieldMask"), ("type", "Type"), ("api", "Api"),
        ("descriptor", "FileDescriptorProto"), ("source_context", "SourceContext"),
    ]],
    *[("google/type/" + name, f"google.type.{kind}") for name, kind in [
        ("date", "Date"), ("datetime", "DateTime"), ("money", "Money"), ("decimal", "Decimal"), ("latlng", "LatLng"),
        ("timeofday", "TimeOfDay"), ("interval", "Interval"), ("postal_address", "PostalAddress"),
    ]],
    ("confluent/meta", "confluent.Meta"),
    ("confluent/type/decimal", "confluent.type.Decimal"),
    ("confluent/types/decimal", "confluent.type.Decimal"),
    ("confluent/type/variant", "confluent.type.Variant"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "kind"), COMMON, ids=[path for path, _ in COMMON])
def test_common_types_are_known_without_being_registered(path: str, kind: str) -> None:
    assert parse(f'{P3} import "{path}.proto"; message A {{ {kind} a = 1; }}').canonical


def test_confluents_tags_are_options_like_others() -> None:
    meta = 'import "confluent/meta.proto"; message A { string a = 1 [(confluent.field_meta) = { tags: "PII" }]; }'
    tagged = parse(P3 + meta)
    assert parse(tagged.formatted("serialized") or "").normalized() == tagged.normalized()
    assert "PII" in (tagged.formatted("ignore_extensions") or "")


HOSTILE: dict[str, str] = {
    "messages": P3 + "".join(f"message M{i} {{ int32 a=1; map<string,int32> b=2; }}" for i in range(18_000)),
    "constants": "enum E {" + "".join(f"A{i}={i};" for i in range(70_000)) + "}",
    "nothing": ";" * 1_000_000,
    "comments": "/**/" * 250_000,
    "open comments": "/*" * 500_000,
    "escapes": 'import "' + "\\\\" * 500_000 + '";',
    "an open string": 'import "' + "\\\\" * 500_000,
    "braces": "{" * 1_000_000,
    "depth": "message A {" * 100_000,
    "values": "option a = " + "{a:" * 100_000,
    "lists": "option (a) = {a: " + "[" * 100_000,
    "options": "message A { optional int32 a=1 [" + ",".join(["deprecated=true"] * 60_000) + "];}",
    "tags": P3 + 'import "confluent/meta.proto"; message A { int32 a=1 ['
    + ",".join(["(confluent.field_meta).tags='x'"] * 30_000) + "];}",
    "scopes": "package " + "a." * 250 + "b; message A {"
    + "".join(f"optional X{i} f{i}={i};" for i in range(1, 9_000)) + "}",
    "a name": "message " + "a" * 1_000_000 + " {}",
    "digits": "enum A { A = " + "9" * 1_000_000 + "; }",
    "reserved": "message A { reserved " + ",".join(map(str, range(1, 140_000))) + "; }",
    "imports": "".join(f'import "a{i}";' for i in range(70_000)),
    "extensions": 'import "google/protobuf/descriptor.proto";'
    + "".join(f"extend google.protobuf.FieldOptions {{ optional int32 a{i}={i + 1000}; }}" for i in range(13_000)),
    "base64": "AAAA" * 250_000,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_megabyte_of_anything_is_judged_in_seconds(text: str) -> None:
    began = time.process_time()
    for as_new in (False, True):
        try:
            schema = parse(text, as_new=as_new)
            schema.normalized()
        except InvalidSchema:
            pass
    assert time.process_time() - began < 60


def encoded(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def test_a_descriptor_cannot_smuggle_in_what_no_text_could_say() -> None:
    for name in ("A {} message B", "", "a b", "1", "a" * 600):
        with pytest.raises(InvalidSchema):
            parse(encoded(FileDescriptorProto(message_type=[DescriptorProto(name=name)])), as_new=False)
    deep = FileDescriptorProto()
    level = deep.message_type.add(name="A")
    for _ in range(90):
        level = level.nested_type.add(name="A")
    with pytest.raises(InvalidSchema, match="nested too deeply"):
        parse(encoded(deep))


@pytest.mark.slow
def test_options_that_nobody_has_declared_are_passed_over_at_once() -> None:
    """What knows custom options is made once, not for every one of twenty thousand fields."""
    file = FileDescriptorProto(name="it.proto")
    unknown = FieldOptions.FromString(b"\x80\xb5\x18\x01")
    for i in range(20_000):
        message = file.message_type.add(name=f"M{i}")
        message.field.add(name="a", number=1, type="TYPE_INT32", label="LABEL_OPTIONAL", options=unknown)
    began = time.process_time()
    assert "[" not in parse(encoded(file)).canonical
    assert time.process_time() - began < 60


def test_options_of_all_kinds_stand_together() -> None:
    field = "[targets = TARGET_TYPE_FIELD, targets = TARGET_TYPE_FILE, (confluent.field_meta).doc = 'x']"
    schema = parse(f'{P3} import "confluent/meta.proto"; message A {{ string a = 1 {field}; }}')
    assert list(serialized(schema).message_type[0].field[0].options.targets) == [4, 1]


def test_names_are_text() -> None:
    """Protobuf itself takes any bytes for the name of a message."""
    named = FileDescriptorProto(message_type=[DescriptorProto(name="Aaa")]).SerializeToString()
    with pytest.raises(InvalidSchema, match="UTF-8"):
        parse(base64.b64encode(named.replace(b"Aaa", b"A\xff\xfe")).decode())


TOKENS = re.findall(r'\s+|\w+|"(?:[^"\\]|\\.)*"|.', SHOP, re.DOTALL)
CHANGES = st.lists(
    st.tuples(st.integers(0, 5_000), st.sampled_from(["", *dict.fromkeys(TOKENS)])), min_size=1, max_size=4
)
BYTES = st.lists(st.tuples(st.integers(0, 5_000), st.binary(max_size=2)), min_size=1, max_size=4)


@given(CHANGES)
def test_a_text_that_was_damaged_is_a_schema_or_is_refused(changes: list[tuple[int, str]]) -> None:
    tokens = list(TOKENS)
    for place, instead in changes:
        tokens[place % len(tokens)] = instead
    try:
        schema = parse("".join(tokens))
    except InvalidSchema:
        return
    assert parse(schema.canonical).canonical == schema.canonical
    assert parse(schema.normalized()).normalized() == schema.normalized()
    assert schema.misfits(schema) == []


@given(BYTES)
def test_a_descriptor_that_was_damaged_is_a_schema_or_is_refused(changes: list[tuple[int, bytes]]) -> None:
    damaged = bytearray(base64.b64decode(parse(SHOP).formatted("serialized") or ""))
    for place, instead in changes:
        damaged[place % len(damaged) : place % len(damaged) + 1] = instead
    text = base64.b64encode(damaged).decode()
    try:
        schema = parse(text)
    except InvalidSchema:
        return
    assert parse(schema.canonical).canonical == schema.canonical
    assert schema.misfits(schema) == []


NAMES = st.sampled_from(["a", "b", "message", "option", "repeated_", "A", "B", "stream", "max", "to"])
SCALAR = st.sampled_from(["int32", "string", "bytes", "double", "sint64", "bool", "A", ".p.A"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


@st.composite
def messages(draw: st.DrawFn) -> str:
    numbers = draw(st.lists(st.integers(1, 50), unique=True, max_size=5))
    parts: list[str] = []
    for number in numbers:
        label = draw(st.sampled_from(["", "optional ", "repeated "]))
        kind, of = draw(st.sampled_from(["{}", "map<string, {}>"])), draw(SCALAR)
        label = "" if kind != "{}" else label
        option = draw(st.sampled_from(["", " [deprecated = true]", f" [json_name = {quoted(draw(TEXTS))}]"]))
        parts.append(f"{label}{kind.format(of)} f{number} = {number}{option};")
    if draw(st.booleans()):
        inner = draw(st.permutations(["enum E { X = 0; Y = 5; }", "reserved 60 to 70, 80;", "message N { A a = 1; }"]))
        parts += inner[: draw(st.integers(0, 3))]
    if draw(st.booleans()):
        parts.append(f"oneof {draw(NAMES)}_ {{ {draw(SCALAR)} g = 100; string h = 101; }}")
    return " ".join(draw(st.permutations(parts)))


@given(st.lists(messages(), min_size=1, max_size=3))
def test_the_laws_of_texts(bodies: Sequence[str]) -> None:
    """A schema fits itself in every form, and what is stored is its own form."""
    described = " ".join(f"message {name} {{ {body} }}" for name, body in zip("ABC", bodies, strict=False))
    text = f'syntax = "proto3"; package p; {described}'
    schema = parse(text, as_new=False)
    assert schema.misfits(schema) == []
    stored = parse(schema.canonical, as_new=False)
    assert stored.canonical == schema.canonical
    normal = parse(schema.normalized(), as_new=False)
    assert normal.canonical == normal.normalized() == schema.normalized()
    assert normal.misfits(stored) == stored.misfits(normal) == []
    assert stored.means_the_same_as(schema)
    assert stored.means_the_same_as(normal)
