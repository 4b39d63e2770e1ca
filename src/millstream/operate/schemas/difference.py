"""The difference between two schemas of one class, field by field, for people."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from millstream.schemas.avro.nodes import MISSING, Field, Node
from millstream.schemas.avro.reading import read


def difference(schema_type: str, old: str, new: str) -> list[str]:
    """Lines that begin with `+`, `-` or `~`, one for each field that came, went or changed; empty if none did.

    >>> parcel = '{"type":"record","name":"Parcel","fields":[{"name":"grams","type":%s}]}'
    >>> difference("AVRO", parcel % '"int"', parcel % '["int","null"],"default":0')
    ['~ grams: int, no default → int | null, default 0']
    """
    if schema_type != "AVRO":
        return _lines(_pretty(old), _pretty(new))
    before, after = _flat(old), _flat(new)
    told = [
        f"~ {path or 'the class'}: {before[path]} → {said}" if path in before else f"+ {path}: {said}"
        for path, said in after.items()
        if before.get(path) != said
    ]
    return told + [f"- {path}: {said}" for path, said in before.items() if path not in after]


def _flat(text: str) -> dict[str, str]:
    node, _ = read(text, as_new=False)
    return {"": _named(node), **dict(_fields(node, "", ()))}


def _fields(node: Node, path: str, open_records: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if node.name in open_records:
        return
    for field in node.fields:
        place = f"{path}.{field.name}".removeprefix(".")
        yield place, _said(field)
        for inner, suffix in _records_in(field.type):
            yield from _fields(inner, place + suffix, (*open_records, node.name))


def _records_in(node: Node, suffix: str = "") -> Iterator[tuple[Node, str]]:
    match node.type:
        case "record":
            yield node, suffix
        case "array":
            yield from _records_in(node.holds, suffix + "[]")
        case "map":
            yield from _records_in(node.holds, suffix + "{}")
        case "union":
            for branch in node.branches:
                yield from _records_in(branch, suffix)
        case _:
            pass


def _said(field: Field) -> str:
    parts = [_type(field.type), "no default" if field.default is MISSING else f"default {_json(field.default)}"]
    if field.aliases:
        parts.append(f"alias {', '.join(field.aliases)}")
    if field.doc:
        parts.append(f"“{field.doc}”")
    return ", ".join(parts)


def _named(node: Node) -> str:
    parts = [node.name or node.type]
    if node.aliases:
        parts.append(f"alias {', '.join(node.aliases)}")
    if node.doc:
        parts.append(f"“{node.doc}”")
    return ", ".join(parts)


def _type(node: Node) -> str:
    match node.type:
        case "union":
            return " | ".join(_type(branch) for branch in node.branches)
        case "array":
            return f"array of {_type(node.holds)}"
        case "map":
            return f"map of {_type(node.holds)}"
        case "enum":
            return f"{node.simple_name}({', '.join(node.symbols)})"
        case "record":
            return node.simple_name
        case _:
            logical = node.props.get("logicalType")
            if logical == "decimal":
                return f"decimal({node.props.get('precision')}, {node.props.get('scale', 0)})"
            return str(logical or node.type)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pretty(text: str) -> list[str]:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        return text.splitlines()


def _lines(old: list[str], new: list[str]) -> list[str]:
    compared = difflib.ndiff(old, new)
    return [f"{line[0]} {line[2:].strip()}" for line in compared if line[0] in "+-"]
