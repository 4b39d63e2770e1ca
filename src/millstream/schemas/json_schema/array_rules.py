"""The rules for arrays: what all items are, what the first ones are one by one, and what the rest may be."""

from collections.abc import Iterator

from millstream.schemas.json_schema import value_rules
from millstream.schemas.json_schema.content import covering, is_open
from millstream.schemas.json_schema.differences import Difference
from millstream.schemas.json_schema.nodes import Node
from millstream.schemas.json_schema.object_rules import Comparing, covered, rest, unevaluated


def compare(comparing: Comparing, writer: Node, reader: Node) -> list[Difference]:
    return [
        *comparing.of(writer.items, reader.items, "/items"),
        *_positions(comparing, writer, reader),
        *rest(comparing, writer, reader, "additionalItems", "ADDITIONAL_ITEMS"),
        *unevaluated(comparing, writer, reader, "unevaluatedItems", "UNEVALUATED_ITEMS"),
        *value_rules.limits(writer, reader),
    ]


def _positions(comparing: Comparing, writer: Node, reader: Node) -> Iterator[Difference]:
    both = min(len(writer.positions), len(reader.positions))
    for i in range(max(len(writer.positions), len(reader.positions))):
        path = f"/items/{i}"
        if i < both:
            yield from comparing.of(writer.positions[i], reader.positions[i], path)
        elif i < len(writer.positions):
            yield from _removed(comparing, writer.positions[i], reader, path)
        else:
            yield from _added(comparing, reader.positions[i], writer, path)


def _removed(comparing: Comparing, old: Node, reader: Node, path: str) -> Iterator[Difference]:
    comparing.step()
    if is_open(reader):
        yield Difference("ITEM_REMOVED_FROM_OPEN_CONTENT_MODEL", path)
    elif (cover := covering(reader)) is not None:
        yield from covered(comparing, old, cover, path, "ITEM_REMOVED")
    elif old.kind == "false":
        yield Difference("ITEM_WITH_FALSE_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)
    else:
        yield Difference("ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path)


def _added(comparing: Comparing, new: Node, writer: Node, path: str) -> Iterator[Difference]:
    comparing.step()
    if is_open(writer):
        what = "ITEM_WITH_EMPTY_SCHEMA_ADDED" if new.target.kind == "empty" else "ITEM_ADDED"
        yield Difference(f"{what}_TO_OPEN_CONTENT_MODEL", path)
    elif (cover := covering(writer)) is not None:
        yield from covered(comparing, cover, new, path, "ITEM_ADDED")
    else:
        yield Difference("ITEM_ADDED_TO_CLOSED_CONTENT_MODEL", path)
