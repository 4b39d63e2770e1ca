"""Schemas that can be imported, a dozen and more of each language."""

import json
from typing import Any


def avro(*fields: Any, **more: Any) -> str:
    made = [
        field if isinstance(field, dict) else dict(zip(("name", "type", "default"), field, strict=False))
        for field in fields
    ]
    return json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": made, **more})


_LINE = {"type": "record", "name": "Line", "fields": [{"name": "product", "type": "string"}]}
_SIZE = {"type": "enum", "name": "Size", "symbols": ["S", "M", "None"]}
_TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "inner", "type": {"type": "array", "items": "Tree"}, "default": []}],
}

AVRO = {
    "scalars": avro(("a", "string"), ("b", "long"), ("c", "boolean"), ("d", "double"), ("e", "bytes")),
    "defaults": avro(
        ("a", "string", 'it\'s "so"'),
        ("b", "long", -3),
        ("c", "boolean", True),
        ("d", "double", 2),
        ("e", "bytes", "\xff"),
    ),
    "optional": avro(("a", ["null", "string"], None), ("b", ["null", "long"])),
    "default first": avro(("a", ["string", "null"], "x"), ("b", ["long", "null"], 1)),
    "null last": avro(("a", ["string", "null"])),
    "logical": avro(
        ("a", {"type": "long", "logicalType": "timestamp-micros"}),
        ("b", {"type": "int", "logicalType": "date"}),
        ("c", {"type": "long", "logicalType": "time-micros"}),
        ("d", {"type": "string", "logicalType": "uuid"}),
        ("e", ["null", {"type": "long", "logicalType": "timestamp-micros"}], None),
    ),
    "decimals": avro(
        ("a", {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}),
        ("b", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, "\x01\x00"),
        ("c", {"type": "bytes", "logicalType": "decimal", "precision": 5}),
    ),
    "enums": avro(("a", _SIZE), ("b", "Size", "M"), ("c", ["null", "Size"], None)),
    "collections": avro(
        ("a", {"type": "array", "items": "string"}),
        ("b", {"type": "array", "items": "long"}, []),
        ("c", {"type": "map", "values": "double"}),
        ("d", {"type": "map", "values": {"type": "array", "items": "string"}}, {}),
        ("e", {"type": "array", "items": "long"}, [1, 2]),
    ),
    "records": avro(("a", _LINE), ("b", {"type": "array", "items": "Line"}), ("c", ["null", "Line"], None)),
    "recursive": avro(("tree", _TREE)),
    "mutual": avro(
        (
            "left",
            {
                "type": "record",
                "name": "Left",
                "fields": [
                    {
                        "name": "right",
                        "type": {
                            "type": "record",
                            "name": "Right",
                            "fields": [{"name": "left", "type": ["null", "Left"], "default": None}],
                        },
                    }
                ],
            },
        )
    ),
    "union of records": avro(
        ("how", [_LINE, {"type": "record", "name": "Cash", "fields": [{"name": "cents", "type": "long"}]}, "string"])
    ),
    "other namespace": avro(("a", {**_LINE, "namespace": "elsewhere.deep"})),
    "aliases and docs": avro(
        {"name": "a", "type": "string", "aliases": ["b", "c"], "doc": 'what\nit "says" \\ and more'},
        doc='A long story "in quotes" ' + "of many words " * 20,
        aliases=["Purchase", "old.Bestellung"],
    ),
    "awkward names": avro(
        ("from", "string"),
        ("class", ["null", "long"], None),
        ("date", ["null", {"type": "int", "logicalType": "date"}], None),
        ("day", {"type": "int", "logicalType": "date"}),
        ("str", "string", ""),
        ("other", "string", ""),
        ("import", {"type": "map", "values": "long"}, {}),
    ),
}

_HEAD = 'syntax = "proto3";\npackage shop;\n'
PROTOBUF = {
    "scalars": _HEAD + "message Order { string a = 1; int64 b = 2; bool c = 3; double d = 4; bytes e = 5; }",
    "optional": _HEAD + "message Order { optional string a = 1; optional int64 b = 2; }",
    "repeated": _HEAD + "message Order { repeated string a = 1; repeated int64 b = 2; }",
    "maps": _HEAD
    + "message Order { map<string, int64> a = 1; map<string, Line> b = 2; } message Line { string p = 1; }",
    "messages": _HEAD
    + "message Order { Line a = 1; repeated Line b = 2; optional Line c = 3; } message Line { string p = 1; }",
    "numbers": _HEAD + "message Order { string a = 3; string b = 4; string c = 10; string d = 7; }",
    "well known": 'syntax = "proto3";\nimport "google/protobuf/timestamp.proto";\n'
    'import "google/protobuf/duration.proto";\npackage shop;\n'
    "message Order { google.protobuf.Timestamp a = 1; .google.protobuf.Duration b = 2; }",
    "enum of texts": _HEAD
    + "message Order { Size a = 1; } enum Size { SIZE_UNSPECIFIED = 0; SIZE_S = 1; SIZE_M = 2; }",
    "enum of numbers": _HEAD + "message Order { Size a = 1; } enum Size { S = 0; M = 5; L = 7; }",
    "recursive": _HEAD + "message Order { Tree a = 1; } message Tree { string name = 1; repeated Tree inner = 2; }",
    "mutual": _HEAD + "message Order { optional Left a = 1; } message Left { optional Order b = 1; }",
    "union": _HEAD
    + "message Order { OrderHow how = 1; } message OrderHow { oneof branch { Card card = 1; int64 int_value = 2; } } "
    "message Card { string n = 1; }",
    "docs": _HEAD
    + "// What somebody wants.\nmessage Order {\n  // as the customer\n  // calls it\n  string a = 1; // trailing\n"
    '  // Deprecated: say it "better"\n  string b = 2 [deprecated = true];\n}',
    "awkward names": _HEAD
    + "message Order { string from = 1; optional int64 class = 2; string str = 3; string x = 4; }",
    "two stories": _HEAD + "message Order { string a = 1; } message Alone { string b = 1; }",
}


def described(properties: dict[str, Any], **more: Any) -> str:
    required = [name for name, of in properties.items() if "default" not in of]
    head = {"title": "shop.Order", "type": "object", "properties": properties, "required": required}
    return json.dumps(head | {"additionalProperties": False} | more)


_LINE_OF_JSON = {
    "type": "object",
    "properties": {"product": {"type": "string"}},
    "required": ["product"],
    "additionalProperties": False,
}
_NULL = {"type": "null"}
_TEXT = {"type": "string"}


def _named(name: str, inner: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}


JSON_SCHEMA = {
    "scalars": described({"a": _TEXT, "b": {"type": "integer"}, "c": {"type": "boolean"}, "d": {"type": "number"}}),
    "defaults": described(
        {
            "a": _TEXT | {"default": 'it\'s "so"'},
            "b": {"type": "integer", "default": 3},
            "c": {"type": "boolean", "default": False},
            "d": {"type": "number", "default": 1.5},
        }
    ),
    "optional": described({"a": {"anyOf": [_NULL, _TEXT], "default": None}, "b": {"anyOf": [_TEXT, _NULL]}}),
    "type as list": described({"a": {"type": ["string", "null"], "default": None}, "b": {"type": ["integer", "null"]}}),
    "formats": described(
        {
            "a": _TEXT | {"format": "date-time"},
            "b": _TEXT | {"format": "date"},
            "c": _TEXT | {"format": "uuid"},
            "d": _TEXT | {"contentEncoding": "base64"},
            "e": _TEXT | {"format": "decimal", "precision": 9, "scale": 2},
        }
    ),
    "enums": described({"a": {"enum": ["x", "y"]}, "b": {"enum": [1, 2]}, "c": {"type": "string", "enum": ["z"]}}),
    "const": described({"a": {"const": "order"}}),
    "arrays": described(
        {
            "a": {"type": "array", "items": _TEXT},
            "b": {"type": "array", "items": {"type": "integer"}, "default": []},
            "c": {"type": "array", "items": _TEXT, "uniqueItems": True},
        }
    ),
    "tuples": described(
        {
            "a": {
                "type": "array",
                "prefixItems": [_TEXT, {"type": "integer"}],
                "items": False,
                "minItems": 2,
                "maxItems": 2,
            }
        }
    ),
    "maps": described(
        {
            "a": {"type": "object", "additionalProperties": {"type": "integer"}},
            "b": {"type": "object", "additionalProperties": _TEXT, "default": {}},
        }
    ),
    "objects": described({"line": _LINE_OF_JSON, "lines": {"type": "array", "items": _LINE_OF_JSON}}),
    "references": described(
        {"a": {"$ref": "#/$defs/line"}, "b": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
        **{"$defs": {"line": _LINE_OF_JSON}},
    ),
    "old definitions": described({"a": {"$ref": "#/definitions/OrderLine"}}, definitions={"OrderLine": _LINE_OF_JSON}),
    "recursive": described({"parent": {"anyOf": [_NULL, {"$ref": "#"}], "default": None}}),
    "one of": described({"a": {"oneOf": [_TEXT, {"type": "integer"}, _NULL]}}),
    "named branches": described(
        {
            "how": {
                "anyOf": [_named("Card", {"$ref": "#/$defs/Card"}), _named("Cash", {"$ref": "#/$defs/Cash"})],
            }
        },
        **{"$defs": {"Card": _LINE_OF_JSON, "Cash": _LINE_OF_JSON | {"properties": {"product": {"type": "integer"}}}}},
    ),
    "docs": described(
        {
            "a": _TEXT | {"description": "as the customer calls it"},
            "b": _TEXT | {"description": "Deprecated: say it better", "deprecated": True},
        },
        description="What somebody wants.",
    ),
    "awkward names": described({"from": _TEXT, "class": _TEXT | {"default": "x"}, "date": _TEXT | {"format": "date"}}),
}
