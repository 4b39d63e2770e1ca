"""Avro behind the registry's protocols for formats."""

from collections.abc import Sequence

from millstream.schemas.avro.nodes import Node
from millstream.schemas.avro.reading import read
from millstream.schemas.avro.rules import Misfit, misfits
from millstream.schemas.avro.writing import canonical, normalized
from millstream.schemas.formats import InvalidSchema, Parsed, Referred

_SAID = {
    "FIXED_SIZE_MISMATCH": "The size of the fixed type at {path} differs in the %(reader)s and the %(writer)s schema",
    "TYPE_MISMATCH": "The type at {path} of the %(reader)s schema cannot hold what the %(writer)s schema has there",
    "NAME_MISMATCH": "The name of the type has changed ({path})",
    "MISSING_ENUM_SYMBOLS": "The enum at {path} of the %(reader)s schema lacks {detail} of the %(writer)s schema",
    "MISSING_UNION_BRANCH": "The union at {path} of the %(reader)s schema lacks a type of the %(writer)s schema",
    "READER_FIELD_MISSING_DEFAULT_VALUE": "The field '{detail}' at {path} of the %(reader)s schema has no default "
    "value and is missing in the %(writer)s schema",
}


class AvroSchema:
    def __init__(self, node: Node, borrowed: frozenset[str]) -> None:
        self.node = node
        self._borrowed = borrowed
        self.canonical = canonical(node, borrowed)

    def formatted(self, form: str) -> str | None:
        return canonical(self.node, frozenset()) if form == "resolved" else None

    def normalized(self) -> str:
        return normalized(self.node, self._borrowed)

    def means_the_same_as(self, other: Parsed) -> bool:
        assert isinstance(other, AvroSchema)
        return normalized(self.node, frozenset()) == normalized(other.node, frozenset())

    def misfits(self, writer: Parsed) -> list[str]:
        assert isinstance(writer, AvroSchema)
        return [_told(misfit) for misfit in misfits(self.node, writer.node)]


class Avro:
    def parse(self, text: str, referred: Sequence[Referred], *, as_new: bool) -> AvroSchema:
        try:
            return AvroSchema(*read(text, [of.text for of in referred], as_new=as_new))
        except RecursionError:
            raise InvalidSchema("it is nested too deeply") from None


FORMAT = Avro()


def _told(misfit: Misfit) -> str:
    detail = misfit.detail.replace("%", "%%")
    said = _SAID[misfit.kind].format(path=f"path '{misfit.path}'", detail=detail)
    return f"{{errorType:'{misfit.kind}', description:'{said}', additionalInfo:'{detail}'}}"
