"""From a pointer into a schema to the path of a field that people know: `lines[].quantity`."""

import re
from collections.abc import Iterator

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
    from millstream.schemas.avro.reading import read

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
    from millstream.schemas.formats import InvalidSchema
    from millstream.schemas.protobuf.nodes import Enum, File, Message
    from millstream.schemas.protobuf.reading import read

    try:
        inside: File | Message | Enum = read(text)
    except InvalidSchema:  # what is no schema has no paths; its reader says why
        return
    for name in re.split(r"[/.]", pointer.removeprefix("#")):
        names = {}
        if isinstance(inside, Message):
            names = {field.number: field.name for field in inside.all_fields()}
        elif isinstance(inside, Enum):
            names = {value.number: value.name for value in inside.values}
        if _FIELD_NUMBER.match(name):
            if int(name) in names:
                yield f".{names[int(name)]}"
            continue
        held = [] if isinstance(inside, Enum) else [*inside.messages, *inside.enums]
        inner = next((of for of in held if of.name == name), None)
        if inner is not None:
            inside = inner
        elif name in names.values():
            yield f".{name}"
