"""An Avro schema as a graph: named types are one node wherever they are used, so a recursive type is a cycle."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Any = _Missing()
"""Stands for a default that is not there; None is the default `null`."""


@dataclass(eq=False)
class Field:
    name: str
    type: "Node"
    doc: str | None
    default: Any
    order: str
    aliases: tuple[str, ...]
    props: Mapping[str, Any]


@dataclass(eq=False)
class Node:
    """One type. Compared by identity; which attributes mean something depends on `type`."""

    type: str
    props: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    """The full name of a named type."""
    aliases: tuple[str, ...] = ()
    """Full names."""
    doc: str | None = None
    fields: list[Field] = field(default_factory=list)
    symbols: list[str] = field(default_factory=list)
    enum_default: str | None = None
    size: int = 0
    element: "Node | None" = None
    """The type of the items of an array, or of the values of a map."""
    branches: list["Node"] = field(default_factory=list)

    @property
    def is_primitive(self) -> bool:
        return self.type in PRIMITIVES

    @property
    def simple_name(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def namespace(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def holds(self) -> "Node":
        """The element of an array or a map."""
        assert self.element is not None
        return self.element
