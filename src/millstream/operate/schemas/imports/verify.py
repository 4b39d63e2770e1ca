"""The proof that imported classes mean what their schema said: the module is run, its schema compared with the file."""

import json
import sys
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from millstream.contracts import avro_schema, json_schema, protobuf_schema
from millstream.declare import Value
from millstream.errors import DeclarationError
from millstream.operate.schemas.imports.module import Module, Refused

NAME = "imported_schemas"


def verify(language: str, text: str, source: str, module: Module) -> None:
    """Raises `Refused` where the schema of the classes would mean something else than `text`."""
    with running(source) as classes:
        try:
            if language == "avro":
                _same(avro_meaning(text), avro_meaning(json.dumps(avro_schema(classes[module.main]))), module)
            elif language == "json_schema":
                _same(json_meaning(json.loads(text)), json_meaning(json_schema(classes[module.main])), module)
            else:
                for name, contract in classes.items():
                    _same(protobuf_meaning(text, name), protobuf_meaning(protobuf_schema(contract), name), module)
        except DeclarationError as error:
            raise Refused(str(error)) from None


@contextmanager
def running(source: str) -> Iterator[dict[str, type[Value]]]:
    """The record classes of a module, while it exists."""
    module = types.ModuleType(NAME)
    sys.modules[NAME] = module
    try:
        exec(compile(source, f"<{NAME}>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102 our own text
        yield {
            name: of
            for name, of in vars(module).items()
            if isinstance(of, type) and issubclass(of, Value) and of.__module__ == NAME
        }
    except DeclarationError as error:
        raise Refused(str(error)) from None
    finally:
        del sys.modules[NAME]


def avro_meaning(text: str) -> Any:
    """An Avro schema without documentation, other properties and the order of unions."""
    from millstream.schemas.avro.nodes import MISSING, Node
    from millstream.schemas.avro.reading import read

    seen: set[str] = set()

    def of(node: Node) -> Any:
        if node.type in ("record", "enum", "fixed"):
            if node.name in seen:
                return node.name
            seen.add(node.name)
        match node.type:
            case "record":
                fields = [
                    [f.name, of(f.type), "no default" if f.default is MISSING else [f.default], sorted(f.aliases)]
                    for f in node.fields
                ]
                return {"record": node.name, "fields": fields, "aliases": sorted(node.aliases)}
            case "enum":
                return {"enum": node.name, "symbols": node.symbols}
            case "array" | "map":
                return {node.type: of(node.holds)}
            case "union":
                # Every branch once in full, in this order, before they are sorted.
                return {"union": sorted([of(branch) for branch in node.branches], key=str)}
            case _:
                known = {
                    key: node.props[key] for key in ("logicalType", "precision", "scale", "unit") if key in node.props
                }
                if known.get("logicalType") == "decimal":
                    known.setdefault("scale", 0)
                return [node.type, known] if known else node.type

    return of(read(text, as_new=False)[0])


def protobuf_meaning(text: str, name: str) -> Any:
    """Return the form of a message on the wire and the names of its fields; types are spelled out."""
    from millstream.operate.schemas.imports.protobuf import ProtoFile
    from millstream.schemas.protobuf.nodes import Enum, Field, Message

    proto = ProtoFile(text)

    def of(full: str, above: tuple[str, ...]) -> Any:
        kind = proto.types[full]
        if full in above:
            return len(above) - above.index(full)
        if isinstance(kind, Enum):
            return sorted(value.number for value in kind.values)
        return sorted(members(kind, full, (*above, full)), key=str)

    def members(message: Message, scope: str, above: tuple[str, ...]) -> Iterator[Any]:
        yield from fields(message.fields, scope, above)
        for oneof in message.oneofs:
            yield ["oneof", *fields(oneof.fields, scope, above)]

    def fields(declared: Iterable[Field], scope: str, above: tuple[str, ...]) -> Iterator[Any]:
        for field in declared:
            yield [field.number, field.name, field.key, field.label, typed(field.type, scope, above)]

    def typed(kind: str, scope: str, above: tuple[str, ...]) -> Any:
        full = proto.resolve(kind, scope)
        return kind.removeprefix(".") if full is None else of(full, above)

    full = next(of for of in proto.messages if of.rpartition(".")[2] == name)
    return of(full, ())


def json_meaning(schema: Any) -> Any:
    """A JSON Schema without words and names: references are spelled out."""
    from millstream.operate.schemas.imports.json_schema import SAID, resolve

    def of(part: Any, above: tuple[str, ...]) -> Any:
        if isinstance(part, list):
            return [of(item, above) for item in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            ref = str(part["$ref"])
            if ref in above:
                return len(above) - above.index(ref)
            return of(resolve(schema, ref) | {key: part[key] for key in ("default",) if key in part}, (*above, ref))
        if isinstance(kinds := part.get("type"), list):
            rest = {key: value for key, value in part.items() if key not in ("type", "default")}
            default = {"default": part["default"]} if "default" in part else {}
            return of({"anyOf": [_only(rest, kind) for kind in kinds]} | default, above)
        meaning = {key: properties(key, value, above) for key, value in part.items() if key not in SAID}
        if "properties" in meaning:
            meaning.setdefault("type", "object")
            meaning["required"] = sorted(meaning.get("required", []))
        if "const" in meaning:
            meaning["enum"] = [meaning.pop("const")]
        if "enum" in meaning:
            meaning.pop("type", None)
        if "oneOf" in meaning:
            meaning["anyOf"] = meaning.pop("oneOf")
        if "anyOf" in meaning:
            meaning["anyOf"] = sorted(meaning["anyOf"], key=lambda branch: json.dumps(branch, sort_keys=True))
        return meaning

    def properties(key: str, value: Any, above: tuple[str, ...]) -> Any:
        if key == "default":
            return value
        return {name: of(inner, above) for name, inner in value.items()} if key == "properties" else of(value, above)

    return of(schema, ("#",))


def _only(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"type": kind} if kind == "null" else schema | {"type": kind}


def _same(theirs: Any, ours: Any, module: Module) -> None:
    if theirs != ours and not module.nearest:
        raise Refused(f"{module.main}: the classes would mean something else: {_first_difference(theirs, ours, '')}")


def _first_difference(theirs: Any, ours: Any, path: str) -> str:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            if theirs.get(key) != ours.get(key):
                return _first_difference(theirs.get(key), ours.get(key), f"{path}/{key}")
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        number = next(at for at, (one, other) in enumerate(zip(theirs, ours, strict=True)) if one != other)
        return _first_difference(theirs[number], ours[number], f"{path}/{number}")
    return f"at {path or '/'} {json.dumps(theirs)[:100]} became {json.dumps(ours)[:100]}"
