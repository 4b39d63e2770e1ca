"""From the JSON of an Avro schema to its graph, with the checks that Avro's specification demands."""

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from millstream.schemas.avro.nodes import MISSING, NAMED, PRIMITIVES, Field, Node
from millstream.schemas.formats import InvalidSchema

MAX_DEPTH = 100
"""The depth to which types may be nested in each other; deeper ones are no real data, and a parser's trouble."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ORDERS = ("ascending", "descending", "ignore")
_OWN_KEYS = {
    "record": {"type", "name", "namespace", "doc", "aliases", "fields"},
    "enum": {"type", "name", "namespace", "doc", "aliases", "symbols", "default"},
    "fixed": {"type", "name", "namespace", "doc", "aliases", "size"},
    "array": {"type", "items"},
    "map": {"type", "values"},
    "field": {"name", "type", "doc", "default", "order", "aliases"},
}
_OWN_KEYS["error"] = _OWN_KEYS["record"]
_INTEGERS = {"int": 2**31, "long": 2**63}


def read(text: str, referred: Iterable[str] = (), *, as_new: bool = True) -> tuple[Node, frozenset[str]]:
    """The schema in `text`, and the names of the types that `referred` texts, in this order, have defined.

    Names and defaults are checked in what is new only: what was taken once stays readable. Raises `InvalidSchema`.
    """
    reader = _Reader(as_new)
    for schema in referred:
        reader.root(schema)
    borrowed = frozenset(reader.names)
    node = reader.root(text)
    if as_new:
        reader.check_defaults()
    return node, borrowed


class _Reader:
    def __init__(self, as_new: bool) -> None:
        self.names: dict[str, Node] = {}
        self._as_new = as_new
        self._defaults: list[tuple[str, Field]] = []
        self._depth = 0

    def root(self, text: str) -> Node:
        try:
            # NaN and Infinity are numbers to Confluent's JSON, too.
            tree = json.loads(text)
        except RecursionError:
            _refuse("it is nested too deeply")
        except ValueError as error:
            _refuse(f"it is not JSON: {error}")
        return self._type(tree, "", "the schema")

    def check_defaults(self) -> None:
        """Only now are the types whole that the defaults belong to."""
        defaults = _Defaults()
        for where, of in self._defaults:
            if not defaults.fits(of.default, of.type):
                _refuse(f"{where} has the default {json.dumps(of.default)[:200]}, which is no {of.type.type}")

    def _type(self, tree: Any, namespace: str, where: str) -> Node:
        # A refusal ends the reading: only a type that was read has to count down again.
        self._depth += 1
        if self._depth > MAX_DEPTH:
            _refuse(f"it is nested too deeply: more than {MAX_DEPTH} types in each other")
        if isinstance(tree, str):
            found = self._called(tree, namespace, where)
        elif isinstance(tree, list):
            found = self._union(tree, namespace, where)
        elif isinstance(tree, dict):
            found = self._described(tree, namespace, where)
        else:
            _refuse(f"{where} is {json.dumps(tree)[:100]}: a type is a name, an object or an array")
        self._depth -= 1
        return found

    def _called(self, name: str, namespace: str, where: str) -> Node:
        if name in PRIMITIVES:
            return Node(name)
        full = _full_name(name, namespace)
        found = self.names.get(full) or self.names.get(name)
        return found or _refuse(f"{where} has the type {full!r}, which is not defined before it")

    def _union(self, tree: list[Any], namespace: str, where: str) -> Node:
        branches = [self._type(branch, namespace, f"{where}, branch {i}") for i, branch in enumerate(tree)]
        seen: set[str] = set()
        for branch in branches:
            if branch.type == "union":
                _refuse(f"{where} is a union directly in a union")
            kind = branch.name or branch.type
            if kind in seen:
                _refuse(f"{where} is a union with {kind!r} twice")
            seen.add(kind)
        return Node("union", branches=branches)

    def _described(self, tree: dict[str, Any], namespace: str, where: str) -> Node:
        kind = tree.get("type")
        if not isinstance(kind, str):
            if isinstance(kind, dict | list):
                return self._type(kind, namespace, where)
            _refuse(f"{where} has no type")
        if kind in PRIMITIVES:
            return Node(kind, _props(tree, {"type"}))
        if kind in NAMED:
            return self._named(kind, tree, namespace, where)
        if kind in ("array", "map"):
            held = "items" if kind == "array" else "values"
            if held not in tree:
                _refuse(f"{where} is of type {kind} and has no {held!r}")
            element = self._type(tree[held], namespace, f"{where}, {held}")
            return Node(kind, _props(tree, _OWN_KEYS[kind]), element=element)
        return self._called(kind, namespace, where)

    def _named(self, kind: str, tree: dict[str, Any], namespace: str, where: str) -> Node:
        name = tree.get("name")
        if not isinstance(name, str):
            _refuse(f"{where} is of type {kind} and has no name")
        own = tree.get("namespace", namespace)
        full = _full_name(name, own if isinstance(own, str) else namespace)
        for part in full.split("."):
            self._check_name(part, where)
        if full in self.names or full in PRIMITIVES:
            _refuse(f"{where} defines {full!r} again")
        space = full.rpartition(".")[0]
        node = Node("record" if kind == "error" else kind, _props(tree, _OWN_KEYS[kind]), name=full)
        node.aliases = tuple(_full_name(alias, space) for alias in _texts(tree, "aliases", where))
        node.doc = _doc(tree)
        self.names[full] = node
        if kind == "enum":
            self._enum(node, tree, full)
        elif kind == "fixed":
            node.size = _size(tree, full)
        else:
            self._record(node, tree, space)
        return node

    def _enum(self, node: Node, tree: dict[str, Any], where: str) -> None:
        if not isinstance(tree.get("symbols"), list):
            _refuse(f"enum {where} has no symbols")
        node.symbols = _texts(tree, "symbols", where)
        for symbol in node.symbols:
            self._check_name(symbol, f"a symbol of {where}")
        if len(set(node.symbols)) != len(node.symbols):
            _refuse(f"enum {where} has a symbol twice")
        default = tree.get("default")
        if default is not None and default not in node.symbols:
            _refuse(f"enum {where} has the default {default!r}, which is not one of its symbols")
        node.enum_default = default

    def _record(self, node: Node, tree: dict[str, Any], space: str) -> None:
        fields = tree.get("fields")
        if not isinstance(fields, list):
            _refuse(f"record {node.name} has no fields")
        names: set[str] = set()
        for described in fields:
            made = self._field(described, node.name, space)
            if made.name in names:
                _refuse(f"record {node.name} has the field {made.name!r} twice")
            names.add(made.name)
            node.fields.append(made)

    def _field(self, tree: Any, record: str, space: str) -> Field:
        if not isinstance(tree, dict) or not isinstance(tree.get("name"), str):
            _refuse(f"a field of {record} is not an object with a name")
        name = tree["name"]
        where = f"field {name!r} of {record}"
        self._check_name(name, where)
        if "type" not in tree:
            _refuse(f"{where} has no type")
        order = str(tree.get("order", "ascending")).lower()
        if order not in _ORDERS:
            _refuse(f"{where} has the order {order!r}; it must be one of {', '.join(_ORDERS)}")
        made = Field(
            name,
            self._type(tree["type"], space, where),
            _doc(tree),
            tree.get("default", MISSING),
            order,
            tuple(_texts(tree, "aliases", where)),
            _props(tree, _OWN_KEYS["field"]),
        )
        if made.default is not MISSING:
            self._defaults.append((where, made))
        return made

    def _check_name(self, name: str, where: str) -> None:
        if self._as_new and not _NAME.fullmatch(name):
            _refuse(f"{where} is called {name!r}; names are letters, digits and underscores, and begin with no digit")


def _refuse(why: str) -> NoReturn:
    raise InvalidSchema(why)


def _full_name(name: str, namespace: str) -> str:
    if "." in name:
        return name.removeprefix(".")
    return f"{namespace}.{name}" if namespace else name


def _size(tree: dict[str, Any], where: str) -> int:
    size = tree.get("size")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**31:
        _refuse(f"fixed {where} has no size that is a whole number of bytes")
    return size


def _doc(tree: dict[str, Any]) -> str | None:
    doc = tree.get("doc")
    return doc if isinstance(doc, str) else None


def _texts(tree: dict[str, Any], key: str, where: str) -> list[str]:
    values = tree.get(key)
    if values is None:
        return []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        _refuse(f"{where} has {key} that are not an array of strings")
    return values


def _props(tree: dict[str, Any], own: set[str]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in own}


class _Defaults:
    """Decides whether a value is one of a type. Each pair is looked at once: branches of a union may hold the same
    types, and trying all ways through nested ones would take for ever."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], bool] = {}

    def fits(self, value: Any, node: Node) -> bool:
        pair = (id(value), id(node))
        if pair not in self._known:
            self._known[pair] = self._fits(value, node)
        return self._known[pair]

    def _fits(self, value: Any, node: Node) -> bool:
        match node.type:
            case "null":
                return value is None
            case "boolean":
                return isinstance(value, bool)
            case "int" | "long":
                limit = _INTEGERS[node.type]
                return isinstance(value, int) and not isinstance(value, bool) and -limit <= value < limit
            case "float" | "double":
                return isinstance(value, int | float) and not isinstance(value, bool)
            case "string" | "bytes" | "enum" | "fixed":
                return isinstance(value, str)
            case "array":
                return isinstance(value, list) and all(self.fits(item, node.holds) for item in value)
            case "map":
                return isinstance(value, dict) and all(self.fits(item, node.holds) for item in value.values())
            case "union":
                return any(self.fits(value, branch) for branch in node.branches)
            case _:
                return isinstance(value, dict) and all(
                    self.fits(value[of.name], of.type) if of.name in value else of.default is not MISSING
                    for of in node.fields
                )
