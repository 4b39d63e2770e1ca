"""Avro schemas of others as readers of bytes: every named type found by its full name, wherever it is declared.

A reader is a function from the bytes and a position to the value and where it ends. Readers of one schema are put
together once; a value costs no more look at the schema. They check no more than they need to: their caller finds
truncated and hostile bytes with a `Walker`, before or after.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from millstream.contracts.meaning import Convert, Meaning, meaning_of, untyped
from millstream.contracts.schema import PRIMITIVES, Schema, record_name
from millstream.contracts.varint import read_long
from millstream.contracts.walk import MAX_DEPTH, NAMED, named_types
from millstream.errors import DecodeError

Reader: TypeAlias = Callable[[bytes, int], tuple[Any, int]]

_KINDS = PRIMITIVES | {"record", "enum", "fixed", "array", "map", "union"}


class Node(NamedTuple):
    """A type of the writer: its kind, what it stands for, how it is declared, in which namespace."""

    kind: str
    meaning: Meaning
    schema: Any
    namespace: str
    name: str = ""
    """In full, where it has one."""

    @property
    def parts(self) -> list[tuple[str, Any]]:
        """The names and types of a record's fields."""
        return [(str(field["name"]), field["type"]) for field in self.schema["fields"]]


class Names:
    """The named types of one schema. Raises `DecodeError` (`unreadable_schema`) where the schema makes no sense."""

    def __init__(self, schema: Schema) -> None:
        self._types = named_types(schema)
        self._empty: dict[str, bool] = {}
        self.needs_bounds = False
        """True where a `Walker` must look at the bytes before they are read."""

    def node(self, schema: Any, namespace: str) -> Node:
        """Resolve a type that is named in `namespace`."""
        for _ in range(MAX_DEPTH):
            if isinstance(schema, list):
                return Node("union", Meaning("union"), schema, namespace)
            if isinstance(schema, str):
                if schema in PRIMITIVES:
                    return Node(schema, meaning_of(schema, schema), schema, namespace)
                full = schema if "." in schema or not namespace else f"{namespace}.{schema}"
                found = self._types.get(full) or self._types.get(schema)
                if found is None:
                    raise _unreadable(f"it does not say what {schema[:80]} is")
                schema, namespace = found
            if not isinstance(schema, dict):
                raise _unreadable(f"{str(schema)[:80]} is no type")
            kind = schema.get("type")
            if not isinstance(kind, str):
                schema = kind
                continue
            if kind in NAMED:
                kind = "record" if kind == "error" else kind
                return self._named(kind, schema, namespace)
            if kind in _KINDS:
                return Node(kind, meaning_of(kind, schema), schema, namespace)
            schema = kind
        raise _unreadable("it is nested too deep, or inside itself")

    def _named(self, kind: str, schema: dict[str, Any], namespace: str) -> Node:
        name = record_name(schema, namespace)
        match kind:
            case "record":
                sound = isinstance(schema.get("fields"), list) and all(
                    isinstance(field, dict) and isinstance(field.get("name"), str) and "type" in field
                    for field in schema["fields"]
                )
            case "enum":
                symbols = schema.get("symbols")
                sound = isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols)
            case _:
                sound = type(schema.get("size")) is int and schema["size"] >= 0
        if not sound:
            raise _unreadable(f"{name[:80]} is no {kind} that makes sense")
        return Node(kind, meaning_of(kind, schema), schema, name.rpartition(".")[0], name)

    def items(self, array: Node) -> Any:
        """The type of an array's items. Ones without bytes are noted: few bytes can count endless ones."""
        items = array.schema.get("items")
        self.needs_bounds = self.needs_bounds or self._is_empty(items, array.namespace)
        return items

    def _is_empty(self, schema: Any, namespace: str) -> bool:
        node = self.node(schema, namespace)
        match node.kind:
            case "record":
                if node.name not in self._empty:
                    self._empty[node.name] = True  # unless some field says otherwise; holding itself does not
                    self._empty[node.name] = all(self._is_empty(of, node.namespace) for _, of in node.parts)
                return self._empty[node.name]
            case "fixed":
                return node.schema["size"] == 0
            case kind:
                return kind == "null"


def _unreadable(why: str) -> DecodeError:
    return DecodeError("unreadable_schema", why)


def _null(b: bytes, p: int) -> tuple[None, int]:
    return None, p


def _boolean(b: bytes, p: int) -> tuple[bool, int]:
    return (False, True)[b[p]], p + 1


_float, _double = struct.Struct("<f").unpack_from, struct.Struct("<d").unpack_from


def _read_float(b: bytes, p: int) -> tuple[float, int]:
    return _float(b, p)[0], p + 4


def _read_double(b: bytes, p: int) -> tuple[float, int]:
    return _double(b, p)[0], p + 8


def read_bytes(b: bytes, p: int) -> tuple[bytes, int]:
    """Raises `EOFError` where less is left than the length says."""
    size = b[p]
    if size & 129:
        size, p = read_long(b, p)
        if size < 0:
            raise EOFError
    else:
        size, p = size >> 1, p + 1
    end = p + size
    if end > len(b):
        raise EOFError
    return b[p:end], end


def _text(b: bytes, p: int) -> tuple[str, int]:
    raw, p = read_bytes(b, p)
    return raw.decode(), p


PRIMITIVE: dict[str, Reader] = {
    "null": _null,
    "boolean": _boolean,
    "int": read_long,
    "long": read_long,
    "float": _read_float,
    "double": _read_double,
    "bytes": read_bytes,
    "string": _text,
}


def fixed_reader(size: int) -> Reader:
    """Raises `EOFError` at the end."""

    def read(b: bytes, p: int) -> tuple[bytes, int]:
        end = p + size
        if end > len(b):
            raise EOFError
        return b[p:end], end

    return read


def blocks(b: bytes, p: int) -> tuple[int, int]:
    """The number of items in a block of an array or map, and where they begin. None is left of an empty one."""
    count, p = read_long(b, p)
    if count < 0:  # the block says how many bytes it has, for readers that pass over it
        count = -count
        _, p = read_long(b, p)
    return count, p


def array_reader(item: Reader, container: Callable[[list[Any]], Any]) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        found: list[Any] = []
        while True:
            count, p = blocks(b, p)
            if not count:
                return container(found), p
            for _ in range(count):
                value, p = item(b, p)
                found.append(value)

    return read


def map_reader(value: Reader) -> Reader:
    def read(b: bytes, p: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while True:
            count, p = blocks(b, p)
            if not count:
                return found, p
            for _ in range(count):
                key, p = _text(b, p)
                found[key], p = value(b, p)

    return read


def union_reader(branches: list[Reader]) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        branch, p = read_long(b, p)
        if branch < 0:
            raise IndexError
        return branches[branch](b, p)

    return read


def enum_reader(values: list[Any]) -> Reader:
    def read(b: bytes, p: int) -> tuple[Any, int]:
        index, p = read_long(b, p)
        if index < 0:
            raise IndexError
        return values[index], p

    return read


def converted(read: Reader, convert: Convert, path: str, *, quiet: bool) -> Reader:
    """`read` and then `convert`, whose errors get the path of the field.

    - `quiet`: quote no value, as for a class with personal fields.
    """

    def read_converted(b: bytes, p: int) -> tuple[Any, int]:
        value, p = read(b, p)
        try:
            return convert(value), p
        except (ValueError, ArithmeticError, LookupError, TypeError) as error:
            raise DecodeError("invalid", f"{path}: {told_of(error, quiet=quiet)}") from None

    return read_converted


def told_of(error: Exception, *, quiet: bool) -> str:
    """The text of an error, and its class where that is not enough, or what it says might quote a value."""
    if quiet:
        return f"a value that cannot be read ({type(error).__name__})"
    text = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    return (
        text[:500] if isinstance(error, ValueError | LookupError) and text else f"{type(error).__name__}: {text[:500]}"
    )


class Deferred:
    """Readers of records by what they are made for, so that a record that holds itself is made once."""

    def __init__(self) -> None:
        self._known: dict[Any, Reader] = {}
        self._open: set[Any] = set()

    def reader(self, key: Any, build: Callable[[], Reader]) -> Reader:
        if (known := self._known.get(key)) is not None:
            return known
        if key in self._open:
            return lambda b, p: self._known[key](b, p)
        self._open.add(key)
        made = self._known[key] = build()
        self._open.discard(key)
        return made


class Plain:
    """Readers without a class: records become dicts, and what the schema explains becomes what a class would have."""

    def __init__(self, names: Names, *, convert: bool) -> None:
        self._names = names
        self._convert = convert
        self._made = Deferred()

    def reader(self, schema: Any, namespace: str, path: str) -> Reader:
        node = self._names.node(schema, namespace)
        read = self._made.reader(node.name, lambda: self._of(node, path)) if node.name else self._of(node, path)
        if self._convert and (convert := untyped(node.meaning)) is not None:
            return converted(read, convert, path, quiet=True)  # no declaration says what is personal
        return read

    def _of(self, node: Node, path: str) -> Reader:
        schema, inside = node.schema, node.namespace
        match node.kind:
            case "record":
                where = path or node.name.rpartition(".")[2]
                return self._record([(name, self.reader(of, inside, f"{where}.{name}")) for name, of in node.parts])
            case "array":
                return array_reader(self.reader(self._names.items(node), inside, f"{path}[]"), _same)
            case "map":
                return map_reader(self.reader(schema.get("values"), inside, f"{path}[]"))
            case "union":
                return union_reader([self.reader(branch, inside, path) for branch in schema])
            case "enum":
                return enum_reader(schema["symbols"])
            case "fixed":
                return fixed_reader(schema["size"])
            case "string" if not self._convert:
                return read_bytes
            case kind:
                return PRIMITIVE[kind]

    def _record(self, parts: list[tuple[str, Reader]]) -> Reader:
        def read(b: bytes, p: int) -> tuple[dict[str, Any], int]:
            found: dict[str, Any] = {}
            for name, part in parts:
                found[name], p = part(b, p)
            return found, p

        return read


def _same(found: list[Any]) -> Any:
    return found
