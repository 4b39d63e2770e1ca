"""One text for one schema, as Apache Avro's own printer orders it: the same schema gets the same GUID anywhere."""

import json
from collections.abc import Mapping
from typing import Any

from millstream.schemas.avro.nodes import MISSING, PRIMITIVES, Field, Node

_TYPE_NAMES = PRIMITIVES | {"record", "enum", "fixed", "array", "map", "union"}


def canonical(node: Node, borrowed: frozenset[str]) -> str:
    """The schema's text, whatever its white space, the order of its attributes and how names were qualified.

    Types in `borrowed` are only named; without any, the text stands alone.
    """
    return _dump(_Printer(borrowed).type(node, ""))


def normalized(node: Node, borrowed: frozenset[str]) -> str:
    """A text that also forgets the order of properties and aliases, and spells every name in full."""
    return _dump(_Normalizer(borrowed).type(node))


def _dump(tree: Any) -> str:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False)


class _Printer:
    def __init__(self, borrowed: frozenset[str]) -> None:
        self._written = set(borrowed)

    def type(self, node: Node, namespace: str) -> Any:
        match node.type:
            case "union":
                return [self.type(branch, namespace) for branch in node.branches]
            case "array":
                return {"type": "array", "items": self.type(node.holds, namespace), **node.props}
            case "map":
                return {"type": "map", "values": self.type(node.holds, namespace), **node.props}
            case "record" | "enum" | "fixed":
                return self._named(node, namespace)
            case _:
                return {"type": node.type, **node.props} if node.props else node.type

    def _named(self, node: Node, namespace: str) -> Any:
        if node.name in self._written:
            return _qualified(node.name, namespace)
        self._written.add(node.name)
        tree: dict[str, Any] = {"type": node.type, "name": node.simple_name}
        if node.namespace != namespace:
            tree["namespace"] = node.namespace
        if node.type == "fixed":
            tree |= _given("doc", node.doc) | {"size": node.size}
        elif node.type == "enum":
            tree |= _given("doc", node.doc) | {"symbols": node.symbols} | _given("default", node.enum_default)
        else:
            tree |= _given("doc", node.doc)
            tree["fields"] = [self._field(field, node.namespace) for field in node.fields]
        tree |= node.props
        if node.aliases:
            tree["aliases"] = [_qualified(alias, node.namespace) for alias in dict.fromkeys(node.aliases)]
        return tree

    def _field(self, field: Field, namespace: str) -> dict[str, Any]:
        tree = {"name": field.name, "type": self.type(field.type, namespace), **_given("doc", field.doc)}
        if field.default is not MISSING:
            tree["default"] = field.default
        if field.order != "ascending":
            tree["order"] = field.order
        if field.aliases:
            tree["aliases"] = list(dict.fromkeys(field.aliases))
        return tree | dict(field.props)


class _Normalizer:
    def __init__(self, borrowed: frozenset[str]) -> None:
        self._written = set(borrowed)

    def type(self, node: Node) -> Any:
        match node.type:
            case "union":
                return [self.type(branch) for branch in node.branches]
            case "array":
                return {"type": "array", "items": self.type(node.holds), **_logical_first(node.props)}
            case "map":
                return {"type": "map", "values": self.type(node.holds), **_logical_first(node.props)}
            case "record" | "enum" | "fixed":
                return self._named(node)
            case _:
                return {"type": node.type, **_logical_first(node.props)} if node.props else node.type

    def _named(self, node: Node) -> Any:
        if node.name in self._written:
            return node.name
        self._written.add(node.name)
        tree: dict[str, Any] = {"name": node.name, "type": node.type}
        if node.type == "fixed":
            tree["size"] = node.size
        elif node.type == "enum":
            tree["symbols"] = node.symbols
        else:
            tree["fields"] = [self._field(field) for field in node.fields]
        props = _logical_first(node.props)
        logical = {key: props.pop(key) for key in _LOGICAL if key in props}
        tree |= logical | _given("doc", node.doc or None)
        if node.aliases:
            tree["aliases"] = sorted(set(node.aliases))
        return tree | _given("default", node.enum_default) | props

    def _field(self, field: Field) -> dict[str, Any]:
        tree = {"name": field.name, "type": self.type(field.type), "order": field.order, **_given("doc", field.doc)}
        if field.aliases:
            tree["aliases"] = sorted(set(field.aliases))
        if field.default is not MISSING:
            tree["default"] = field.default
        return tree | dict(sorted(field.props.items()))


_LOGICAL = ("logicalType", "precision", "scale")


def _logical_first(props: Mapping[str, Any]) -> dict[str, Any]:
    if "logicalType" not in props:
        return dict(sorted(props.items()))
    first = {key: props[key] for key in _LOGICAL if key in props}
    return first | dict(sorted(props.items()))


def _given(key: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {key: value}


def _qualified(name: str, namespace: str) -> str:
    space, _, simple = name.rpartition(".")
    return simple if space == namespace and simple not in _TYPE_NAMES else name
