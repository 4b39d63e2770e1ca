"""The files that everybody may import without registering them: Protobuf's own, Google's common types, Confluent's."""

from functools import cache
from importlib import import_module

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from millstream.schemas.protobuf.descriptors import to_file
from millstream.schemas.protobuf.nodes import File
from millstream.schemas.protobuf.reading import read

_PROTOBUF = (
    *("any", "api", "descriptor", "duration", "empty", "field_mask", "source_context", "struct", "timestamp", "type"),
    "wrappers",
)
_TYPE = (
    *("calendar_period", "color", "date", "datetime", "dayofweek", "decimal", "expr", "fraction", "interval", "latlng"),
    *("localized_text", "money", "month", "phone_number", "postal_address", "quaternion", "timeofday"),
)
_COMPILED = {f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2" for name in _PROTOBUF}
_COMPILED |= {f"google/type/{name}.proto": f"google.type.{name}_pb2" for name in _TYPE}

_META = """
syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta {
  string doc = 1;
  map<string, string> params = 2;
  repeated string tags = 3;
  repeated Rule rules = 4;
}
message Rule {
  string name = 1;
  string doc = 2;
  string expr = 3;
  string sql = 4;
}
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"""
_DECIMAL = """
syntax = "proto3";
package confluent.type;
message Decimal {
  bytes value = 1;
  uint32 precision = 2;
  int32 scale = 3;
}
"""
_VARIANT = """
syntax = "proto3";
package confluent.type;
message Variant {
  bytes metadata = 1;
  bytes value = 2;
}
"""
# Where Confluent's Python client once had it.
_OLD_DECIMAL = 'syntax = "proto3"; import public "confluent/type/decimal.proto";'
_WRITTEN = {
    "confluent/meta.proto": _META,
    "confluent/type/decimal.proto": _DECIMAL,
    "confluent/type/variant.proto": _VARIANT,
    "confluent/types/decimal.proto": _OLD_DECIMAL,
}


def known(path: str) -> File | None:
    """The file that everybody knows by this path.

    >>> [message.name for message in known("google/protobuf/timestamp.proto").messages]
    ['Timestamp']
    >>> known("shop/order.proto") is None
    True
    """
    return _read(path) if path in _WRITTEN or path in _COMPILED else None


def compiled(path: str) -> bytes | None:
    """The descriptor of such a file, if Protobuf's library or Google's common types bring it."""
    return import_module(_COMPILED[path]).DESCRIPTOR.serialized_pb if path in _COMPILED else None


@cache
def _read(path: str) -> File:
    descriptor = compiled(path)
    if descriptor is None:
        return read(_WRITTEN[path])
    return to_file(FileDescriptorProto.FromString(descriptor), lambda _: None)
