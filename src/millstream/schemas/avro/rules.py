"""Compatibility: the rules of Avro's specification, as Apache Avro's own checker reads them.

https://avro.apache.org/docs/1.12.0/specification/#schema-resolution
"""

from dataclasses import dataclass

from millstream.schemas.avro.nodes import MISSING, Field, Node
from millstream.schemas.formats import TooMuch

MAX_STEPS = 300_000
"""Pairs of types that one comparison may look at; two hostile schemas of 1 MB could take hours."""

MAX_MISFITS = 100
"""As many are told; a type that is used in many places has its own in each of them."""

_PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "bytes": {"string"},
    "string": {"bytes"},
}


@dataclass(frozen=True)
class Misfit:
    """One thing in `writer`'s data that the reader could not make sense of; `path` is a JSON pointer of the reader."""

    kind: str
    path: str
    detail: str


def misfits(reader: Node, writer: Node) -> list[Misfit]:
    """Why data written as `writer` cannot always be read as `reader`; empty when it can. Raises `TooMuch`.

    Never more than `MAX_MISFITS`.
    """
    try:
        return _Comparison().of(reader, writer, "")
    except RecursionError:
        raise TooMuch("comparing the schemas follows their types too deep into each other") from None


class _Comparison:
    def __init__(self) -> None:
        self._known: dict[tuple[int, int], list[Misfit]] = {}
        self._steps = 0

    def of(self, reader: Node, writer: Node, path: str) -> list[Misfit]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise TooMuch(f"comparing the schemas takes more than {MAX_STEPS} steps")
        if reader.is_primitive or writer.is_primitive:
            return self._compare(reader, writer, path)
        pair = (id(reader), id(writer))
        if pair in self._known:
            # While a pair is being compared it counts as fitting: only so does a recursive type come to an end.
            return self._known[pair]
        self._known[pair] = []
        self._known[pair] = found = self._compare(reader, writer, path)[:MAX_MISFITS]
        return found

    def _compare(self, reader: Node, writer: Node, path: str) -> list[Misfit]:
        if reader.type == writer.type:
            return self._same_type(reader, writer, path)
        if writer.type == "union":
            found: list[Misfit] = []
            for i, branch in enumerate(writer.branches):
                if len(found) < MAX_MISFITS:
                    found += self.of(reader, branch, f"{path}/{i}")
            return found
        if reader.type == "union":
            if any(not self.of(branch, writer, path) for branch in reader.branches):
                return []
            return [_lacking(writer, path)]
        if writer.type in _PROMOTIONS.get(reader.type, ()):
            return []
        types = f"reader type: {reader.type.upper()} not compatible with writer type: {writer.type.upper()}"
        return [Misfit("TYPE_MISMATCH", path or "/", types)]

    def _same_type(self, reader: Node, writer: Node, path: str) -> list[Misfit]:
        match reader.type:
            case "array":
                return self.of(reader.holds, writer.holds, f"{path}/items")
            case "map":
                return self.of(reader.holds, writer.holds, f"{path}/values")
            case "union":
                branches = enumerate(writer.branches)
                return [_lacking(b, f"{path}/{i}") for i, b in branches if self.of(reader, b, f"{path}/{i}")]
            case "fixed":
                return _names(reader, writer, path) + _sizes(reader, writer, path)
            case "enum":
                return _names(reader, writer, path) + _symbols(reader, writer, path)
            case "record":
                return _names(reader, writer, path) + self._fields(reader, writer, path)
            case _:
                return []

    def _fields(self, reader: Node, writer: Node, path: str) -> list[Misfit]:
        written = {field.name: field for field in writer.fields}
        found: list[Misfit] = []
        for position, field in enumerate(reader.fields):
            if len(found) >= MAX_MISFITS:
                break
            source = source_of(field, written)
            place = f"{path}/fields/{position}"
            if source is not None:
                found += self.of(field.type, source.type, f"{place}/type")
            elif field.default is MISSING:
                found.append(Misfit("READER_FIELD_MISSING_DEFAULT_VALUE", place, field.name))
        return found


def source_of(field: Field, written: dict[str, Field]) -> Field | None:
    return next((written[name] for name in (field.name, *field.aliases) if name in written), None)


def _lacking(branch: Node, path: str) -> Misfit:
    return Misfit("MISSING_UNION_BRANCH", path or "/", f"reader union lacking writer type: {branch.type.upper()}")


def _names(reader: Node, writer: Node, path: str) -> list[Misfit]:
    """Apache Avro compares names without their namespace, or takes an alias of the reader."""
    if reader.simple_name == writer.simple_name or writer.name in reader.aliases:
        return []
    return [Misfit("NAME_MISMATCH", f"{path}/name", f"expected: {writer.name}")]


def _sizes(reader: Node, writer: Node, path: str) -> list[Misfit]:
    if reader.size == writer.size:
        return []
    return [Misfit("FIXED_SIZE_MISMATCH", f"{path}/size", f"expected: {writer.size}, found: {reader.size}")]


def _symbols(reader: Node, writer: Node, path: str) -> list[Misfit]:
    unknown = sorted(set(writer.symbols) - set(reader.symbols))
    if not unknown or reader.enum_default is not None:
        return []
    return [Misfit("MISSING_ENUM_SYMBOLS", f"{path}/symbols", f"[{', '.join(unknown)}]")]
