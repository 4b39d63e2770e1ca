"""The rules for objects: properties that come and go under open, closed and partially open content models."""

from collections.abc import Callable, Iterator
from typing import Protocol

from millstream.schemas.json_schema import value_rules
from millstream.schemas.json_schema.content import Patterns, covering, is_open
from millstream.schemas.json_schema.differences import Difference, fits
from millstream.schemas.json_schema.nodes import MISSING, Node


class Comparing(Protocol):
    """The questions of the rules for objects and arrays to the comparison that they belong to."""

    @property
    def step(self) -> Callable[[], None]: ...

    @property
    def patterns(self) -> Patterns: ...

    def of(self, writer: Node | None, reader: Node | None, path: str) -> list[Difference]: ...


def compare(comparing: Comparing, writer: Node, reader: Node) -> list[Difference]:
    return [
        *_required(writer, reader),
        *_properties(comparing, writer, reader),
        *_dependencies(comparing, writer, reader),
        *rest(comparing, writer, reader, "additionalProperties", "ADDITIONAL_PROPERTIES"),
        *unevaluated(comparing, writer, reader, "unevaluatedProperties", "UNEVALUATED_PROPERTIES"),
        *value_rules.limits(writer, reader),
    ]


def _required(writer: Node, reader: Node) -> Iterator[Difference]:
    for name in writer.properties:
        if name not in reader.properties or (name in writer.required) == (name in reader.required):
            continue
        if name in writer.required:
            yield Difference("REQUIRED_ATTRIBUTE_REMOVED", f"/required/{name}")
        elif reader.properties[name].default is not MISSING:
            yield Difference("REQUIRED_ATTRIBUTE_WITH_DEFAULT_ADDED", f"/required/{name}")
        else:
            yield Difference("REQUIRED_ATTRIBUTE_ADDED", f"/required/{name}", name)


def _properties(comparing: Comparing, writer: Node, reader: Node) -> Iterator[Difference]:
    for name in {**writer.properties, **reader.properties}:
        path = f"/properties/{name}"
        old, new = writer.properties.get(name), reader.properties.get(name)
        if new is None:
            assert old is not None
            yield from _removed(comparing, old, reader, name, path)
        elif old is None:
            yield from _added(comparing, new, writer, reader, name, path)
        else:
            yield from comparing.of(old, new, path)


def _removed(comparing: Comparing, old: Node, reader: Node, name: str, path: str) -> Iterator[Difference]:
    """Judge a property that the reader no longer knows: only the reader's content model matters."""
    if is_open(reader):
        comparing.step()
        yield Difference("PROPERTY_REMOVED_FROM_OPEN_CONTENT_MODEL", path, name)
    elif (cover := _cover(comparing, reader, name)) is not None:
        yield from covered(comparing, old, cover, path, "PROPERTY_REMOVED")
    elif old.kind == "false":
        yield Difference("PROPERTY_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, name)
    else:
        yield Difference("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path, name)


def _added(comparing: Comparing, new: Node, writer: Node, reader: Node, name: str, path: str) -> Iterator[Difference]:
    """Judge what the writer may have put where the reader now wants a property: the writer's model matters."""
    is_wanted, has_default = name in reader.required, new.default is not MISSING
    if is_open(writer):
        comparing.step()
        model = "OPEN"
        if new.target.kind == "empty":
            yield Difference("PROPERTY_WITH_EMPTY_SCHEMA_ADDED_TO_OPEN_CONTENT_MODEL", path, name)
            return
    else:
        model = "UNOPEN"
        if (cover := _cover(comparing, writer, name)) is not None:
            yield from covered(comparing, cover, new, path, "PROPERTY_ADDED")
    what = "OPTIONAL_PROPERTY" if not is_wanted else "REQUIRED_PROPERTY" + "_WITH_DEFAULT" * has_default
    yield Difference(f"{what}_ADDED_TO_{model}_CONTENT_MODEL", path, name)


def _cover(comparing: Comparing, node: Node, name: str) -> Node | None:
    comparing.step()
    for pattern, schema in node.patterns.items():
        comparing.step()
        if comparing.patterns.is_in(pattern, name):
            return schema
    return covering(node)


def covered(comparing: Comparing, writer: Node, reader: Node, path: str, what: str) -> list[Difference]:
    """The differences to the schema of a partially open model that takes the place of one that is not there."""
    found = comparing.of(writer, reader, path)
    word = "IS" if fits(found) else "NOT"
    return [*found, Difference(f"{what}_{word}_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path)]


def _dependencies(comparing: Comparing, writer: Node, reader: Node) -> Iterator[Difference]:
    for name in {**writer.needs, **reader.needs}:
        if change := _needs(writer.needs.get(name), reader.needs.get(name)):
            yield Difference(f"DEPENDENCY_ARRAY_{change}", f"/dependencies/{name}", name)
    for name in {**writer.dependents, **reader.dependents}:
        old, new = writer.dependents.get(name), reader.dependents.get(name)
        if old is None or new is None:
            change = "ADDED" if old is None else "REMOVED"
            yield Difference(f"DEPENDENCY_SCHEMA_{change}", f"/dependencies/{name}", name)
        else:
            yield from comparing.of(old, new, f"/dependencies/{name}")


def _needs(old: frozenset[str] | None, new: frozenset[str] | None) -> str | None:
    if old == new:
        return None
    if new is None:
        return "REMOVED"
    if old is None:
        return "ADDED"
    if old < new:
        return "EXTENDED"
    return "NARROWED" if new < old else "CHANGED"


def rest(comparing: Comparing, writer: Node, reader: Node, keyword: str, what: str) -> list[Difference]:
    """The rule for everything that is not spoken of."""
    old, new = writer.additional, reader.additional
    was_closed, is_closed = old is not None and old.kind == "false", new is not None and new.kind == "false"
    if was_closed != is_closed:
        return [Difference(f"{what}_{'REMOVED' if is_closed else 'ADDED'}", f"/{keyword}")]
    if old is None or new is None:
        if old is new:
            return []
        return [Difference(f"{what}_{'NARROWED' if old is None else 'EXTENDED'}", f"/{keyword}")]
    return comparing.of(old, new, f"/{keyword}")


def unevaluated(comparing: Comparing, writer: Node, reader: Node, keyword: str, what: str) -> list[Difference]:
    """The same for what no other keyword has looked at."""
    old, new = writer.unevaluated, reader.unevaluated
    if old is None and new is None:
        return []
    was, now = (None if one is None else one.target.kind for one in (old, new))
    if (was == "false") != (now == "false"):
        change = "ADDED" if was == "false" else "REMOVED"
    elif old is None or (was == "empty" and now != "empty"):
        change = "NARROWED"
    elif new is None or (now == "empty" and was != "empty"):
        change = "EXTENDED"
    else:
        return comparing.of(old, new, f"/{keyword}")
    return [Difference(f"{what}_{change}", f"/{keyword}")]
