"""Classes from an Avro schema."""

import json
from decimal import Decimal
from typing import Any

from millstream.operate.schemas.imports.module import FieldWritten, Module, Refused, attribute, quoted
from millstream.schemas.avro.nodes import MISSING, Field, Node
from millstream.schemas.avro.reading import read
from millstream.schemas.formats import InvalidSchema

_PRIMITIVES = {"string": "str", "long": "int", "boolean": "bool", "double": "float", "bytes": "bytes", "null": "None"}
_LOGICAL = {
    ("long", "timestamp-micros"): "datetime",
    ("int", "date"): "date",
    ("long", "time-micros"): "time",
    ("string", "uuid"): "UUID",
}
_WIDER = {"int": ("long", "int"), "float": ("double", "float")}


def read_avro(text: str, module: Module) -> None:
    """Writes the classes of a record schema into `module`. Raises `Refused`."""
    try:
        node, _ = read(text)
    except InvalidSchema as error:
        raise Refused(f"it is no Avro schema: {error}") from None
    if node.type != "record":
        module.refuse("the schema", f"{node.type} at the top", "put it into a field of a record")
    module.main = node.simple_name
    _Reader(module).type(node, "the schema", node.namespace)


class _Reader:
    def __init__(self, module: Module) -> None:
        self._module = module
        self._open: set[str] = set()
        self._done: set[str] = set()

    def type(self, node: Node, where: str, namespace: str) -> str:
        """The annotation for a type; classes are written on the way."""
        match node.type:
            case "record":
                return self._record(node)
            case "enum":
                return self._enum(node, where, namespace)
            case "array":
                return f"tuple[{self.type(node.holds, where, namespace)}, ...]"
            case "map":
                return f"dict[str, {self.type(node.holds, where, namespace)}]"
            case "union":
                # None last reads best; the order in the schema comes from the default.
                branches = sorted(node.branches, key=lambda branch: branch.type == "null")
                return " | ".join(self.type(branch, where, namespace) for branch in branches)
            case "fixed":
                self._module.instead(where, f"fixed({node.size})", "write bytes")
                return "bytes"
            case _:
                return self._scalar(node, where)

    def _scalar(self, node: Node, where: str) -> str:
        logical = node.props.get("logicalType")
        if logical == "decimal" and node.type == "bytes":
            scale = self._module.note("Scale", node.props.get("precision", 0), node.props.get("scale", 0))
            return f"Annotated[{self._module.use('Decimal')}, {scale}]"
        if (python := _LOGICAL.get((node.type, str(logical)))) is not None:
            return self._module.use(python)
        if node.type == "long" and node.props.get("unit") == "microseconds":
            return self._module.use("timedelta")
        if logical is not None:
            known = "timestamp-micros, date, time-micros, uuid and decimal"
            self._module.instead(where, f"{node.type} as {logical}", f"write one of {known}")
        if node.type in _WIDER:
            wider, python = _WIDER[node.type]
            self._module.instead(where, node.type, f"write {wider}, which reads it, too")
            return python
        return _PRIMITIVES[node.type]

    def _record(self, node: Node) -> str:
        if node.name in self._done | self._open:
            return self._module.refer(node.simple_name, written=node.name in self._done)
        self._open.add(node.name)
        fields = [self._field(field, node) for field in node.fields]
        self._open.discard(node.name)
        self._done.add(node.name)
        space = node.namespace
        aliases = [alias.removeprefix(f"{space}.") for alias in node.aliases]
        self._module.record(node.simple_name, fields, namespace=space, doc=node.doc or "", aliases=aliases)
        return node.simple_name

    def _field(self, field: Field, record: Node) -> FieldWritten:
        where = f"{record.simple_name}.{field.name}"
        if field.order != "ascending":
            self._module.instead(where, f"the order {field.order}", "leave it out")
        annotation = self.type(field.type, where, record.namespace)
        deprecated = field.props.get("deprecated")
        doc = (field.doc or "").removesuffix(f"Deprecated: {deprecated}").strip()
        notes = [self._module.note("Alias", alias) for alias in field.aliases]
        notes += [self._module.note("Doc", doc)] if doc else []
        notes += [self._module.note("Deprecated", deprecated)] if isinstance(deprecated, str) else []
        default = None if field.default is MISSING else self._default(field.type, field.default, where)
        return FieldWritten(field.name, annotation, notes, default)

    def _enum(self, node: Node, where: str, namespace: str) -> str:
        if node.namespace != namespace:
            self._module.instead(where, f"the namespace of {node.name}", f"an enum lives in its record's, {namespace}")
        if node.enum_default is not None:
            self._module.instead(where, f"the default of {node.name}", "leave it out, and keep its symbols for ever")
        if node.aliases:
            self._module.instead(where, f"the alias of {node.name}", "leave it out")
        if node.name not in self._done:
            self._done.add(node.name)
            self._module.enum(node.simple_name, {symbol: symbol for symbol in node.symbols}, node.doc or "")
        return node.simple_name

    def _default(self, node: Node, value: Any, where: str) -> str:
        module, logical = self._module, node.props.get("logicalType")
        match node.type:
            case "union":
                return self._default(next(of for of in node.branches if _fits(of, value)), value, where)
            case "array":
                items = [self._default(node.holds, item, where) for item in value]
                return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
            case "map" if not value:
                module.import_msgspec()
                return "msgspec.field(default_factory=dict)"
            case "enum":
                return f"{node.simple_name}.{attribute(value)}"
            case "bytes" if logical == "decimal":
                unscaled = int.from_bytes(value.encode("latin-1"), "big", signed=True)
                return f'{module.use("Decimal")}("{Decimal(unscaled).scaleb(-node.props.get("scale", 0))}")'
            case "bytes" | "fixed":
                return quoted(value.encode("latin-1"))
            case "record" | "map":
                module.instead(where, f"the default {json.dumps(value)[:80]}", "make the field optional")
                return "None"
            case "double" | "float":
                return repr(float(value))
            case _ if logical is not None and value is not None:
                module.instead(where, f"a default of {logical}", "make the field optional, with the default null")
                return "None"
            case _:
                return quoted(value)


def _fits(node: Node, value: Any) -> bool:
    match value:
        case None:
            return node.type == "null"
        case bool():
            return node.type == "boolean"
        case int():
            return node.type in ("int", "long", "double", "float")
        case float():
            return node.type in ("double", "float")
        case str():
            return node.type in ("string", "bytes", "enum", "fixed")
        case list():
            return node.type == "array"
        case _:
            return node.type in ("map", "record")
