"""Meanings of values, which Avro's rules, and with them every registry, do not look at.

To them a decimal of any scale is bytes, and a UUID a string. Readers take the same bytes for another number, or fail.
"""

from collections.abc import Iterator

from millstream.operate.schemas.finding import Misfit
from millstream.schemas.avro.nodes import Node
from millstream.schemas.avro.rules import misfits, source_of

_KNOWN = {"uuid", "date", "duration"}
_KNOWN |= {f"{of}-{unit}" for of in ("timestamp", "local-timestamp") for unit in ("millis", "micros", "nanos")}
_KNOWN |= {"time-millis", "time-micros"}
_PLAIN = dict.fromkeys(("int", "long", "float", "double"), "number") | {"bytes": "string"}


def changed_meanings(reader: Node, writer: Node) -> Iterator[Misfit]:
    """Return the paths where `reader` can decode data of `writer`, and would take it for something else.

    >>> from millstream.schemas.avro.reading import read
    >>> text, uuid = read('"string"')[0], read('{"type": "string", "logicalType": "uuid"}')[0]
    >>> [found.kind for found in changed_meanings(uuid, text)]
    ['LOGICAL_TYPE_CHANGED']
    >>> list(changed_meanings(text, uuid))
    []
    """
    yield from _Comparison().of(reader, writer, "")


class _Comparison:
    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def of(self, reader: Node, writer: Node, path: str) -> Iterator[Misfit]:
        if not (reader.is_primitive and writer.is_primitive):
            pair = (id(reader), id(writer))
            if pair in self._seen:
                return
            self._seen.add(pair)
        if writer.type == "union":
            for branch in writer.branches:
                yield from self.of(reader, branch, path)
        elif reader.type == "union":
            yield from self._of_branches(reader, writer, path)
        elif reader.type != writer.type:
            if not misfits(reader, writer):
                yield from _changed(reader, writer, path)
        elif reader.type == "record":
            written = {field.name: field for field in writer.fields}
            for position, field in enumerate(reader.fields):
                if (source := source_of(field, written)) is not None:
                    yield from self.of(field.type, source.type, f"{path}/fields/{position}/type")
        elif reader.type in ("array", "map"):
            inside = "items" if reader.type == "array" else "values"
            yield from self.of(reader.holds, writer.holds, f"{path}/{inside}")
        else:
            yield from _changed(reader, writer, path)

    def _of_branches(self, reader: Node, writer: Node, path: str) -> Iterator[Misfit]:
        """One branch that takes the value for what it is will do."""
        taken = ((i, branch) for i, branch in enumerate(reader.branches) if not misfits(branch, writer))
        ways = [list(self.of(branch, writer, f"{path}/{i}")) for i, branch in taken]
        if all(ways):
            yield from next(iter(ways), [])


def _changed(reader: Node, writer: Node, path: str) -> Iterator[Misfit]:
    read, written = _meaning(reader), _meaning(writer)
    if read == written or (read == "string" and written == "uuid"):
        return
    kind = "LOGICAL_TYPE_CHANGED"
    if _is_decimal(reader) and _is_decimal(writer):
        if _scale(reader) != _scale(writer):
            kind = "DECIMAL_SCALE_CHANGED"
        elif _precision(reader) < _precision(writer):
            kind = "DECIMAL_PRECISION_REDUCED"
        else:
            return
    yield Misfit(kind, path or "/", "", f"reader type: {read} not compatible with writer type: {written}")


def _meaning(node: Node) -> str:
    """Return what a value stands for. Numbers, and text and bytes, which Avro promotes to each other, are one."""
    if _is_decimal(node):
        return f"decimal({_precision(node)}, {_scale(node)})"
    logical = node.props.get("logicalType")
    if logical in _KNOWN:
        return str(logical)
    if node.props.get("unit") == "microseconds":
        return "microseconds"
    return _PLAIN.get(node.type, node.type)


def _is_decimal(node: Node) -> bool:
    return node.props.get("logicalType") == "decimal"


def _scale(node: Node) -> int:
    return int(node.props.get("scale", 0))


def _precision(node: Node) -> int:
    return int(node.props.get("precision", 0))
