"""Classes from a JSON Schema."""

import json
import re
from typing import Any

from millstream.operate.schemas.imports.module import FieldWritten, Module, Refused, quoted

_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_FORMATS = {"date-time": "datetime", "date": "date", "uuid": "UUID"}
_PATTERNS = {r"^\d{2}:\d{2}:\d{2}(\.\d{1,6})?$": "time", "^-?P": "timedelta"}
SAID = frozenset(
    {"$schema", "$id", "$comment", "title", "description", "examples", "deprecated", "$defs", "definitions"}
)
"""Keywords that say nothing about what fits."""
_TAKEN = {
    "string": {"type", "format", "contentEncoding", "pattern", "precision", "scale"},
    "array": {"type", "items", "prefixItems", "uniqueItems", "minItems", "maxItems"},
    "object": {"type", "properties", "required", "additionalProperties"},
}


def read_json_schema(text: str, name: str, module: Module) -> None:
    """Writes the classes of an object schema into `module`. Raises `Refused`."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"it is no JSON: {error}") from None
    if not isinstance(schema, dict) or not ("properties" in schema or schema.get("type") == "object"):
        module.refuse("the schema", "anything but an object at the top", 'write {"type": "object", "properties": …}')
    title = str(schema.get("title", ""))
    namespace, _, short = title.rpartition(".")
    module.main = class_name(short or name)
    _Reader(schema, module, namespace if re.fullmatch(r"\w+(\.\w+)*", namespace) else "").record(
        "#", schema, module.main
    )


def class_name(text: str) -> str:
    """A name for a class.

    >>> class_name("order line"), class_name("shop.OrderLine")
    ('OrderLine', 'OrderLine')
    """
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[A-Za-z0-9]+", text.rpartition(".")[2]))


def resolve(root: Any, ref: str) -> Any:
    """Return what a reference inside the document points to, or None."""
    found = root
    for step in ref.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if ref.startswith("#") else None


class _Reader:
    def __init__(self, root: dict[str, Any], module: Module, namespace: str) -> None:
        self._root = root
        self._module = module
        self._namespace = namespace
        self._open: dict[str, str] = {}
        self._done: dict[str, str] = {}

    def record(self, place: str, schema: dict[str, Any], name: str) -> str:
        """The class of an object, written if it is not yet. `place` is its reference."""
        if place in self._done or place in self._open:
            known = self._done.get(place) or self._open[place]
            return self._module.refer(known, written=place in self._done)
        self._open[place] = name
        self._check(schema, "object", name)
        if schema.get("additionalProperties", True) is not False:
            self._module.instead(name, "an open object", 'write "additionalProperties": false')
        required = schema.get("required", [])
        fields = [self._field(name, of, inner, of in required) for of, inner in schema.get("properties", {}).items()]
        # Python wants no order, since fields are given by keyword.
        self._module.record(name, fields, namespace=self._namespace, doc=str(schema.get("description", "")))
        self._done[place] = self._open.pop(place)
        return name

    def _field(self, record: str, name: str, schema: Any, required: bool) -> FieldWritten:
        where = f"{record}.{name}"
        if not isinstance(schema, dict):
            self._module.refuse(where, json.dumps(schema), "describe its type")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            self._module.refuse(where, f"the name {name!r}", "use letters, digits and _ only")
        annotation = self.type(schema, where, class_name(f"{record} {name}"))
        doc = str(schema.get("description", ""))
        notes: list[str] = []
        if schema.get("deprecated"):
            doc, _, why = doc.partition("Deprecated: ")
            notes.append(self._module.note("Deprecated", why))
        notes = ([self._module.note("Doc", doc.strip())] if doc.strip() else []) + notes
        default = self._default(schema, annotation, where) if "default" in schema else None
        if default is None and not required:
            self._module.instead(where, "an optional property without a default", 'give it a "default"')
            annotation, default = annotation if "None" in annotation else f"{annotation} | None", "None"
        if default is not None and required:
            self._module.instead(where, "a required property with a default", "drop one of them")
        return FieldWritten(name, annotation, notes, default)

    def type(self, schema: Any, where: str, name: str) -> str:
        """The annotation for a type; `name` is for a class that has none."""
        found = self._type(schema, where, name) if isinstance(schema, dict) else None
        if found is None:
            unknown = next((word for word in schema if word not in SAID), "") if isinstance(schema, dict) else schema
            self._module.refuse(where, f"{unknown!r} without a type", "describe its type")
        return found

    def _type(self, schema: dict[str, Any], where: str, name: str) -> str | None:
        if "$ref" in schema:
            return self._referred(schema["$ref"], where)
        if "enum" in schema or "const" in schema:
            return self._literal(schema.get("enum", [schema.get("const")]), where)
        for union in ("anyOf", "oneOf"):
            if union in schema:
                return self._union(schema[union], where, name)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._union([schema | {"type": of} for of in kind], where, name)
        if kind is None and "properties" in schema:
            kind = "object"
        match kind:
            case "array":
                return self._array(schema, where, name)
            case "object" if isinstance(schema.get("additionalProperties"), dict) and "properties" not in schema:
                self._check(schema, "object", where)
                return f"dict[str, {self.type(schema['additionalProperties'], where, name)}]"
            case "object":
                return self.record(where, schema, class_name(str(schema.get("title", ""))) or name)
            case "string":
                return self._text(schema, where)
            case str() if kind in _SCALARS:
                self._check(schema, kind, where)
                return _SCALARS[kind]
            case _:
                return None

    def _referred(self, ref: str, where: str) -> str:
        target = resolve(self._root, ref)
        if target is None:
            self._module.refuse(where, f"the reference {ref}", "put what it refers to under $defs of this file")
        name = self._module.main if ref == "#" else class_name(ref.rpartition("/")[2])
        is_record = isinstance(target, dict) and "properties" in target
        return self.record(ref, target, name) if is_record else self.type(target, where, name)

    def _union(self, branches: list[Any], where: str, name: str) -> str:
        named = all(branch == {"type": "null"} or _named_branch(branch) for branch in branches)
        inner = [_named_branch(branch) or branch if named else branch for branch in branches]
        kinds = [
            self.type(of, where, f"{name}{number}" if len(inner) > 2 else name) for number, of in enumerate(inner, 1)
        ]
        return " | ".join(sorted(dict.fromkeys(kinds), key=lambda kind: kind == "None"))

    def _array(self, schema: dict[str, Any], where: str, name: str) -> str:
        self._check(schema, "array", where)
        if "prefixItems" in schema:
            parts = enumerate(schema["prefixItems"], 1)
            return f"tuple[{', '.join(self.type(part, where, f'{name}{number}') for number, part in parts)}]"
        if "minItems" in schema or "maxItems" in schema:
            self._module.instead(where, "a bound on the number of items", "leave it out")
        item = self.type(schema.get("items"), where, name)
        return f"frozenset[{item}]" if schema.get("uniqueItems") else f"tuple[{item}, ...]"

    def _text(self, schema: dict[str, Any], where: str) -> str:
        self._check(schema, "string", where)
        module, format, pattern = self._module, schema.get("format"), schema.get("pattern")
        if format == "decimal" and "precision" in schema:
            scale = module.note("Scale", schema["precision"], schema.get("scale", 0))
            return f"Annotated[{module.use('Decimal')}, {scale}]"
        if pattern is not None and pattern in _PATTERNS:
            return module.use(_PATTERNS[pattern])
        if pattern is not None:
            module.instead(where, f"the pattern {pattern!r}", "check it where the event is made")
        if format in _FORMATS:
            return module.use(_FORMATS[format])
        if format is not None:
            module.instead(where, f"the format {format!r}", "leave it out")
        if "contentEncoding" in schema:
            if schema["contentEncoding"] != "base64":
                module.refuse(where, f"the encoding {schema['contentEncoding']!r}", "write base64")
            return "bytes"
        return "str"

    def _literal(self, values: list[Any], where: str) -> str:
        if not values or len({type(value) for value in values}) > 1 or type(values[0]) not in (str, int):
            self._module.refuse(where, f"the enum {json.dumps(values)[:80]}", "use texts only, or whole numbers only")
        return f"{self._module.use('Literal')}[{', '.join(map(quoted, values))}]"

    def _check(self, schema: dict[str, Any], kind: str, where: str) -> None:
        for word in schema:
            if word not in SAID and word != "default" and word not in _TAKEN.get(kind, {"type"}):
                self._module.instead(where, f"{word!r}", "check it where the event is made, and leave it out")

    def _default(self, schema: dict[str, Any], annotation: str, where: str) -> str:
        value = schema["default"]
        if value == [] and annotation.startswith("frozenset"):
            return "frozenset()"
        if value == []:
            return "()"
        if value == {} and annotation.startswith("dict"):
            self._module.import_msgspec()
            return "msgspec.field(default_factory=dict)"
        plain = {str: "str", int: "int", bool: "bool", float: "float", type(None): "None"}
        if type(value) in plain and (plain[type(value)] in annotation.split(" | ") or "Literal[" in annotation):
            return quoted(value)
        if type(value) is int and "float" in annotation.split(" | "):
            return repr(float(value))
        self._module.instead(where, f"the default {json.dumps(value)[:80]}", "make it null, empty, a text or a number")
        return "None"


def _named_branch(branch: Any) -> Any:
    """Return the inside of an object with one key, as branches are written that JSON could not tell apart."""
    if not isinstance(branch, dict) or set(branch) != {"type", "properties", "required", "additionalProperties"}:
        return None
    properties = branch["properties"]
    closed = branch["additionalProperties"] is False and branch["required"] == list(properties)
    return next(iter(properties.values())) if closed and len(properties) == 1 else None
