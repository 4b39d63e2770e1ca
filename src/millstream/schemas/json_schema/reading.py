"""From the JSON of a schema to its graph.

A set of keywords about one type makes one node, as in the parser that Confluent's registry is built on: it is by such
nodes that schemas are compared.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

from millstream.schemas.formats import InvalidSchema
from millstream.schemas.json_schema import drafts
from millstream.schemas.json_schema.keywords import (
    GROUPS,
    KINDS,
    limits,
    names,
    pick,
    schemas_by_name,
    schemas_in_order,
)
from millstream.schemas.json_schema.nodes import MISSING, Node, frozen
from millstream.schemas.json_schema.resolving import Place, id_keyword, place_of

REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def read(tree: Any, referred: Iterable[tuple[str, Any]] = (), *, as_new: bool = True) -> Node:
    """The graph of a schema that may refer to `referred`, trees by name.

    Only what is new is held against its meta-schema. Raises `InvalidSchema`.

    >>> read({"type": "object", "properties": {"id": {"type": "string"}}}).properties["id"].kind
    'string'
    """
    if not isinstance(tree, dict | bool):
        raise InvalidSchema(f"a JSON Schema is an object or a boolean, not {type(tree).__name__}")
    draft = drafts.draft_of(tree)
    if as_new:
        drafts.check(tree, draft)
    return _Reader(draft).whole(tree, place_of(tree, draft, referred))


class _Reader:
    def __init__(self, draft: str) -> None:
        self._id = id_keyword(draft)
        self._modern = draft in drafts.MODERN
        self._known: dict[int, Node] = {}
        self._pending: list[tuple[Node, dict[str, Any], Place]] = []
        self._references: list[tuple[Node, str]] = []
        self._alike: dict[Any, int] = {}
        self._alike_by_place: dict[int, int] = {}

    def whole(self, tree: Any, place: Place) -> Node:
        root = self.schema(tree, place)
        # One after the other, not in each other: a schema may be a chain of a thousand references.
        while self._pending:
            self._describe(*self._pending.pop())
        for node, ref in self._references:
            _shorten(node, ref)
        return root

    def schema(self, tree: Any, place: Place) -> Node:
        """The node of a schema, which is filled later."""
        if isinstance(tree, bool):
            return Node("empty" if tree else "false")
        if not isinstance(tree, dict):
            _refuse(f"a schema is an object or a boolean, not {str(tree)[:100]}")
        if id(tree) not in self._known:
            self._known[id(tree)] = node = Node("empty")
            self._pending.append((node, tree, place))
        return self._known[id(tree)]

    def _describe(self, node: Node, tree: dict[str, Any], outside: Place) -> None:
        place = outside.within(tree)
        found = [keyword for keyword in REFERENCES if keyword in tree]
        parts = [self._reference(tree[keyword], place) for keyword in found]
        if not parts or self._modern:
            parts += self._parts(tree, place)
        if len(parts) == 1:
            node.become(parts[0])
        elif parts:
            node.kind, node.criterion, node.parts, node.distinct = "combined", "allOf", parts, parts
        node.id, node.title, node.description = tree.get(self._id), tree.get("title"), tree.get("description")
        node.default = tree.get("default", MISSING)
        node.connect_type = tree.get("connect.type")
        if node.kind == "reference":
            self._references.append((node, str(tree[found[0]])))

    def _reference(self, ref: Any, place: Place) -> Node:
        if not isinstance(ref, str):
            _refuse(f"a $ref is a string, not {str(ref)[:100]}")
        node = Node("reference", held=self.schema(*place.follow(ref)))
        self._references.append((node, ref))
        return node

    def _parts(self, tree: dict[str, Any], place: Place) -> list[Node]:
        parts: list[Node] = []
        if "enum" in tree:
            parts.append(Node("enum", values=frozenset(map(frozen, pick(tree, "enum", list)))))
        ways = (criterion for criterion in ("allOf", "anyOf", "oneOf") if criterion in tree)
        parts += [self._combined(criterion, pick(tree, criterion, list), place) for criterion in ways]
        if "not" in tree:
            parts.append(Node("not", held=self.schema(tree["not"], place)))
        if "const" in tree:
            parts.append(Node("const", values=frozenset([frozen(tree["const"])])))
        parts += self._typed(tree, place)
        if not {"if", "then", "else"}.isdisjoint(tree):
            parts.append(Node("conditional"))
        return parts

    def _combined(self, criterion: str, trees: list[Any], place: Place) -> Node:
        parts = [self.schema(one, place) for one in trees]
        distinct = {self._likeness(tree): part for tree, part in zip(trees, parts, strict=True)}
        return Node("combined", criterion=criterion, parts=parts, distinct=tuple(distinct.values()))

    def _typed(self, tree: dict[str, Any], place: Place) -> list[Node]:
        named = tree.get("type", [])
        types = named if isinstance(named, list) else [named]
        parts = [self._of_type(name, tree, place) for name in types]
        if isinstance(named, list) and "type" in tree:
            parts = [Node("combined", criterion="anyOf", parts=parts, distinct=parts)]
        settled = {KINDS[name] for name in types}
        return parts + [
            self._of_kind(kind, tree, place)
            for kind, keywords in GROUPS.items()
            if kind not in settled and not keywords.isdisjoint(tree)
        ]

    def _of_type(self, name: Any, tree: dict[str, Any], place: Place) -> Node:
        if not isinstance(name, str) or name not in KINDS:
            _refuse(f"there is no type {str(name)[:100]!r}")
        node = self._of_kind(KINDS[name], tree, place)
        if name == "integer":
            node.limits = {**node.limits, "integer": True}
        return node

    def _of_kind(self, kind: str, tree: dict[str, Any], place: Place) -> Node:
        node = Node(kind, limits=limits(kind, tree, modern=self._modern))
        if kind == "object":
            self._fill_object(node, tree, place)
        elif kind == "array":
            self._fill_array(node, tree, place)
        return node

    def _fill_object(self, node: Node, tree: dict[str, Any], place: Place) -> None:
        node.properties = self._by_name(schemas_by_name(tree, "properties"), place)
        node.patterns = self._by_name(schemas_by_name(tree, "patternProperties"), place)
        node.required = frozenset(names(tree.get("required", []), "required"))
        needs = schemas_by_name(tree, "dependencies") | schemas_by_name(tree, "dependentRequired")
        node.needs = {key: frozenset(names(of, key)) for key, of in needs.items() if isinstance(of, list)}
        schemas = {key: of for key, of in needs.items() if not isinstance(of, list)}
        node.dependents = self._by_name(schemas | schemas_by_name(tree, "dependentSchemas"), place)
        node.additional = self._rest(tree, "additionalProperties", place)
        if self._modern and "unevaluatedProperties" in tree:
            node.unevaluated = self.schema(tree["unevaluatedProperties"], place)

    def _fill_array(self, node: Node, tree: dict[str, Any], place: Place) -> None:
        positions = schemas_in_order(tree)
        node.positions = [self.schema(one, place) for one in positions]
        if "prefixItems" in tree or (self._modern and tree.get("items") is False):
            node.additional = self._rest(tree, "items", place)
        else:
            if not isinstance(tree.get("items"), list):
                node.items = self._rest(tree, "items", place)
            node.additional = self._rest(tree, "additionalItems", place)
        if self._modern and "unevaluatedItems" in tree:
            node.unevaluated = self.schema(tree["unevaluatedItems"], place)

    def _by_name(self, trees: dict[str, Any], place: Place) -> dict[str, Node]:
        return {name: self.schema(tree, place) for name, tree in trees.items()}

    def _rest(self, tree: dict[str, Any], keyword: str, place: Place) -> Node | None:
        held = tree.get(keyword, True)
        return None if held is True else self.schema(held, place)

    def _likeness(self, value: Any) -> int:
        """The same number for the same JSON; each place is looked at once, however deep what holds it is nested."""
        if not isinstance(value, dict | list):
            return self._alike.setdefault((type(value), value), len(self._alike))
        if id(value) not in self._alike_by_place:
            if isinstance(value, dict):
                key: Any = frozenset((name, self._likeness(held)) for name, held in value.items())
            else:
                key = tuple(self._likeness(held) for held in value)
            self._alike_by_place[id(value)] = self._alike.setdefault((type(value), key), len(self._alike))
        return self._alike_by_place[id(value)]


def _shorten(node: Node, ref: str) -> None:
    """Let every reference on the way lead to the end of the way."""
    way: list[Node] = []
    seen: set[int] = set()
    end = node
    while end.kind == "reference":
        if id(end) in seen:
            _refuse(f"the $ref {ref!r} leads back to itself, and nowhere else")
        seen.add(id(end))
        way.append(end)
        assert end.held is not None
        end = end.held
    for passed in way:
        passed.held = end


def _refuse(why: str) -> NoReturn:
    raise InvalidSchema(why)
