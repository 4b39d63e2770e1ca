"""Classes from a .proto file."""

import re
from typing import Any

from proto_schema_parser import ast
from proto_schema_parser.parser import Parser

from millstream.local.registry.formats import InvalidSchema
from millstream.local.registry.protobuf.reading import read
from millstream.operate.schemas.imports.module import FieldWritten, Module, Refused

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
        try:
            read(text)  # what the registry takes; the parser of comments, too, is milder
            self.file = Parser().parse(text)
        except InvalidSchema as error:
            raise Refused(f"it is no .proto file: {error}") from None
        self.package = next((of.name for of in self.file.file_elements if isinstance(of, ast.Package)), "")
        self.types: dict[str, ast.Message | ast.Enum] = {}
        self.docs: dict[str, str] = {}
        self._collect(self.file.file_elements, "")

    @property
    def messages(self) -> list[str]:
        """Names of messages, the first at the top first."""
        return [name for name, of in self.types.items() if isinstance(of, ast.Message)]

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

    def union_of(self, name: str) -> ast.OneOf | None:
        """The oneof of a message that has nothing else: a union, which is no field of its own in Protobuf."""
        message = self.types[name]
        assert isinstance(message, ast.Message)
        elements = [of for of in message.elements if not isinstance(of, ast.Comment)]
        only = elements[0] if len(elements) == 1 else None
        return only if isinstance(only, ast.OneOf) and only.name == "branch" else None

    def _collect(self, elements: list[Any], scope: str) -> None:
        comment: list[str] = []
        for of in elements:
            if isinstance(of, ast.Comment):
                comment += [] if of.inline else [said(of)]
                continue
            if isinstance(of, ast.Message | ast.Enum):
                full = f"{scope}.{of.name}" if scope else of.name
                self.types[full] = of
                self.docs[full] = " ".join(comment)
                if isinstance(of, ast.Message):
                    self._collect(of.elements, full)
            comment = []


def said(comment: ast.Comment) -> str:
    """The words of a comment."""
    lines = comment.text.removeprefix("/*").removesuffix("*/").splitlines()
    return " ".join(line.strip().lstrip("/*").strip() for line in lines).strip()


def read_protobuf(text: str, module: Module) -> None:
    """Writes the classes of a .proto file into `module`; the first message is the main one. Raises `Refused`."""
    proto = ProtoFile(text)
    if proto.file.syntax != "proto3":
        module.refuse("the file", f"syntax {proto.file.syntax or 'proto2'}", "write it in proto3")
    for of in proto.file.file_elements:
        if isinstance(of, ast.Import) and of.name not in _IMPORTS:
            module.refuse("the file", f'import "{of.name}"', "put what it needs into this file")
        if isinstance(of, ast.Service | ast.Extension):
            module.instead(type(of).__name__.lower(), "it", "leave it out; only messages travel on topics")
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
        assert isinstance(message, ast.Message)
        fields = list(self._fields(message, name))
        self._open.discard(name)
        self._done.add(name)
        self._module.record(short, fields, namespace=self._proto.package, doc=self._proto.docs[name])
        return short

    def _fields(self, message: ast.Message, scope: str) -> Any:
        comment: list[str] = []
        following = 1
        for of in message.elements:
            where = f"{scope}.{getattr(of, 'name', '')}".rstrip(".")
            match of:
                case ast.Comment():
                    comment += [] if of.inline else [said(of)]
                    continue
                case ast.Field() | ast.MapField():
                    yield self._field(of, where, scope, " ".join(comment), following)
                    following = of.number + 1
                case ast.OneOf():
                    self._module.instead(where, "a oneof beside other fields", "give it a message of its own")
                    for inner in of.elements:
                        if isinstance(inner, ast.Field):
                            inner.cardinality = ast.FieldCardinality.OPTIONAL
                            yield self._field(inner, f"{scope}.{inner.name}", scope, "", following)
                            following = inner.number + 1
                case ast.Message() | ast.Enum() | ast.Option():
                    pass
                case ast.Reserved():
                    self._module.instead(where, "reserved", "leave it out; keep old fields, deprecated")
                case _:
                    self._module.refuse(where, type(of).__name__.lower(), "write it in plain proto3")
            comment = []

    def _field(self, of: ast.Field | ast.MapField, where: str, scope: str, doc: str, following: int) -> FieldWritten:
        deprecated = any(option.name == "deprecated" and option.value is True for option in of.options)
        notes: list[str] = []
        why = _DEPRECATED.search(doc) if deprecated else None
        doc = doc[: why.start()] if why else doc
        notes += [self._module.note("Doc", doc)] if doc else []
        notes += [self._module.note("Deprecated", why[1] if why else "")] if deprecated else []
        notes += [self._module.note("Number", of.number)] if of.number != following else []
        if isinstance(of, ast.MapField):
            if of.key_type != "string":
                self._module.refuse(where, f"a map by {of.key_type}", "write map<string, …>")
            return FieldWritten(of.name, f"dict[str, {self._type(of.value_type, where, scope)}]", notes)
        kind = self._type(of.type, where, scope)
        match of.cardinality:
            case ast.FieldCardinality.REPEATED:
                return FieldWritten(of.name, f"tuple[{kind}, ...]", notes, "()")
            case ast.FieldCardinality.OPTIONAL:
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
        if isinstance(self._proto.types[full], ast.Enum):
            return self._enum(full)
        if (union := self._proto.union_of(full)) is not None:
            branches = [of for of in union.elements if isinstance(of, ast.Field)]
            return " | ".join(self._type(of.type, f"{full}.{of.name}", full) for of in branches)
        return self.message(full)

    def _enum(self, name: str) -> str:
        enum, short = self._proto.types[name], name.rpartition(".")[2]
        assert isinstance(enum, ast.Enum)
        if name not in self._done:
            self._done.add(name)
            stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", short).upper() + "_"
            values = {of.name.removeprefix(stem): of.number for of in enum.elements if isinstance(of, ast.EnumValue)}
            named = [symbol for symbol in values if symbol != "UNSPECIFIED"]
            counted = list(values.values()) == list(range(len(values))) and len(named) == len(values) - 1
            members = {symbol: symbol for symbol in named} if counted else dict(values)
            self._module.enum(short, members, self._proto.docs[name])
        return short
