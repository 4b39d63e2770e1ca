"""From the descriptor that compiled code carries to a file: how Confluent's clients for Python and C# register schemas.

https://protobuf.dev/reference/protobuf/google.protobuf/#file-descriptor-proto
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtobufMessage

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf import options
from millstream.schemas.protobuf.nodes import (
    Enum,
    EnumValue,
    Extend,
    Field,
    File,
    Message,
    OneOf,
    Option,
    Ranges,
    Rpc,
    Service,
    Value,
    Word,
)
from millstream.schemas.protobuf.tokens import Tokens

_BASE64 = re.compile(r"[A-Za-z0-9+/\s]++={0,2}\s*+")
_TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
_LABELS = {number: name.removeprefix("LABEL_").lower() for name, number in FieldDescriptorProto.Label.items()}
Pool = Callable[[FileDescriptorProto], DescriptorPool | None]


def decode(text: str) -> FileDescriptorProto | None:
    """The descriptor that `text` is in base64, None if it is not base64; `InvalidSchema` if it is of anything else.

    >>> decode('syntax = "proto3";') is None
    True
    """
    if not _BASE64.fullmatch(text):
        return None
    try:
        found = FileDescriptorProto.FromString(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, DecodeError) as error:
        raise InvalidSchema(f"it is neither a .proto file nor the base64 of a file's descriptor: {error}") from None
    if not _is_all_text(found):
        raise InvalidSchema("it has names that are no text in UTF-8")
    return found


def to_file(descriptor: FileDescriptorProto, pool: Pool) -> File:
    """The file that the descriptor describes. `pool` gives what knows its custom options, if it has any.

    Raises `InvalidSchema`.
    """
    if descriptor.syntax not in ("", "proto2", "proto3"):
        raise InvalidSchema("it is written in an edition; this registry reads proto2 and proto3")
    return _Reader(descriptor, cache(lambda: pool(descriptor))).file()


class _Reader:
    def __init__(self, descriptor: FileDescriptorProto, pool: Callable[[], DescriptorPool | None]) -> None:
        self._file = descriptor
        self._pool = pool
        self._proto3 = descriptor.syntax == "proto3"

    def file(self) -> File:
        of, public = self._file, set(self._file.public_dependency)
        groups = _groups(of.extension, of.message_type)
        return File(
            of.syntax,
            of.package,
            [path for i, path in enumerate(of.dependency) if i not in public],
            [path for i, path in enumerate(of.dependency) if i in public],
            [self._message(message) for message in of.message_type if message.name not in groups],
            [self._enum(enum) for enum in of.enum_type],
            self._extends(of.extension, groups),
            [self._service(service) for service in of.service],
            self._options(of),
        )

    def _message(self, of: DescriptorProto) -> Message:
        groups = _groups((*of.field, *of.extension), of.nested_type)
        message = Message(of.name, oneofs=[OneOf(oneof.name, [], self._options(oneof)) for oneof in of.oneof_decl])
        for field in of.field:
            made = self._field(field, groups)
            if not field.HasField("oneof_index") or field.proto3_optional:
                message.fields.append(made)
            elif field.oneof_index < len(message.oneofs):
                made.label = ""
                message.oneofs[field.oneof_index].fields.append(made)
            else:
                raise InvalidSchema(f"{of.name}.{field.name} is in a oneof that is not there")
        message.oneofs = [oneof for oneof in message.oneofs if oneof.fields]
        message.messages = [self._message(nested) for nested in of.nested_type if nested.name not in groups]
        message.enums = [self._enum(enum) for enum in of.enum_type]
        message.options = self._options(of)
        message.reserved = [_range(range_.start, range_.end - 1) for range_ in of.reserved_range]
        message.reserved += [Ranges((name,)) for name in of.reserved_name]
        message.extensions = [_range(each.start, each.end - 1, self._options(each)) for each in of.extension_range]
        message.extends = self._extends(of.extension, groups)
        return message

    def _field(self, of: FieldDescriptorProto, groups: Mapping[str, DescriptorProto]) -> Field:
        made = Field(of.name, of.number, of.type_name or _TYPES.get(of.type, ""), _LABELS.get(of.label, ""))
        if self._proto3 and made.label != "repeated" and not of.proto3_optional:
            made.label = ""
        made.options = self._options(of)
        if of.HasField("default_value"):
            made.options.append(Option("default", _default(of)))
        if of.HasField("json_name"):
            made.options.append(Option("json_name", of.json_name))
        if of.type == FieldDescriptorProto.TYPE_GROUP:
            body = groups.get(_tail(of.type_name))
            if body is None:
                raise InvalidSchema(f"the group {of.name} has no type beside it")
            made.group, made.type = self._message(body), body.name
        return made

    def _extends(self, fields: Iterable[FieldDescriptorProto], groups: Mapping[str, DescriptorProto]) -> list[Extend]:
        extends: dict[str, Extend] = {}
        for of in fields:
            extends.setdefault(of.extendee, Extend(of.extendee)).fields.append(self._field(of, groups))
        return list(extends.values())

    def _enum(self, of: EnumDescriptorProto) -> Enum:
        reserved = [_range(each.start, each.end) for each in of.reserved_range]
        return Enum(
            of.name,
            [EnumValue(value.name, value.number, self._options(value)) for value in of.value],
            self._options(of),
            [*reserved, *(Ranges((name,)) for name in of.reserved_name)],
        )

    def _service(self, of: ServiceDescriptorProto) -> Service:
        rpcs = [
            Rpc(
                rpc.name,
                rpc.input_type,
                rpc.output_type,
                rpc.client_streaming,
                rpc.server_streaming,
                self._options(rpc),
            )
            for rpc in of.method
        ]
        return Service(of.name, rpcs, self._options(of))

    def _options(self, of: ProtobufMessage) -> list[Option]:
        return options.described(of.options, self._pool) if of.HasField("options") else []  # type: ignore[attr-defined]


def _is_all_text(message: ProtobufMessage) -> bool:
    """Protobuf gives a string that is not in UTF-8 as bytes."""
    for field, value in message.ListFields():
        items = value if field.is_repeated else [value]
        if field.message_type is not None:
            if not all(map(_is_all_text, items)):
                return False
        elif field.type == field.TYPE_STRING and any(isinstance(item, bytes) for item in items):
            return False
    return True


def _default(of: FieldDescriptorProto) -> Value:
    if of.type == FieldDescriptorProto.TYPE_STRING:
        return of.default_value
    if of.type == FieldDescriptorProto.TYPE_BYTES:
        # Kept as the text between the quotes of a .proto file.
        escaped = of.default_value.replace('"', "\\042")
        return Tokens(f'"{escaped}"').take_string()
    return Word(of.default_value)


def _groups(
    fields: Iterable[FieldDescriptorProto], messages: Iterable[DescriptorProto]
) -> Mapping[str, DescriptorProto]:
    """The messages that are declared by these fields."""
    names = {_tail(field.type_name) for field in fields if field.type == FieldDescriptorProto.TYPE_GROUP}
    return {message.name: message for message in messages if message.name in names} if names else {}


def _tail(name: str) -> str:
    return name.rpartition(".")[2]


def _range(first: int, last: int, given: Iterable[Option] = ()) -> Ranges:
    return Ranges((first if first == last else (first, last),), tuple(given))
