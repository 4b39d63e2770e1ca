"""From a pointer into a schema to the path of a field that people know: `lines[].quantity`."""

import re
from collections.abc import Iterator
from typing import Any

_FIELD_NUMBER = re.compile(r"\d+\Z")


def field_path(schema_type: str, text: str, pointer: str) -> str:
    """The field at `pointer` of a schema; what cannot be followed is left out.

    >>> order = '{"type":"record","name":"Order","fields":[{"name":"lines","type":{"type":"array","items":"long"}}]}'
    >>> field_path("AVRO", order, "/fields/0/type/items")
    'lines[]'
    >>> field_path("JSON", "{}", "#/properties/lines/items/properties/quantity/type")
    'lines[].quantity'
    """
    match schema_type:
        case "AVRO":
            steps = _in_avro(text, pointer)
        case "JSON":
            steps = _in_json_schema(pointer)
        case _:
            steps = _in_protobuf(text, pointer)
    return "".join(steps).removeprefix(".")


def _in_avro(text: str, pointer: str) -> Iterator[str]:
    from millstream.local.registry.avro.reading import read

    node, _ = read(text, as_new=False)
    steps = iter(pointer.split("/")[1:])
    for step in steps:
        if step == "fields":
            number = next(steps, "")
            if node.type != "record" or not number.isdigit() or int(number) >= len(node.fields):
                return
            field = node.fields[int(number)]
            yield f".{field.name}"
            node = field.type
        elif step in ("items", "values") and node.element is not None:
            yield "[]" if step == "items" else "{}"
            node = node.element
        elif step.isdigit() and node.type == "union" and int(step) < len(node.branches):
            node = node.branches[int(step)]


def _in_json_schema(pointer: str) -> Iterator[str]:
    steps = iter(pointer.removeprefix("#").split("/")[1:])
    for step in steps:
        if step == "properties" and (name := next(steps, "")):
            yield "." + name.replace("~1", "/").replace("~0", "~")
        elif step in ("items", "prefixItems"):
            yield "[]"
        elif step == "additionalProperties":
            yield "{}"


def _in_protobuf(text: str, pointer: str) -> Iterator[str]:
    """Pointers name messages, and fields by number: `#/Order/3`. Only the innermost message counts."""
    from proto_schema_parser.parser import Parser

    inside: Any = Parser().parse(text).file_elements
    for step in pointer.removeprefix("#").split("/"):
        for name in step.split("."):
            if _FIELD_NUMBER.match(name):
                field = next((field for field in _fields(inside) if field.number == int(name)), None)
                if field is not None:
                    yield f".{field.name}"
                continue
            inner = next((of for of in inside if getattr(of, "name", None) == name and hasattr(of, "elements")), None)
            if inner is not None:
                inside = inner.elements
            elif name in [field.name for field in _fields(inside)]:
                yield f".{name}"


def _fields(elements: Any) -> Iterator[Any]:
    for element in elements:
        if hasattr(element, "number") and hasattr(element, "name"):
            yield element
        elif type(element).__name__ == "OneOf":
            yield from _fields(element.elements)
