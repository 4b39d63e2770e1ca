"""Classes from a .proto file."""

import re
from collections.abc import Iterable, Iterator

from millstream.operate.schemas.imports.comments import Comments
from millstream.operate.schemas.imports.module import FieldWritten, Module, Refused
from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf.linking import within
from millstream.schemas.protobuf.nodes import Enum, Field, Message, OneOf, Word
from millstream.schemas.protobuf.reading import read

_SCALARS = {"string": "str", "int64": "int", "bool": "bool", "double": "float", "bytes": "bytes"}
_NEAREST: dict[str, str] = {"float": "float"}
for _whole in ("int32", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64"):
    _NEAREST[_whole] = "int"
_KNOWN = {"google.protobuf.Timestamp": "datetime", "google.protobuf.Duration": "timedelta"}
_IMPORTS = ("google/protobuf/timestamp.proto", "google/protobuf/duration.proto")
_DEPRECATED = re.compile(r"(?:^| )Deprecated: (.*)\Z")


class ProtoFile:
    """Messages and enumerations of a file by their full names inside the package. Raises `Refused`."""

    def __init__(self, text: str) -> None:
        text = text.removeprefix("\ufeff")
        try:
            self.file = read(text)
        except InvalidSchema as error:
            raise Refused(f"it is no .proto file: {error}") from None
        self.package = self.file.package
        self.types: dict[str, Message | Enum] = {}
        self._comments = Comments(text)
        self._collect(self.file.messages, self.file.enums, "")

    @property
    def messages(self) -> list[str]:
        """Names of messages, the first at the top first."""
        return [name for name, of in self.types.items() if isinstance(of, Message)]

    def doc(self, of: Message | Enum | Field) -> str:
        """Return the text of the comment before it."""
        return self._comments.before(of.at)

    def resolve(self, name: str, scope: str) -> str | None:
        """The full name of what `name` means inside of the message `scope`."""
        if name.startswith("."):
            name, scope = name[1:].removeprefix(f"{self.package}."), ""
        while True:
            full = f"{scope}.{name}" if scope else name
            if full in self.types:
                return full
            if not scope:
                bare = name.removeprefix(f"{self.package}.")
                return bare if bare in self.types else None
            scope = scope.rpartition(".")[0]

    def union_of(self, name: str) -> OneOf | None:
        """The oneof of a message that has nothing else: a union, which is no field of its own in Protobuf."""
        message = self.types[name]
        assert isinstance(message, Message)
        beside = message.fields or message.messages or message.enums or message.options or message.reserved
        only = message.oneofs[0] if len(message.oneofs) == 1 and not beside else None
        return only if only is not None and only.name == "branch" else None

    def _collect(self, messages: Iterable[Message], enums: Iterable[Enum], scope: str) -> None:
        for of in sorted((*messages, *enums), key=lambda of: of.at):
            full = within(scope, of.name)
            self.types[full] = of
            if isinstance(of, Message):
                self._collect(of.messages, of.enums, full)


def read_protobuf(text: str, module: Module) -> None:
    """Writes the classes of a .proto file into `module`; the first message is the main one. Raises `Refused`."""
    proto = ProtoFile(text)
    file = proto.file
    if file.syntax != "proto3":
        module.refuse("the file", f"syntax {file.syntax or 'proto2'}", "write it in proto3")
    for path in (*file.imports, *file.public_imports):
        if path not in _IMPORTS:
            module.refuse("the file", f'import "{path}"', "put what it needs into this file")
    for declared in (*(of.name for of in file.services), *(f"extend {of.type}" for of in file.extends)):
        module.instead(declared, "it", "leave it out; only messages travel on topics")
    if not proto.package:
        module.instead("the file", "no package", "declare one: it is the namespace of the classes")
    for name in proto.types:
        if "." in name:
            module.instead(name, "a type inside of a message", "put it beside the message, as `millstream` writes it")
    if not proto.messages:
        module.refuse("the file", "no message", "declare one")
    module.main = proto.messages[0]
    reader = _Reader(proto, module)
    for name in proto.messages:
        if proto.union_of(name) is None:
            reader.message(name)


class _Reader:
    def __init__(self, proto: ProtoFile, module: Module) -> None:
        self._proto = proto
        self._module = module
        self._open: set[str] = set()
        self._done: set[str] = set()

    def message(self, name: str) -> str:
        """The class of a message, written if it is not yet."""
        short = name.rpartition(".")[2]
        if name in self._done | self._open:
            return self._module.refer(short, written=name in self._done)
        self._open.add(name)
        message = self._proto.types[name]
        assert isinstance(message, Message)
        if message.extensions or message.extends:
            self._module.refuse(name, "an extension", "write it in plain proto3")
        if message.reserved:
            self._module.instead(name, "reserved", "leave it out; keep old fields, deprecated")
        fields = list(self._fields(message, name))
        self._open.discard(name)
        self._done.add(name)
        self._module.record(short, fields, namespace=self._proto.package, doc=self._proto.doc(message))
        return short

    def _fields(self, message: Message, scope: str) -> Iterator[FieldWritten]:
        following = 1
        for of in sorted((*message.fields, *message.oneofs), key=lambda of: of.at):
            if isinstance(of, OneOf):
                self._module.instead(
                    f"{scope}.{of.name}", "a oneof beside other fields", "give it a message of its own"
                )
            for field in of.fields if isinstance(of, OneOf) else [of]:
                label = "optional" if isinstance(of, OneOf) else field.label
                yield self._field(field, label, scope, following)
                following = field.number + 1

    def _field(self, of: Field, label: str, scope: str, following: int) -> FieldWritten:
        where, doc = f"{scope}.{of.name}", self._proto.doc(of)
        if of.group is not None or label == "required":
            self._module.refuse(where, "a group" if of.group is not None else label, "write it in plain proto3")
        deprecated = any(option.name == "deprecated" and option.value == Word("true") for option in of.options)
        notes: list[str] = []
        why = _DEPRECATED.search(doc) if deprecated else None
        doc = doc[: why.start()] if why else doc
        notes += [self._module.note("Doc", doc)] if doc else []
        notes += [self._module.note("Deprecated", why[1] if why else "")] if deprecated else []
        notes += [self._module.note("Number", of.number)] if of.number != following else []
        if of.key and of.key != "string":
            self._module.refuse(where, f"a map by {of.key}", "write map<string, …>")
        kind = self._type(of.type, where, scope)
        match label:
            case _ if of.key:
                return FieldWritten(of.name, f"dict[str, {kind}]", notes)
            case "repeated":
                return FieldWritten(of.name, f"tuple[{kind}, ...]", notes, "()")
            case "optional":
                return FieldWritten(of.name, f"{kind} | None", notes, "None")
            case _:
                return FieldWritten(of.name, kind, notes)

    def _type(self, name: str, where: str, scope: str) -> str:
        if name in _SCALARS:
            return _SCALARS[name]
        if name in _NEAREST:
            self._module.instead(where, name, f"write {'double' if name == 'float' else 'int64'}")
            return _NEAREST[name]
        if (known := _KNOWN.get(name.removeprefix("."))) is not None:
            return self._module.use(known)
        full = self._proto.resolve(name, scope)
        if full is None:
            self._module.refuse(where, name, "declare it in this file")
        if isinstance(self._proto.types[full], Enum):
            return self._enum(full)
        if (union := self._proto.union_of(full)) is not None:
            return " | ".join(self._type(of.type, f"{full}.{of.name}", full) for of in union.fields)
        return self.message(full)

    def _enum(self, name: str) -> str:
        enum, short = self._proto.types[name], name.rpartition(".")[2]
        assert isinstance(enum, Enum)
        if name not in self._done:
            if enum.reserved:
                self._module.instead(name, "reserved", "leave it out; keep old constants")
            self._done.add(name)
            stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", short).upper() + "_"
            values = {of.name.removeprefix(stem): of.number for of in enum.values}
            named = [symbol for symbol in values if symbol != "UNSPECIFIED"]
            counted = list(values.values()) == list(range(len(values))) and len(named) == len(values) - 1
            members = {symbol: symbol for symbol in named} if counted else dict(values)
            self._module.enum(short, members, self._proto.doc(enum))
        return short
