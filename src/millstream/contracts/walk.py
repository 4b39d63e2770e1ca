"""Walks through Avro bytes by any schema without building values: says what is wrong where, in bounded time.

It explains what a generated decoder refused, and guards libraries that trust the lengths they read. No text quotes a
value or a map's key: nothing here says what is personal.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from millstream.contracts.schema import PRIMITIVES, Schema, record_name
from millstream.contracts.varint import read_long
from millstream.errors import DecodeError

MAX_DEPTH = 100
NAMED = ("record", "error", "enum", "fixed")
"""Types of a schema that have a name."""
_FIXED_SIZE = {"float": 4, "double": 8}


class NamedType(NamedTuple):
    """A record, enum or fixed as it is declared, and the namespace around its declaration."""

    schema: dict[str, Any]
    namespace: str


def named_types(schema: Schema) -> dict[str, NamedType]:
    """Collect the named types of a schema by full name, wherever they are declared; of two of one name, the first.

    Raises `DecodeError` (`unreadable_schema`) for a schema that is nested too deep.
    """
    found: dict[str, NamedType] = {}
    _collect(schema, "", 0, found)
    return found


def _collect(schema: Any, namespace: str, depth: int, found: dict[str, NamedType]) -> None:
    if depth > MAX_DEPTH:
        raise DecodeError("unreadable_schema", "the schema is nested too deep")
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, namespace, depth + 1, found)
    if not isinstance(schema, dict):
        return
    if schema.get("type") in NAMED:
        name = record_name(schema, namespace)
        found.setdefault(name, NamedType(schema, namespace))
        namespace = name.rpartition(".")[0]
    for part in (schema.get("type"), schema.get("items"), schema.get("values")):
        _collect(part, namespace, depth + 1, found)
    fields = schema.get("fields")
    for field in fields if isinstance(fields, list) else ():
        _collect(field.get("type") if isinstance(field, dict) else None, namespace, depth + 1, found)


class Walker:
    """Checks messages against one schema. Raises `DecodeError("unreadable_schema", …)` where that makes no sense."""

    def __init__(self, schema: Schema) -> None:
        self._names = named_types(schema)
        self._schema = schema

    def check(self, message: bytes, at: int) -> None:
        """Raises `DecodeError` unless the bytes from `at` to the end are exactly one value of the schema."""
        walk = _Walk(self._names, message, at)
        try:
            walk.value(self._schema, "", "", 0)
        except (KeyError, TypeError, AttributeError) as error:
            raise DecodeError("unreadable_schema", f"{type(error).__name__}: {error}") from error
        if walk.at != len(message):
            raise DecodeError("trailing_bytes", f"{len(message) - walk.at} bytes follow after the end of the record")


class _Walk:
    """One message on its way. Every step costs, so that empty records in endless arrays come to an end too."""

    def __init__(self, names: Mapping[str, NamedType], data: bytes, at: int) -> None:
        self._names = names
        self._data = data
        self._steps = 1000 + 16 * len(data)
        self.at = at

    def value(self, schema: Any, namespace: str, path: str, depth: int) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise DecodeError("too_large", f"{path or 'the value'} has far more values than bytes")
        if depth > MAX_DEPTH:
            raise DecodeError("too_deep", f"more than {MAX_DEPTH} levels at {path[:200]}")
        if isinstance(schema, str):
            self._named(schema, namespace, path, depth)
            return
        if isinstance(schema, list):
            branch = self._index(len(schema), path, "branch of the union")
            self.value(schema[branch], namespace, path, depth + 1)
            return
        kind = schema.get("type") if isinstance(schema, dict) else None
        match kind:
            case "record" | "error":
                name = record_name(schema, namespace)
                inner = name.rpartition(".")[0]
                for field in schema["fields"]:
                    self.value(field["type"], inner, f"{path or name.rpartition('.')[2]}.{field['name']}", depth + 1)
            case "array":
                for number in self._items(path):
                    self.value(schema["items"], namespace, f"{path}[{number}]", depth + 1)
            case "map":
                for number in self._items(path):
                    self._text(f"{path}: key {number}")
                    self.value(schema["values"], namespace, f"{path}[key {number}]", depth + 1)
            case "enum":
                self._index(len(schema["symbols"]), path, "symbol")
            case "fixed":
                self._skip(schema["size"], path)
            case str() | list() | dict():
                self.value(kind, namespace, path, depth + 1)
            case _:
                raise DecodeError("unreadable_schema", f"no type at {path or 'the top'}")

    def _named(self, name: str, namespace: str, path: str, depth: int) -> None:
        match name:
            case "null":
                pass
            case "boolean":
                if self._byte(path) > 1:
                    raise DecodeError("invalid", f"{path}: no boolean at byte {self.at - 1}")
            case "int" | "long":
                number = self._long(path)
                if name == "int" and not -(1 << 31) <= number < 1 << 31:
                    raise DecodeError("too_large", f"{path}: an int that does not fit 32 bits")
            case "float" | "double":
                self._skip(_FIXED_SIZE[name], path)
            case "bytes":
                self._skip(self._long(path), path)
            case "string":
                self._text(path)
            case _:
                full = name if "." in name or not namespace else f"{namespace}.{name}"
                known = self._names.get(full) or self._names.get(name)
                if known is None or name in PRIMITIVES:
                    raise DecodeError("unreadable_schema", f"{path}: the schema does not say what {name[:80]} is")
                self.value(known.schema, known.namespace, path, depth + 1)

    def _items(self, path: str) -> Any:
        number = 0
        while count := self._long(path):
            if count < 0:
                count = -count
                self._long(path)
            for _ in range(count):
                yield number
                number += 1

    def _index(self, size: int, path: str, what: str) -> int:
        index = self._long(path)
        if not 0 <= index < size:
            raise DecodeError("invalid", f"{path}: there is no such {what}")
        return index

    def _text(self, path: str) -> str:
        size = self._long(path)
        start = self.at
        self._skip(size, path)
        try:
            return self._data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise DecodeError("invalid", f"{path}: no UTF-8 at byte {start + error.start}") from None

    def _long(self, path: str) -> int:
        try:
            number, self.at = read_long(self._data, self.at)
        except IndexError:
            raise self._truncated(path) from None
        except OverflowError:
            raise DecodeError("too_large", f"{path}: a number longer than 64 bits at byte {self.at}") from None
        return number

    def _byte(self, path: str) -> int:
        self._skip(1, path)
        return self._data[self.at - 1]

    def _skip(self, size: int, path: str) -> None:
        if size < 0:
            raise DecodeError("invalid", f"{path}: a length below zero at byte {self.at}")
        if size > len(self._data) - self.at:
            raise self._truncated(path)
        self.at += size

    def _truncated(self, path: str) -> DecodeError:
        return DecodeError("truncated", f"the {len(self._data)} bytes end inside {path or 'the record'}")
