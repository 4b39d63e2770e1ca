"""A Python module that is being written: classes in the order in which they need each other, and their imports."""

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

WIDTH = 120
_MILLSTREAM = ("Alias", "Deprecated", "Doc", "Event", "Number", "Scale", "Value")
_FROM = {
    "date": "datetime",
    "datetime": "datetime",
    "time": "datetime",
    "timedelta": "datetime",
    "Decimal": "decimal",
    "IntEnum": "enum",
    "StrEnum": "enum",
    "Annotated": "typing",
    "Literal": "typing",
    "UUID": "uuid",
} | dict.fromkeys(_MILLSTREAM, "millstream")
_HIDING = {*_FROM, "bool", "bytes", "dict", "float", "frozenset", "int", "mro", "msgspec", "str", "tuple"}
_STANDARD = ("datetime", "decimal", "enum", "typing", "uuid")


class Refused(Exception):
    """A construct that no class can express; the message names it and the remedy."""


@dataclass(slots=True)
class FieldWritten:
    """One field: its annotation and default as source."""

    name: str
    type: str
    notes: list[str] = field(default_factory=list)
    default: str | None = None


class Module:
    """Collects classes and writes them.

    >>> module = Module("order.avsc")
    >>> module.record("Order", [FieldWritten("order_id", module.use("str"))], namespace="shop")
    >>> print(module.source().partition("class ")[2], end="")
    Order(Value, namespace="shop"):
        order_id: str
    """

    def __init__(self, origin: str, *, nearest: bool = False, key: str | None = None) -> None:
        self.nearest = nearest
        self.main = ""
        """The class that the schema is about."""
        self.names: list[str] = []
        self._origin = origin
        self._key = key
        self._used: set[str] = set()
        self._classes: list[str] = []
        self._late = False

    def use(self, name: str) -> str:
        """A name that the source will import, if it has to."""
        if name in _FROM:
            self._used.add(name)
        return name

    def import_msgspec(self) -> None:
        """For fields that only `msgspec.field` can say."""
        self._used.add("msgspec")

    def refer(self, name: str, *, written: bool) -> str:
        """A class of this module; one that is not written yet is known only when all is."""
        self._late = self._late or not written
        return name

    def note(self, name: str, *arguments: Any) -> str:
        """A note of an annotation, such as `Doc("in grams")`."""
        self.use("Annotated")
        return f"{self.use(name)}({', '.join(map(quoted, arguments))})"

    def instead(self, where: str, what: str, remedy: str) -> None:
        """Refuses a construct, unless the nearest one will do."""
        if not self.nearest:
            self.refuse(where, what, f"{remedy}; or take the nearest with --nearest")

    def refuse(self, where: str, what: str, remedy: str) -> NoReturn:
        """Raises `Refused`."""
        raise Refused(f"{where}: {what} has no counterpart in a class: {remedy}")

    def record(
        self,
        name: str,
        fields: list[FieldWritten],
        *,
        namespace: str = "",
        doc: str = "",
        aliases: list[str] | None = None,
    ) -> None:
        """Writes a class; the one called like `main` is an event if there is a key."""
        self._claim(name)
        event = name == self.main and self._key is not None
        options = [f"key={quoted(self._key)}"] if event else []
        options += [f"namespace={quoted(namespace)}"] if namespace else []
        if aliases:
            options.append(f"aliases=({', '.join(map(quoted, aliases))}{',' if len(aliases) == 1 else ''})")
        lines = [f"class {name}({', '.join([self.use('Event' if event else 'Value'), *options])}):"]
        if len(lines[0]) > WIDTH:
            lines = [f"class {name}(", *(f"    {part}," for part in ("Event" if event else "Value", *options)), "):"]
        if doc:
            lines += _docstring(doc)
            lines += [""] if fields else []
        lines += [line for of in fields for line in self._field(of)]
        self._classes.append("\n".join(lines if fields or doc else [*lines, "    pass"]))

    def enum(self, name: str, members: Mapping[str, str | int], doc: str = "") -> None:
        """Writes an enumeration of texts or of numbers."""
        self._claim(name)
        kind = self.use("IntEnum" if all(isinstance(value, int) for value in members.values()) else "StrEnum")
        lines = [f"class {name}({kind}):"]
        lines += [*_docstring(doc), ""] if doc else []
        lines += [f"    {attribute(member)} = {quoted(value)}" for member, value in members.items()]
        self._classes.append("\n".join(lines))

    def source(self) -> str:
        """The module, formatted."""
        head = [f'"""Imported from {self._origin} by `millstream schemas import`."""', ""]
        if self._late:
            head += ["from __future__ import annotations", ""]
        groups = [[of for of in _STANDARD if self._names_of(of)], ["msgspec"] if "msgspec" in self._used else []]
        groups.append(["millstream"] if self._names_of("millstream") else [])
        for group in groups:
            head += [*map(self._import, group), ""] if group else []
        return "\n".join(head) + "\n\n" + "\n\n\n".join(self._classes) + "\n"

    def _import(self, module: str) -> str:
        if module == "msgspec":
            return "import msgspec"
        return f"from {module} import {', '.join(self._names_of(module))}"

    def _names_of(self, module: str) -> list[str]:
        return sorted(name for name in self._used if _FROM.get(name) == module)

    def _claim(self, name: str) -> None:
        if name in _FROM or keyword.iskeyword(name) or name in self.names or not name.isidentifier():
            why = "is no name for a class" if name not in self.names else "would be two classes"
            raise Refused(f"the type {name!r} {why}: rename it in the schema, or give it an alias")
        self.names.append(name)

    def _field(self, of: FieldWritten) -> list[str]:
        name, default = attribute(of.name), of.default
        if name != of.name:
            self.import_msgspec()
            given = f", default={default}" if default is not None and "(default_factory" not in default else ""
            given = ", default_factory=dict" if default is not None and "(default_factory" in default else given
            default = f"msgspec.field(name={quoted(of.name)}{given})"
        tail = "" if default is None else f" = {default}"
        if not of.notes:
            return [f"    {name}: {of.type}{tail}"]
        line = f"    {name}: Annotated[{', '.join([of.type, *of.notes])}]{tail}"
        if len(line) <= WIDTH:
            return [line]
        inner = f"        {', '.join([of.type, *of.notes])}"
        parts = [inner] if len(inner) <= WIDTH else [f"        {part}," for part in (of.type, *of.notes)]
        return [f"    {name}: Annotated[", *parts, f"    ]{tail}"]


def attribute(name: str) -> str:
    """A name that Python takes for a field or a member, and that hides no type that other fields may have."""
    return f"{name}_" if keyword.iskeyword(name) or name in _HIDING else name


def quoted(value: Any) -> str:
    """Source of a text, number or None, with double quotes."""
    plain = repr(value)
    prefix = "b" if isinstance(value, bytes) else ""
    if isinstance(value, str | bytes) and plain.startswith(f"{prefix}'") and '"' not in plain:
        return prefix + '"' + plain[len(prefix) + 1 : -1].replace("\\'", "'") + '"'
    return plain


def _docstring(doc: str) -> list[str]:
    said = " ".join(doc.split()).replace("\\", "\\\\").replace('"""', "'''")
    said += " " if said.endswith('"') else ""
    lines, line = [], '    """'
    for word in said.split(" "):
        if len(line) + len(word) + 1 > WIDTH and line.strip('" '):
            lines.append(line.rstrip())
            line = "    "
        line += word + " "
    ending = '"""' if not said.endswith(" ") else ' """'
    return [*lines, line.rstrip() + ending]
