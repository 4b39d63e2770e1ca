"""From a class to the messages of another `.proto` file: what each of its fields is called there, and how it is read.

Protobuf's bytes say neither name nor type: a `sint64` read as an `int64` is another number, and a field under another
number is absent, both without an error. So the writer's own file is looked at, once, and a plan of the class is made
that reads what is there. A field goes by its name or a former one, then by its number; what stands for another kind of
value is refused with its name. https://protobuf.dev/programming-guides/encoding/
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from millstream.contracts.meaning import Convert, Meaning, conversion
from millstream.contracts.protobuf.messages import (
    Element,
    Foreign,
    Message,
    Part,
    Plan,
    Refused,
    branch_name,
    enum_numbers,
    enum_stem,
    enum_symbols,
    is_message,
    plan_of,
)
from millstream.declare.contract import Value
from millstream.declare.shape import REQUIRED, Decimals, Items, OneOf, Record, Scalar, Symbols, python_class
from millstream.errors import DecodeError
from millstream.schemas.formats import InvalidSchema
from millstream.schemas.protobuf import nodes
from millstream.schemas.protobuf.linking import Linked, Names, Type, within
from millstream.schemas.protobuf.reading import read

_WRAPPERS = {
    f"google.protobuf.{name}Value": kind
    for name, kind in (
        ("Double", "double"), ("Float", "float"), ("Int64", "int64"), ("UInt64", "uint64"), ("Int32", "int32"),
        ("UInt32", "uint32"), ("Bool", "bool"), ("String", "string"), ("Bytes", "bytes"),
    )
}  # fmt: skip
_STAMPS = {datetime: "google.protobuf.Timestamp", timedelta: "google.protobuf.Duration"}
_MEANINGS = {"double": "real", "float": "real", "bool": "boolean", "string": "text", "bytes": "bytes"}
_ZEROS: dict[str, Any] = {"double": 0.0, "float": 0.0, "bool": False, "string": "", "bytes": b""}
_SAME_BYTES: dict[type, tuple[str, ...]] = {
    int: ("int64", "int32", "uint32"),
    bool: ("bool",),
    float: ("double",),
    bytes: ("bytes",),
}


def resolved_plan(contract: type[Value], found: Type) -> Plan:
    """The plan of a class for messages of another file. A message that does not fit is refused when it is read."""
    resolution = _Resolution(found.home)
    resolution.message(plan_of(contract).messages[0], found)
    return resolution.plan


class _Unfitting(Exception):
    """A field cannot be read as the class has it. Says why, with the field."""


class _Resolution:
    def __init__(self, file: Linked) -> None:
        self.plan = Plan(file.file.package)
        self._known: dict[tuple[int, str], Message] = {}
        self._names: set[str] = set()

    def message(self, ours: Message, theirs: Type) -> Message:
        key = (id(ours), theirs.name)
        if (known := self._known.get(key)) is not None:
            return known
        made = self._known[key] = self._new(ours.name, ours.shape)
        try:
            made.parts.extend(self._parts(ours, theirs))
        except _Unfitting as error:
            made.parts.clear()
            made.refused = str(error)
        return made

    def _new(self, name: str, shape: Any) -> Message:
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}{number}"
        self._names.add(unique)
        message = Message(unique, shape)
        self.plan.messages.append(message)
        return message

    def _parts(self, ours: Message, theirs: Type) -> list[Part]:
        assert isinstance(theirs.node, nodes.Message)
        fields = {field.name: field for field in theirs.node.all_fields()}
        if isinstance(ours.shape, OneOf):
            return self._branches(ours, ours.shape, theirs, fields)
        sources = _sources(ours, fields)
        return [
            self._absent(part, ours, theirs) if field is None else self._part(part, field, ours, theirs)
            for part, field in zip(ours.parts, sources, strict=True)
        ]

    def _branches(self, ours: Message, union: OneOf, theirs: Type, fields: dict[str, nodes.Field]) -> list[Part]:
        """Their numbers go by the order in which the class names them, so only their names can be trusted."""
        parts: list[Part] = []
        for part, branch in zip(ours.parts, (branch for branch in union.written if branch), strict=True):
            former = branch.aliases if isinstance(branch, Record) else ()
            names = [part.name, *map(branch_name, former)]
            if (field := next((fields.pop(name) for name in names if name in fields), None)) is not None:
                parts.append(self._part(part, field, ours, theirs))
        if not parts:
            raise _Unfitting(
                f"{ours.name}: the writer's {theirs.name} has none of {_listed(p.name for p in ours.parts)}"
            )
        for field in fields.values():
            why = f"{ours.name}: the writer's {theirs.name} holds {field.name}, which the class does not have"
            kind = field.type if field.type in nodes.SCALARS else "bytes"
            found = theirs.home.resolve(field.type, theirs.name)
            kind = "enum" if found is not None and isinstance(found.node, nodes.Enum) else kind
            parts.append(Part(field.number, field.name, "", Refused(kind, why), "explicit"))
        return parts

    def _absent(self, part: Part, ours: Message, theirs: Type) -> Part:
        if part.absent is REQUIRED:
            raise _Unfitting(
                f"{_path(ours, part)}: the writer's {theirs.name} has no such field and none of the number "
                f"{part.number}, and the class has no default for it"
            )
        return replace(part, number=0)

    def _part(self, part: Part, field: nodes.Field, ours: Message, theirs: Type) -> Part:
        path = _path(ours, part)
        if field.group is not None:
            raise _Unfitting(f"{path}: the writer's {theirs.name}.{field.name} is a group")
        is_map, is_repeated = bool(field.key), field.label == "repeated"
        if is_map is not (part.presence == "map") or is_repeated is not (part.presence == "repeated"):
            raise _Unfitting(f"{path}: the writer's {theirs.name}.{field.name} is {_declared(field)}")
        if is_map and field.key != "string":
            raise _Unfitting(f"{path}: the keys of the writer's {theirs.name}.{field.name} are {field.key}")
        element = self._element(part.element, field, path, theirs)
        made = replace(part, number=field.number, element=element)
        if is_map or is_repeated:
            return made
        in_oneof = field not in theirs.node.fields if isinstance(theirs.node, nodes.Message) else False
        has_presence = is_message(element) or in_oneof or bool(field.label) or theirs.home.file.syntax != "proto3"
        if any(option.name == "default" for option in field.options):
            return replace(made, presence="explicit", absent=REQUIRED)
        if has_presence:
            return replace(made, presence="explicit")
        # Absent is zero or empty, whatever default the class has; a type without a zero has no value then.
        return replace(made, presence="implicit", absent=part.absent if part.nullable else REQUIRED)

    def _element(self, ours: Element, field: nodes.Field, path: str, theirs: Type) -> Element:
        name = field.type.lstrip(".")
        if isinstance(ours, Scalar) and _STAMPS.get(ours.python) == name:
            return ours
        if not isinstance(ours, Message) and (kind := _WRAPPERS.get(name)) is not None:
            wrapper = self._new(name.rpartition(".")[2], Items(list, Scalar(str, "string")))
            wrapper.parts.append(Part(1, "value", "", self._scalar(ours, kind, path), "implicit"))
            return wrapper
        if field.type in nodes.SCALARS:
            return self._scalar(ours, field.type, path)
        found = theirs.home.resolve(field.type, theirs.name)
        if found is None:
            raise _Unfitting(f"{path}: the writer's {name} is not declared in its schema")
        if isinstance(found.node, nodes.Enum) and isinstance(ours, Symbols):
            return _enum(ours, found.node, path)
        if isinstance(found.node, nodes.Message) and isinstance(ours, Message):
            return self.message(ours, found)
        raise _Unfitting(f"{path}: {found.name} in the writer's schema, and {_wanted(ours)} in the class")

    def _scalar(self, ours: Element, kind: str, path: str) -> Element:
        if isinstance(ours, Scalar) and (kind in _SAME_BYTES.get(ours.python, ()) or _is_text(ours, kind)):
            return ours
        if isinstance(ours, Decimals) and kind == "string":
            return ours
        convert = None
        if isinstance(ours, Scalar | Decimals | Symbols):
            convert = conversion(Meaning(_MEANINGS.get(kind, "number")), ours)
        if convert is None:
            raise _Unfitting(f"{path}: {kind} in the writer's schema, and {_wanted(ours)} in the class")
        return Foreign(kind, convert, _zero(kind, convert))


def _is_text(ours: Scalar, kind: str) -> bool:
    """Return whether we write it as text ourselves, as UUIDs and dates."""
    return kind == "string" and ours.python not in (*_SAME_BYTES, *_STAMPS)


def _sources(ours: Message, fields: dict[str, nodes.Field]) -> list[nodes.Field | None]:
    """The writer's field of each part. Names first: the number of a field follows from its place in the class."""
    declared = ours.shape.fields if isinstance(ours.shape, Record) else []
    named: list[nodes.Field | None] = []
    for at, part in enumerate(ours.parts):
        former = declared[at].aliases if declared else ()
        field = next((fields[name] for name in (part.name, *former) if name in fields), None)
        if field is not None and declared and declared[at].number not in (None, field.number):
            raise _Unfitting(
                f"{_path(ours, part)}: it has the number {field.number} in the writer's schema, and the class says "
                f"Number({part.number}); upcast it from a class with that number"
            )
        named.append(field)
    if not declared:
        return named
    taken = {field.number for field in named if field is not None}
    by_number = {field.number: field for field in fields.values() if field.number not in taken}
    return [field or by_number.get(part.number) for field, part in zip(named, ours.parts, strict=True)]


def _enum(ours: Symbols, theirs: nodes.Enum, path: str) -> Element:
    numbers = enum_numbers(ours)
    if all(numbers[symbol] == getattr(member, "value", member) for symbol, member in ours.members.items()):
        return ours  # the number is the value
    wanted = enum_symbols(ours)
    found: dict[int, Any] = {}
    for value in theirs.values:
        name = value.name.upper()
        names = (name, *(name.removeprefix(f"{enum_stem(each)}_") for each in (ours.name, theirs.name)))
        if (symbol := next((wanted[name] for name in names if name in wanted), None)) is not None:
            found[value.number] = ours.members[symbol]
    if found == {number: ours.members[symbol] for symbol, number in numbers.items()}:
        return ours
    if not found:
        raise _Unfitting(f"{path}: the writer's {theirs.name} has none of {_listed(ours.members)}")
    theirs_names = {value.number: value.name for value in theirs.values}

    def member(number: int) -> Any:
        try:
            return found[number]
        except KeyError:
            called = f"{number} ({theirs_names[number]})" if number in theirs_names else f"the number {number}"
            raise LookupError(f"{called} is none of {_listed(ours.members)}") from None

    return Foreign("enum", member, found.get(0, REQUIRED))


def _zero(kind: str, convert: Convert) -> Any:
    try:
        return convert(_ZEROS.get(kind, 0))
    except (ValueError, ArithmeticError, LookupError):  # its class has no zero: a record without the field is refused
        return REQUIRED


def _declared(field: nodes.Field) -> str:
    if field.key:
        return f"map<{field.key}, {field.type}>"
    return f"{field.label} {field.type}".strip()


def _path(ours: Message, part: Part) -> str:
    owner = ours.shape.python.__name__ if isinstance(ours.shape, Record) else ours.name
    return f"{owner}.{part.attribute or part.name}"


def _wanted(ours: Element) -> str:
    if isinstance(ours, Message):
        return ours.name
    return python_class(ours).__name__ if isinstance(ours, Scalar | Decimals | Symbols) else ours.kind


def _listed(names: Any) -> str:
    return re.sub(r"^(.{500}).*", r"\1…", ", ".join(names))


def messages_of(text: str, imports: Mapping[str, str]) -> dict[tuple[int, ...], Type]:
    """Every message of a file by the indexes that frames give it. Raises `DecodeError` (`unreadable_schema`).

    `imports`: the texts of other files by the paths under which files import them.

    >>> text = 'syntax = "proto3"; package a.b; message One { message Inner {} } message Two {}'
    >>> {index: found.name for index, found in messages_of(text, {}).items()}
    {(0,): 'a.b.One', (0, 0): 'a.b.One.Inner', (1,): 'a.b.Two'}
    """
    try:
        file = _linked(text, imports)
        found: dict[tuple[int, ...], Type] = {}
        _collect(file, file.file.messages, file.file.package, (), found)
    except (InvalidSchema, RecursionError) as error:
        raise DecodeError("unreadable_schema", f"the .proto file {str(error)[:500]}") from None
    return found


def _linked(text: str, imports: Mapping[str, str]) -> Linked:
    names = Names()
    done: dict[str, Linked] = {}

    def link(file: nodes.File, above: frozenset[str]) -> Linked:
        for path in (*file.imports, *file.public_imports):
            if path in imports and path not in done and path not in above:
                done[path] = link(read(imports[path]), above | {path})
        return Linked(file, done, names)

    return link(read(text), frozenset())


def _collect(
    file: Linked, messages: list[nodes.Message], scope: str, above: tuple[int, ...], found: dict[tuple[int, ...], Type]
) -> None:
    for index, message in enumerate(messages):
        name = within(scope, message.name)
        found[*above, index] = Type(name, message, file)
        _collect(file, message.messages, name, (*above, index), found)
