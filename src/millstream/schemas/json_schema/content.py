"""Content models: whether an object or array may hold more than its schema speaks of.

Open takes anything, closed nothing, partially open what a pattern or a schema for the rest allows.
"""

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from millstream.schemas.formats import TooMuch
from millstream.schemas.json_schema.nodes import Node

MAX_PATTERNS = 100
"""The number of patterns that one comparison tries; to understand one can take 50 ms."""


def is_open(node: Node) -> bool:
    if node.additional is not None or node.patterns:
        return False
    return node.unevaluated is None or node.unevaluated.target.kind == "empty"


def covering(node: Node) -> Node | None:
    """The rule of a partially open model for everything that is not spoken of; None if the model is closed or open."""
    if node.additional is not None:
        return None if node.additional.kind == "false" else node.additional
    rest = node.unevaluated
    return None if rest is None or rest.target.kind in ("empty", "false") else rest


class Patterns:
    """The patterns that one comparison has tried on the names of properties."""

    def __init__(self) -> None:
        self._known: dict[str, SchemaValidator] = {}

    def is_in(self, pattern: str, name: str) -> bool:
        """Return whether the pattern is found in `name`, in time that grows with the two, not with their possibilities.

        >>> Patterns().is_in("(a+)+$", "a" * 1000 + "b")
        False
        """
        if pattern not in self._known:
            self._known[pattern] = self._understood(pattern)
        try:
            self._known[pattern].validate_python(name)
        except ValidationError:  # it does not match
            return False
        return True

    def _understood(self, pattern: str) -> SchemaValidator:
        if len(self._known) >= MAX_PATTERNS:
            raise TooMuch(f"more than {MAX_PATTERNS} patterns of properties have to be tried")
        try:
            return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
        except SchemaError:
            raise TooMuch(
                f"the pattern {pattern[:200]!r} has to be tried, and is none, or one that can take for ever"
            ) from None
