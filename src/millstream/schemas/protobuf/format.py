"""Protobuf behind the registry's protocols for formats."""

import base64
from collections.abc import Iterator, Sequence
from functools import cached_property

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from millstream.schemas.formats import InvalidSchema, Parsed, Referred
from millstream.schemas.protobuf import building, descriptors
from millstream.schemas.protobuf.known import known
from millstream.schemas.protobuf.linking import Linked, Names
from millstream.schemas.protobuf.nodes import File, Message
from millstream.schemas.protobuf.normalizing import normalized
from millstream.schemas.protobuf.reading import read
from millstream.schemas.protobuf.rules import Difference, misfits
from millstream.schemas.protobuf.writing import canonical

_SAID = {
    "PACKAGE_CHANGED": "The package at {path} of the %(reader)s schema is not that of the %(writer)s schema",
    "MESSAGE_REMOVED": "The message at {path} of the %(writer)s schema is missing in the %(reader)s schema",
    "FIELD_KIND_CHANGED": "The field at {path} of the %(reader)s schema is of another kind (scalar, message, map) than "
    "in the %(writer)s schema",
    "FIELD_SCALAR_KIND_CHANGED": "The scalar at {path} of the %(reader)s schema cannot hold what the %(writer)s "
    "schema has there",
    "FIELD_NAMED_TYPE_CHANGED": "The message that the field at {path} of the %(reader)s schema holds is not that of "
    "the %(writer)s schema",
    "FIELD_NUMERIC_LABEL_CHANGED": "The number at {path} of the %(reader)s schema has another label than in the "
    "%(writer)s schema",
    "REQUIRED_FIELD_ADDED": "The required field at {path} of the %(reader)s schema is missing in the %(writer)s schema",
    "REQUIRED_FIELD_REMOVED": "The required field at {path} of the %(writer)s schema is missing in the %(reader)s "
    "schema",
    "ONEOF_FIELD_REMOVED": "The field of a oneof at {path} of the %(writer)s schema is missing in the %(reader)s "
    "schema",
    "MULTIPLE_FIELDS_MOVED_TO_ONEOF": "Several fields of the oneof at {path} of the %(reader)s schema are in none in "
    "the %(writer)s schema",
    "FIELD_MOVED_TO_EXISTING_ONEOF": "A field of the oneof at {path} of the %(reader)s schema is not in it in the "
    "%(writer)s schema",
}


class ProtobufSchema:
    def __init__(self, linked: Linked) -> None:
        self.linked = linked
        self.canonical = canonical(linked.file)

    def formatted(self, form: str) -> str | None:
        if form == "serialized":
            return base64.b64encode(building.build(self.linked, "default").SerializeToString()).decode()
        return canonical(self.linked.file, extensions=False) if form == "ignore_extensions" else None

    def normalized(self) -> str:
        return canonical(normalized(self.linked))

    def means_the_same_as(self, other: Parsed) -> bool:
        assert isinstance(other, ProtobufSchema)
        return self._meaning == other._meaning

    def misfits(self, writer: Parsed) -> list[str]:
        assert isinstance(writer, ProtobufSchema)
        return [_told(misfit) for misfit in misfits(self.linked, writer.linked)]

    @cached_property
    def _meaning(self) -> tuple[str, list[str], dict[str, str]]:
        """With the order of messages, for a serializer tells by their numbers which of them it has written."""
        imports = {
            path: canonical(normalized(file))
            for path, file in self.linked.all_imports().items()
            if file.file is not known(path)
        }
        return self.normalized(), list(_order(self.linked.file.messages)), imports


class Protobuf:
    def parse(self, text: str, referred: Sequence[Referred], *, as_new: bool) -> ProtobufSchema:
        try:
            library = _Library()
            for other in referred:
                linked = library.link(library.file(other.text))
                library.paths |= dict.fromkeys(other.names, linked)
            schema = ProtobufSchema(library.link(library.file(text)))
            if as_new:
                _check(schema.linked)
        except RecursionError:
            raise InvalidSchema("it is nested too deeply") from None
        return schema


FORMAT = Protobuf()


class _Library:
    """The files that a schema may import, by their paths."""

    def __init__(self) -> None:
        self.paths: dict[str, Linked] = {}
        self._names = Names()

    def file(self, text: str) -> File:
        descriptor = descriptors.decode(text)
        if descriptor is None:
            return read(text)
        written = canonical(descriptors.to_file(descriptor, self._pool))
        # A descriptor may call a field `a = 1; }`: what is stored must be a text that says the same.
        file = read(written)
        if canonical(file) != written:
            raise InvalidSchema("it has names that cannot be written in a .proto file")
        return file

    def link(self, file: File) -> Linked:
        for path in (*file.imports, *file.public_imports):
            if path not in self.paths and (common := known(path)) is not None:
                self.paths[path] = self.link(common)
        return Linked(file, self.paths, self._names)

    def _pool(self, descriptor: FileDescriptorProto) -> DescriptorPool | None:
        """The pool with the extensions that the file and its imports declare; None if they cannot be understood."""
        try:
            pool = building.pool_of(self.link(File(imports=list(descriptor.dependency))))
            renamed = FileDescriptorProto.FromString(descriptor.SerializeToString())
            renamed.name = ""
            building.add(pool, renamed.SerializeToString())
        except InvalidSchema:  # its extensions stay unknown
            return None
        return pool


def _check(linked: Linked) -> None:
    for path in linked.missing:
        raise InvalidSchema(f"it imports {path!r}, which is not among its references; register that before it")
    building.check(linked)


def _order(messages: Sequence[Message], outer: str = "") -> Iterator[str]:
    """The messages with their numbers. Those that maps become have one, too, but are never written alone."""
    for number, message in enumerate(messages):
        if not message.is_map_entry:
            yield f"{outer}{message.name}={number}"
            yield from _order(message.messages, f"{outer}{message.name}.")


def _told(misfit: Difference) -> str:
    said = _SAID[misfit.kind].format(path=f"path '{misfit.path}'")
    return f"{{errorType:'{misfit.kind}', description:'{said}', additionalInfo:''}}"
