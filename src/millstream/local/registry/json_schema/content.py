"""Content models: whether an object or array may hold more than its schema speaks of.

Open takes anything, closed nothing, partially open what a pattern or a schema for the rest allows.
"""

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from millstream.local.registry.formats import TooMuch
from millstream.local.registry.json_schema.nodes import Node


def is_open(node: Node) -> bool:
    if node.additional is not None or node.patterns:
        return False
    return node.unevaluated is None or node.unevaluated.target.kind == "empty"


def covering(node: Node, name: str | None = None) -> Node | None:
    """What a partially open model asks of the rest, or of the property `name`; None if the model is closed to it."""
    if name is not None:
        for pattern, schema in node.patterns.items():
            if _matches(pattern, name):
                return schema
    if node.additional is not None:
        return None if node.additional.kind == "false" else node.additional
    rest = node.unevaluated
    return None if rest is None or rest.target.kind in ("empty", "false") else rest


def _matches(pattern: str, name: str) -> bool:
    """Whether `pattern` is found in `name`, in time that grows with the two and not with their possibilities."""
    try:
        found = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        found.validate_python(name)
    except SchemaError:
        raise TooMuch(f"the pattern {pattern[:200]!r} in it can take for ever to match, or is none") from None
    except ValidationError:
        return False
    return True
