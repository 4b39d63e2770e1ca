"""JSON Schema behind the registry's protocols for formats."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from millstream.schemas.formats import InvalidSchema, Parsed, Referred
from millstream.schemas.json_schema.bundling import bundle
from millstream.schemas.json_schema.differences import Difference
from millstream.schemas.json_schema.nodes import Node
from millstream.schemas.json_schema.reading import read
from millstream.schemas.json_schema.rules import differences
from millstream.schemas.json_schema.text import dumps, in_order, loads


class JsonSchema:
    def __init__(self, tree: Any, referred: Sequence[tuple[str, Any]], node: Node) -> None:
        self.node = node
        self._tree = tree
        self._referred = referred
        self.canonical = dumps(tree)

    def formatted(self, form: str) -> str | None:
        return dumps(bundle(self._tree, self._referred)) if form == "resolved" else None

    def normalized(self) -> str:
        return dumps(in_order(self._tree))

    def means_the_same_as(self, other: Parsed) -> bool:
        assert isinstance(other, JsonSchema)
        return self._whole == other._whole

    def misfits(self, writer: Parsed) -> list[str]:
        assert isinstance(writer, JsonSchema)
        return [_told(found) for found in differences(self.node, writer.node) if not found.is_harmless]

    @cached_property
    def _whole(self) -> str:
        return dumps(in_order(bundle(self._tree, self._referred)))


class Json:
    def parse(self, text: str, referred: Sequence[Referred], *, as_new: bool) -> JsonSchema:
        try:
            tree = loads(text)
            others = [(name, other) for of in referred for other in [loads(of.text)] for name in of.names]
            return JsonSchema(tree, others, read(tree, others, as_new=as_new))
        except RecursionError:
            raise InvalidSchema("it is nested too deeply") from None


FORMAT = Json()

_SAID = {
    "TYPE_CHANGED": "The type at {path} of the %(reader)s schema is not that of the %(writer)s schema",
    "TYPE_NARROWED": "The type at {path} of the %(reader)s schema takes less than that of the %(writer)s schema",
    "REQUIRED_ATTRIBUTE_ADDED": "The property at {path} is required by the %(reader)s schema, has no default there, "
    "and is not required by the %(writer)s schema",
    "COMBINED_TYPE_CHANGED": "The parts at {path} are combined otherwise in the %(reader)s and the %(writer)s schema",
    "COMBINED_TYPE_SUBSCHEMAS_CHANGED": "The parts at {path} of the %(reader)s schema do not stand for those of the "
    "%(writer)s schema, each for another one",
}
_SAID_OF_ENDINGS = {
    "TO_OPEN_CONTENT_MODEL": "What is at {path} of the %(reader)s schema is missing in the %(writer)s schema, whose "
    "content model is open: anything may have been written there",
    "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL": "The property at {path} is required by the %(reader)s schema, "
    "has no default there, and is missing in the %(writer)s schema",
    "FROM_CLOSED_CONTENT_MODEL": "What is at {path} of the %(writer)s schema is missing in the %(reader)s schema, "
    "whose content model is closed",
    "REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "What is at {path} of the %(writer)s schema is missing in "
    "the %(reader)s schema, and its partially open content model does not take it",
    "ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL": "What is at {path} of the %(reader)s schema is missing in the "
    "%(writer)s schema, whose partially open content model lets something else be written there",
    "_ADDED": "The %(reader)s schema asks at {path} for what the %(writer)s schema does not",
    "_REMOVED": "The %(reader)s schema no longer takes at {path} what the %(writer)s schema does",
    "_INCREASED": "The value at {path} of the %(reader)s schema is greater than in the %(writer)s schema",
    "_EXPANDED": "The value at {path} of the %(reader)s schema is a multiple of that of the %(writer)s schema",
    "_DECREASED": "The value at {path} of the %(reader)s schema is smaller than in the %(writer)s schema",
    "_NARROWED": "The %(reader)s schema takes less at {path} than the %(writer)s schema",
    "_EXTENDED": "The %(reader)s schema asks for more at {path} than the %(writer)s schema",
    "_CHANGED": "What is at {path} of the %(reader)s schema differs from the %(writer)s schema",
}


def _told(found: Difference) -> str:
    said = _SAID.get(found.kind) or next(said for end, said in _SAID_OF_ENDINGS.items() if found.kind.endswith(end))
    path = f"path '#{found.path or '/'}'".replace("%", "%%")
    detail = found.detail.replace("%", "%%")
    described = said.replace("{path}", path)
    return f"{{errorType:'{found.kind}', description:'{described}', additionalInfo:'{detail}'}}"
