"""From a file to the descriptor that compiled code carries, every name in full; Protobuf itself judges it."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import Message as ProtobufMessage

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf import options
from millstream.schemas.protobuf.known import compiled, known
from millstream.schemas.protobuf.linking import Linked, within
from millstream.schemas.protobuf.nodes import (
    SCALARS,
    Block,
    Enum,
    Extend,
    Field,
    Message,
    Option,
    Ranges,
    Service,
    Word,
)

_ESCAPES = {ord(a): f"\\{b}" for a, b in zip("\n\r\t\"'\\", "nrt\"'\\", strict=True)}
_Fields: TypeAlias = "RepeatedCompositeFieldContainer[FieldDescriptorProto]"


def build(linked: Linked, name: str) -> FileDescriptorProto:
    """The file as `protoc` would compile it, custom options included. Raises `InvalidSchema`."""
    plain = _built(linked, None, name)
    pool = pool_of(linked)
    add(pool, plain.SerializeToString())
    return _built(linked, pool, name)


def check(linked: Linked) -> None:
    """Raises `InvalidSchema` for a file that could not be compiled."""
    build(linked, "checked.proto")


def pool_of(linked: Linked) -> DescriptorPool:
    """A pool of everything that the file imports. Raises `InvalidSchema`."""
    pool = DescriptorPool()
    for path, file in linked.all_imports().items():
        brought = compiled(path) if file.file is known(path) else None
        add(pool, brought or _built(file, None, path).SerializeToString())
    return pool


def add(pool: DescriptorPool, descriptor: bytes) -> None:
    """Raises `InvalidSchema` with what Protobuf has against the file."""
    try:
        pool.AddSerializedFile(descriptor)
    except (TypeError, ValueError) as error:
        raise InvalidSchema(str(error).removeprefix("Couldn't build proto file into descriptor pool: ")) from None


def _built(linked: Linked, pool: DescriptorPool | None, name: str) -> FileDescriptorProto:
    try:
        return _Builder(linked, pool).file(name)
    except ValueError as error:
        # A number that is too large, a string that is none.
        raise error if isinstance(error, InvalidSchema) else InvalidSchema(str(error)) from None


class _Builder:
    def __init__(self, linked: Linked, pool: DescriptorPool | None) -> None:
        self._linked = linked
        self._pool = pool
        self._proto3 = linked.file.syntax == "proto3"

    def file(self, name: str) -> FileDescriptorProto:
        file, made = self._linked.file, FileDescriptorProto(name=name, package=self._linked.file.package)
        if not file.package:
            made.ClearField("package")
        if self._proto3:
            made.syntax = "proto3"
        made.dependency.extend(dict.fromkeys((*file.imports, *file.public_imports)))
        made.public_dependency.extend(i for i, path in enumerate(made.dependency) if path in file.public_imports)
        for message in file.messages:
            self._message(made.message_type.add(), message, file.package)
        for enum in file.enums:
            self._enum(made.enum_type.add(), enum, file.package)
        for group in file.groups():
            self._message(made.message_type.add(), group, file.package)
        self._extends(made.extension, file.extends, file.package)
        for service in file.services:
            self._service(made.service.add(), service, file.package)
        self._options(made, file.options, file.package)
        return made

    def _message(self, made: DescriptorProto, message: Message, outer: str) -> None:
        made.name, scope = message.name, within(outer, message.name)
        for nested in (*message.messages, *message.groups()):
            self._message(made.nested_type.add(), nested, scope)
        for enum in message.enums:
            self._enum(made.enum_type.add(), enum, scope)
        for field in message.fields:
            self._field(made.field.add(), field, scope)
            if field.key:
                self._map_entry(made, field, scope)
        for index, oneof in enumerate(message.oneofs):
            self._options(made.oneof_decl.add(name=oneof.name), oneof.options, scope)
            for field in oneof.fields:
                self._field(made.field.add(oneof_index=index), field, scope)
        self._presence(made)
        for first, last, _ in _numbers(message.reserved):
            made.reserved_range.add(start=first, end=last + 1)
        made.reserved_name.extend(_names(message.reserved))
        for first, last, of in _numbers(message.extensions):
            self._options(made.extension_range.add(start=first, end=last + 1), of.options, scope)
        self._extends(made.extension, message.extends, scope)
        self._options(made, message.options, scope)

    def _presence(self, made: DescriptorProto) -> None:
        """An optional field of proto3 is compiled to a oneof of its own, after the others."""
        for field in made.field:
            if field.proto3_optional:
                field.oneof_index = len(made.oneof_decl)
                made.oneof_decl.add(name=f"_{field.name}")

    def _field(self, made: FieldDescriptorProto, field: Field, scope: str) -> None:
        made.name, made.number = field.name, field.number
        made.label = getattr(FieldDescriptorProto, f"LABEL_{(field.label or 'optional').upper()}")
        if self._proto3 and field.label == "optional":
            made.proto3_optional = True
        if field.key:
            made.label = FieldDescriptorProto.LABEL_REPEATED
            made.type = FieldDescriptorProto.TYPE_MESSAGE
            made.type_name = f".{within(scope, _entry_name(field))}"
        elif field.group is not None:
            made.type = FieldDescriptorProto.TYPE_GROUP
            made.type_name = f".{within(scope, field.group.name)}"
        else:
            self._type(made, field.type, scope)
        for option in field.options:
            if option.name == "json_name" and isinstance(option.value, str):
                made.json_name = option.value
            elif option.name == "default":
                made.default_value = _default(made, option)
        self._options(made, field.options, scope)

    def _type(self, made: FieldDescriptorProto, name: str, scope: str) -> None:
        if name in SCALARS:
            made.type = getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
            return
        found = self._linked.resolve(name, scope)
        if found is None:
            raise InvalidSchema(f"{within(scope, made.name)} has the type {name!r}, which is not known here")
        is_enum = isinstance(found.node, Enum)
        made.type = FieldDescriptorProto.TYPE_ENUM if is_enum else FieldDescriptorProto.TYPE_MESSAGE
        made.type_name = f".{found.name}"

    def _map_entry(self, made: DescriptorProto, field: Field, scope: str) -> None:
        entry = made.nested_type.add(name=_entry_name(field))
        entry.options.map_entry = True
        for name, number, kind in (("key", 1, field.key), ("value", 2, field.type)):
            part = entry.field.add(name=name, number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            self._type(part, kind, scope)

    def _extends(self, made: _Fields, extends: Iterable[Extend], scope: str) -> None:
        for extend in extends:
            for field in extend.fields:
                extension = made.add(extendee=self._message_name(extend.type, scope))
                self._field(extension, field, scope)

    def _message_name(self, name: str, scope: str) -> str:
        found = self._linked.resolve(name, scope)
        if found is None or isinstance(found.node, Enum):
            raise InvalidSchema(f"{name!r}, used in {scope or 'the file'}, is no message that is known here")
        return f".{found.name}"

    def _enum(self, made: EnumDescriptorProto, enum: Enum, outer: str) -> None:
        made.name, scope = enum.name, within(outer, enum.name)
        for value in enum.values:
            self._options(made.value.add(name=value.name, number=value.number), value.options, scope)
        for first, last, _ in _numbers(enum.reserved):
            made.reserved_range.add(start=first, end=last)
        made.reserved_name.extend(_names(enum.reserved))
        self._options(made, enum.options, scope)

    def _service(self, made: ServiceDescriptorProto, service: Service, outer: str) -> None:
        made.name, scope = service.name, within(outer, service.name)
        for rpc in service.rpcs:
            method = made.method.add(name=rpc.name)
            method.input_type, method.output_type = (self._message_name(of, scope) for of in (rpc.takes, rpc.gives))
            if rpc.takes_stream:
                method.client_streaming = True
            if rpc.gives_stream:
                method.server_streaming = True
            self._options(method, rpc.options, scope)
        self._options(made, service.options, scope)

    def _options(self, made: ProtobufMessage, given: Sequence[Option], scope: str) -> None:
        if not given:
            return
        target = made.options  # type: ignore[attr-defined]
        options.fill(target, given, lambda name: self._extension_name(name, scope), self._pool)
        if not target.ByteSize():
            made.ClearField("options")

    def _extension_name(self, name: str, scope: str) -> str:
        found = self._linked.resolve_extension(name, scope)
        if found is None:
            raise InvalidSchema(f"option ({name}), used in {scope or 'the file'}, is not known here")
        return found.name


def _entry_name(field: Field) -> str:
    """The name that `protoc` gives the message that a map is compiled to: `line_items` has `LineItemsEntry`."""
    return "".join(part[:1].upper() + part[1:] for part in field.name.split("_")) + "Entry"


def _numbers(statements: Iterable[Ranges]) -> Iterable[tuple[int, int, Ranges]]:
    for statement in statements:
        for item in statement.items:
            if isinstance(item, int):
                yield item, item, statement
            elif not isinstance(item, str):
                yield *item, statement


def _names(statements: Iterable[Ranges]) -> Iterable[str]:
    return (item for statement in statements for item in statement.items if isinstance(item, str))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidSchema(f"{text!r} is no number") from None


def _default(field: FieldDescriptorProto, option: Option) -> str:
    match option.value:
        case str(text) if field.type == FieldDescriptorProto.TYPE_BYTES:
            raw = text.encode("utf-8", "surrogateescape")
            return "".join(_ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}") for byte in raw)
        case str(text):
            return text
        case Word(text) if text.lstrip("-").lower().startswith("0x"):
            return str(int(text, 16))
        case Word(text) if text.lstrip("-").isdigit() and text.lstrip("-").startswith("0"):
            return str(int(text, 8)) if set(text) <= set("-01234567") else text
        case Word(text) if field.type in (FieldDescriptorProto.TYPE_FLOAT, FieldDescriptorProto.TYPE_DOUBLE):
            number = _number(text)
            return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
        case Word(text):
            return text
        case Block() | list():
            raise InvalidSchema(f"{field.name} has a default that is no single value")
