"""A JSON Schema as a graph: one node for each set of keywords about one type; a `$ref` is a node that leads to another.

A schema that speaks of several things at once, say a type and an `enum`, is a node that combines one of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING: Any = _Missing()
"""Stands for a default that is not there; None is the default `null`."""

_NONE: Mapping[str, Any] = MappingProxyType({})


def _none() -> Mapping[str, Any]:
    return _NONE


@dataclass(eq=False, slots=True)
class Node:
    """One schema. Compared by identity; which attributes mean something depends on `kind`."""

    kind: str
    """string, number, boolean, null, array, object, enum, const, not, conditional, combined, reference; `empty` takes
    everything, `false` nothing."""
    id: Any = None
    title: Any = None
    description: Any = None
    default: Any = MISSING
    connect_type: Any = None
    limits: Mapping[str, Any] = field(default_factory=_none)
    """The keywords of a string, number, array or object that hold a single value, and `integer`."""
    values: frozenset[Any] = frozenset()
    """The values that an enum or a const allows, frozen."""
    properties: Mapping[str, "Node"] = field(default_factory=_none)
    patterns: Mapping[str, "Node"] = field(default_factory=_none)
    required: frozenset[str] = frozenset()
    needs: Mapping[str, frozenset[str]] = field(default_factory=_none)
    """The properties that must be there when one is."""
    dependents: Mapping[str, "Node"] = field(default_factory=_none)
    """The rules that hold when a property is there."""
    positions: Sequence["Node"] = ()
    """The schemas of the first items of an array, one by one."""
    items: "Node | None" = None
    """The schema of all items of an array."""
    additional: "Node | None" = None
    """The schema of further properties or items; None if they may be anything, `false` if there may be none."""
    unevaluated: "Node | None" = None
    criterion: str = ""
    """allOf, anyOf or oneOf."""
    parts: Sequence["Node"] = ()
    distinct: Sequence["Node"] = ()
    """The parts without those that say the same again."""
    held: "Node | None" = None
    """The schema that a `not` refuses, or that a reference leads to."""

    def become(self, other: "Node") -> None:
        """Take everything from `other`."""
        for one in fields(other):
            setattr(self, one.name, getattr(other, one.name))

    @property
    def target(self) -> "Node":
        """The node itself, or what a reference leads to."""
        node = self
        while node.kind == "reference":
            assert node.held is not None
            node = node.held
        return node


def frozen(value: Any) -> Any:
    """Equal for what is the same JSON value, and only then.

    >>> frozen({"a": [1, True]}) == frozen({"a": [1.0, True]})
    True
    >>> frozen(1) == frozen(True)
    False
    """
    match value:
        case bool():
            return (bool, value)
        case dict():
            return frozenset((key, frozen(held)) for key, held in value.items())
        case list():
            return tuple(frozen(held) for held in value)
        case _:
            return value
