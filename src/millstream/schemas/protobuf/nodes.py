"""A .proto file as a tree. Types are named as the file names them; what a name means, `linking` knows.

`at` is where in the text a declaration begins; 0 where it comes from no text.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

SCALARS = frozenset(
    (
        *("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64"),
        *("double", "float", "bool", "string", "bytes"),
    )
)
MAX_NUMBER = 536_870_911
"""The highest number of a field."""
MAX_ENUM_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Word:
    """A value without quotes: a number, `true`, the name of an enum's constant."""

    text: str


@dataclass(frozen=True, slots=True)
class Block:
    """A message as a value, in Protobuf's text format; an extension's name is in brackets."""

    entries: tuple[tuple[str, "Value"], ...]

    @classmethod
    def of(cls, entries: Iterable[tuple[str, "Value"]]) -> "Block":
        """With the values of a key that comes again and again in one list."""
        found: dict[str, list[Value]] = {}
        for key, value in entries:
            found.setdefault(key, []).append(value)
        return cls(tuple((key, values[0] if len(values) == 1 else _flat(values)) for key, values in found.items()))


def _flat(values: "list[Value]") -> "list[Value]":
    return [item for value in values for item in (value if isinstance(value, list) else [value])]


Value: TypeAlias = "str | Word | Block | list[Value]"


@dataclass(frozen=True, slots=True)
class Option:
    name: str
    """As written; the name of a custom option is in parentheses: `(shop.secret).level`."""
    value: Value


@dataclass(frozen=True, slots=True)
class Ranges:
    """The content of one `reserved` or `extensions` statement: numbers, ranges with both ends included, names."""

    items: tuple["int | tuple[int, int] | str", ...]
    options: tuple[Option, ...] = ()


@dataclass(eq=False, slots=True)
class Field:
    name: str
    number: int
    type: str
    label: str = ""
    """`optional`, `required`, `repeated`, or empty if none is written."""
    options: list[Option] = field(default_factory=list)
    key: str = ""
    """The type of a map's keys; `type` is then that of its values."""
    group: "Message | None" = None
    """The fields of a group, which is a type and a field at once."""
    at: int = 0


@dataclass(eq=False, slots=True)
class OneOf:
    name: str
    fields: list[Field] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    at: int = 0


@dataclass(eq=False, slots=True)
class EnumValue:
    name: str
    number: int
    options: list[Option] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Enum:
    name: str
    values: list[EnumValue] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    reserved: list[Ranges] = field(default_factory=list)
    at: int = 0


@dataclass(eq=False, slots=True)
class Extend:
    type: str
    fields: list[Field] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Message:
    name: str
    fields: list[Field] = field(default_factory=list)
    """Those outside of any oneof."""
    oneofs: list[OneOf] = field(default_factory=list)
    messages: list["Message"] = field(default_factory=list)
    enums: list[Enum] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    reserved: list[Ranges] = field(default_factory=list)
    extensions: list[Ranges] = field(default_factory=list)
    extends: list[Extend] = field(default_factory=list)
    at: int = 0

    @property
    def is_map_entry(self) -> bool:
        """True where it is how a compiled file spells a map: as a message of a key and a value."""
        return any(option.name == "map_entry" and option.value == Word("true") for option in self.options)

    def all_fields(self) -> Iterator[Field]:
        yield from self.fields
        for oneof in self.oneofs:
            yield from oneof.fields

    def groups(self) -> Iterator["Message"]:
        """The types that are declared by their only use, extensions included."""
        extending = (field for extend in self.extends for field in extend.fields)
        for each in (*self.all_fields(), *extending):
            if each.group is not None:
                yield each.group


@dataclass(eq=False, slots=True)
class Rpc:
    name: str
    takes: str
    gives: str
    takes_stream: bool = False
    gives_stream: bool = False
    options: list[Option] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Service:
    name: str
    rpcs: list[Rpc] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class File:
    syntax: str = ""
    """`proto2`, `proto3`, or empty if none is written, which means `proto2`."""
    package: str = ""
    imports: list[str] = field(default_factory=list)
    public_imports: list[str] = field(default_factory=list)
    """The files that are imported with this one."""
    messages: list[Message] = field(default_factory=list)
    enums: list[Enum] = field(default_factory=list)
    extends: list[Extend] = field(default_factory=list)
    services: list[Service] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)

    def groups(self) -> Iterator[Message]:
        """As those of a message."""
        for extend in self.extends:
            for each in extend.fields:
                if each.group is not None:
                    yield each.group
