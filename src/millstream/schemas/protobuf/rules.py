"""Compatibility: Protobuf's rules for updating a message, as Confluent's registry has cut them into kinds.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-protobuf.html
https://protobuf.dev/programming-guides/proto3/#updating
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from millstream.schemas.formats import TooMuch
from millstream.schemas.protobuf.linking import Linked, Type, within
from millstream.schemas.protobuf.nodes import SCALARS, Enum, EnumValue, Field, Message

MAX_STEPS = 300_000
"""Fields, constants and types that one comparison may look at."""

MAX_MISFITS = 100
"""As many are told; a type that is used in many places has its own in each of them."""

COMPATIBLE = frozenset(
    {
        *("MESSAGE_ADDED", "MESSAGE_MOVED", "ENUM_ADDED", "ENUM_REMOVED"),
        *("ENUM_CONST_ADDED", "ENUM_CONST_CHANGED", "ENUM_CONST_REMOVED"),
        *("FIELD_ADDED", "FIELD_REMOVED", "FIELD_NAME_CHANGED", "FIELD_STRING_OR_BYTES_LABEL_CHANGED"),
        *("ONEOF_ADDED", "ONEOF_REMOVED", "ONEOF_FIELD_ADDED", "ONEOF_FIELD_MOVED_TO_TOP_LEVEL"),
    }
)
"""Differences that keep no reader from reading. That a removed message is not among them is for serializers: they look
the message up by its name."""

_WIRE = {
    **dict.fromkeys(("int32", "int64", "uint32", "uint64", "bool"), "varint"),
    **dict.fromkeys(("sint32", "sint64"), "zigzag"),
    **dict.fromkeys(("fixed32", "sfixed32"), "fixed32"),
    **dict.fromkeys(("fixed64", "sfixed64"), "fixed64"),
    **dict.fromkeys(("string", "bytes"), "text"),
    "float": "float",
    "double": "double",
}
"""Scalars of one kind can be read as each other; an enum is read as a varint."""


@dataclass(frozen=True)
class Difference:
    """One thing that is otherwise in the reader's schema than in the writer's; the `path` has a field's number."""

    kind: str
    path: str

    @property
    def is_compatible(self) -> bool:
        return self.kind in COMPATIBLE


def misfits(reader: Linked, writer: Linked) -> list[Difference]:
    """Why data written as `writer` cannot always be read as `reader`; empty when it can. Raises `TooMuch`.

    Never more than `MAX_MISFITS`.
    """
    return [found for found in differences(reader, writer) if not found.is_compatible][:MAX_MISFITS]


def differences(reader: Linked, writer: Linked) -> list[Difference]:
    """Everything in which the two differ and that the rules have a name for. Raises `TooMuch`."""
    comparison = _Comparison(reader, writer)
    try:
        comparison.files()
    except RecursionError:
        raise TooMuch("comparing the schemas follows their types too deep into each other") from None
    return list(comparison.found)


@dataclass(frozen=True)
class _Used:
    """A type where it is used: `key` is that of a map, `named` what a name stands for."""

    type: str
    key: str = ""
    named: Type | None = None
    label: str = ""
    is_group: bool = False

    @property
    def kind(self) -> str:
        if self.key:
            return "map"
        if self.is_group:
            return "group"
        is_enum = self.named is not None and isinstance(self.named.node, Enum)
        return "scalar" if self.type in SCALARS or is_enum else "message"

    @property
    def wire(self) -> str:
        return _WIRE.get(self.type, "varint")


@dataclass(frozen=True)
class _Side:
    """The scope that names of one of the two schemas are looked up in."""

    linked: Linked
    scope: str

    def within(self, name: str) -> "_Side":
        return _Side(self.linked, within(self.scope, name))

    def use(self, field: Field) -> _Used:
        if field.key:
            return _Used(field.type, field.key)
        used = self.use_of(field.type)
        return used if used.key else replace(used, label=field.label, is_group=field.group is not None)

    def use_of(self, name: str) -> _Used:
        found = None if name in SCALARS else self.linked.resolve(name, self.scope)
        if found is not None and isinstance(found.node, Message) and found.node.is_map_entry:
            parts = {field.name: field.type for field in found.node.fields}
            if {"key", "value"} <= parts.keys():
                return _Used(parts["value"], parts["key"])
        return _Used(name, named=found)


class _Comparison:
    def __init__(self, reader: Linked, writer: Linked) -> None:
        self.found: dict[Difference, None] = {}
        self._reader, self._writer = reader, writer
        self._fits: dict[tuple[int, int], bool] = {}
        self._incompatible = 0
        self._steps = 0

    def files(self) -> None:
        reader, writer = self._reader.file, self._writer.file
        if reader.package != writer.package:
            self._note("PACKAGE_CHANGED", "#/")
        sides = _Side(self._reader, reader.package), _Side(self._writer, writer.package)
        self._types(reader.messages, writer.messages, sides, "#")
        self._enums(reader.enums, writer.enums, "#")

    def _types(
        self, reader: Sequence[Message], writer: Sequence[Message], sides: tuple[_Side, _Side], path: str
    ) -> None:
        read, written = ({m.name: (i, m) for i, m in enumerate(messages)} for messages in (reader, writer))
        for name in {**written, **read}:
            self._step()
            place = f"{path}/{name}"
            if name in read and name in written:
                inside = sides[0].within(name), sides[1].within(name)
                self._messages(read[name][1], written[name][1], inside, place)
                if read[name][0] != written[name][0]:
                    self._note("MESSAGE_MOVED", place)
            elif name in written and not written[name][1].is_map_entry:
                self._note("MESSAGE_REMOVED", place)
            elif name in read and not read[name][1].is_map_entry:
                self._note("MESSAGE_ADDED", place)

    def _messages(self, reader: Message, writer: Message, sides: tuple[_Side, _Side], path: str) -> bool:
        """Return whether the one can be read as the other."""
        pair = (id(reader), id(writer))
        if pair not in self._fits:
            # While a pair is being compared it counts as fitting: only so does a recursive type come to an end.
            self._fits[pair] = True
            before = self._incompatible
            self._memberships(reader, writer, path)
            self._numbers(reader, writer, sides, path)
            self._types(reader.messages, writer.messages, sides, path)
            self._enums(reader.enums, writer.enums, path)
            self._fits[pair] = self._incompatible == before
        return self._fits[pair]

    def _memberships(self, reader: Message, writer: Message, path: str) -> None:
        """The changes in which fields exclude each other."""
        written, written_in = {field.number for field in writer.all_fields()}, _oneof_of(writer)
        for oneof in reader.oneofs:
            # Fields that are new are in no data.
            before = [field.number for field in oneof.fields if field.number in written]
            groups = {written_in.get(number, number) for number in before}
            if len(groups) > 1:
                moved_in = sum(number not in written_in for number in before)
                several = "MULTIPLE_FIELDS_MOVED_TO_ONEOF" if moved_in > 1 else "FIELD_MOVED_TO_EXISTING_ONEOF"
                self._note(several, f"{path}/{oneof.name}")
        read, wrote = ({oneof.name for oneof in message.oneofs} for message in (reader, writer))
        for name in sorted(wrote ^ read):
            self._note("ONEOF_REMOVED" if name in wrote else "ONEOF_ADDED", f"{path}/{name}")

    def _numbers(self, reader: Message, writer: Message, sides: tuple[_Side, _Side], path: str) -> None:
        read, written = ({field.number: field for field in message.all_fields()} for message in (reader, writer))
        read_in, written_in, deleted = _oneof_of(reader), _oneof_of(writer), _deleted_oneofs(reader, writer)
        for number in sorted({**read, **written}):
            self._step()
            new, old = read.get(number), written.get(number)
            place = f"{path}/{number}"
            place_in_oneof = f"{path}/{read_in.get(number) or written_in.get(number)}/{number}"
            if new is not None and old is not None:
                if number in written_in and number not in read_in:
                    self._note("ONEOF_FIELD_MOVED_TO_TOP_LEVEL", place)
                self._fields(new, old, sides, place_in_oneof if number in read_in else place)
            elif new is not None:
                kind = "REQUIRED_FIELD_ADDED" if new.label == "required" else "FIELD_ADDED"
                self._note(*("ONEOF_FIELD_ADDED", place_in_oneof) if number in read_in else (kind, place))
            elif old is not None and number not in written_in:
                self._note("REQUIRED_FIELD_REMOVED" if old.label == "required" else "FIELD_REMOVED", place)
            elif written_in[number] not in deleted:
                self._note("ONEOF_FIELD_REMOVED", place_in_oneof)

    def _fields(self, reader: Field, writer: Field, sides: tuple[_Side, _Side], path: str) -> None:
        if reader.name != writer.name:
            self._note("FIELD_NAME_CHANGED", path)
        used = [side.use(field) for side, field in zip(sides, (reader, writer), strict=True)]
        self._uses(used[0], used[1], sides, path)

    def _uses(self, reader: _Used, writer: _Used, sides: tuple[_Side, _Side], path: str) -> None:
        if reader.kind != writer.kind:
            self._note("FIELD_KIND_CHANGED", path)
        elif reader.kind == "scalar":
            self._scalars(reader, writer, path)
        elif reader.kind == "map":
            for new, old in ((reader.key, writer.key), (reader.type, writer.type)):
                self._uses(sides[0].use_of(new), sides[1].use_of(old), sides, path)
        elif not self._named(reader, writer):
            self._note("FIELD_NAMED_TYPE_CHANGED", path)

    def _scalars(self, reader: _Used, writer: _Used, path: str) -> None:
        if reader.wire != writer.wire:
            self._note("FIELD_SCALAR_KIND_CHANGED", path)
        # No label at all, as in proto3, is like any: so has Confluent's registry it.
        elif reader.label and writer.label and reader.label != writer.label:
            # Numbers that repeat are packed into one, which no reader of a single one can read.
            text = reader.wire == "text"
            self._note("FIELD_STRING_OR_BYTES_LABEL_CHANGED" if text else "FIELD_NUMERIC_LABEL_CHANGED", path)

    def _named(self, reader: _Used, writer: _Used) -> bool:
        """Return whether two messages that fields hold are one, of which the writer's can be read."""
        new, old = reader.named, writer.named
        if new is None or old is None:
            return reader.type == writer.type
        if new.local_name != old.local_name:
            return False
        assert isinstance(new.node, Message)
        assert isinstance(old.node, Message)
        of_the_files = new.home is self._reader and old.home is self._writer
        if of_the_files and reader.kind != "group":
            return True  # types of the files themselves are compared where they stand
        sides = _Side(new.home, new.name), _Side(old.home, old.name)
        return self._messages(new.node, old.node, sides, f"#/{new.local_name.replace('.', '/')}")

    def _enums(self, reader: Iterable[Enum], writer: Iterable[Enum], path: str) -> None:
        read, written = ({enum.name: enum.values for enum in enums} for enums in (reader, writer))
        for name in {**written, **read}:
            if name in read and name in written:
                self._constants(read[name], written[name], f"{path}/{name}")
            else:
                self._note("ENUM_ADDED" if name in read else "ENUM_REMOVED", f"{path}/{name}")

    def _constants(self, reader: Iterable[EnumValue], writer: Iterable[EnumValue], path: str) -> None:
        read, written = ({value.number: value.name for value in values} for values in (reader, writer))
        for number in sorted({**read, **written}):
            self._step()
            if number in read and number in written:
                if read[number] != written[number]:
                    self._note("ENUM_CONST_CHANGED", f"{path}/{number}")
            else:
                self._note("ENUM_CONST_ADDED" if number in read else "ENUM_CONST_REMOVED", f"{path}/{number}")

    def _note(self, kind: str, path: str) -> None:
        difference = Difference(kind, path)
        self._incompatible += not difference.is_compatible
        self.found[difference] = None

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuch(f"comparing the schemas takes more than {MAX_STEPS} steps")


def _oneof_of(message: Message) -> dict[int, str]:
    """By a field's number, the oneof that it is in."""
    return {field.number: oneof.name for oneof in message.oneofs for field in oneof.fields}


def _deleted_oneofs(reader: Message, writer: Message) -> set[str]:
    """The oneofs of the writer of which the reader has nothing: neither the name nor one of the fields."""
    names = {oneof.name for oneof in reader.oneofs}
    numbers = {field.number for field in reader.all_fields()}
    return {
        oneof.name
        for oneof in writer.oneofs
        if oneof.name not in names and not any(field.number in numbers for field in oneof.fields)
    }
