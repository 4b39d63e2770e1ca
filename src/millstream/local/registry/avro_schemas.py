"""What the registry knows of Avro: one text for one schema, whether it is valid, and who can read whose data.

The rules are those of the `avro` package, imported only once a schema has to be judged.
"""

import json
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from millstream.local.registry.errors import invalid_schema

if TYPE_CHECKING:
    from avro.schema import Schema

# The order in which Avro's own printer writes what it knows of a schema; anything else keeps its place behind.
_PRINTED_FIRST = ("type", "name", "namespace", "doc", "fields", "symbols", "items", "values", "size")
_PRINTED_FIRST_IN_FIELD = ("name", "type", "doc", "default", "order")


def canonical(text: str) -> str:
    """The one text that stands for this schema, whatever its white space and the order of its attributes.

    Raises `Refusal` 42201 for what is no valid Avro schema.
    """
    try:
        tree = json.loads(text)
        printed = json.dumps(_arranged(tree), separators=(",", ":"), ensure_ascii=False)
        _parsed(printed)
    except RecursionError:
        invalid_schema("it is nested too deeply")
    except ValueError as error:
        invalid_schema(f"it is not JSON: {error}")
    return printed


def unreadable(reader: str, writer: str) -> list[str]:
    """Why a reader with the first canonical schema cannot read what was written with the second; empty if it can."""
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

    result = ReaderWriterCompatibilityChecker().get_compatibility(_parsed(reader), _parsed(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    kinds = sorted({kind.name.upper() for kind in result.incompatibilities})
    places, messages = sorted(result.locations), sorted(result.messages)
    return [f"{', '.join(kinds)} at {', '.join(places)}: {'; '.join(messages)}"]


@lru_cache(maxsize=256)
def _parsed(text: str) -> "Schema":
    import avro.errors
    import avro.schema

    try:
        with warnings.catch_warnings():
            # Unknown logical types are ignored, as the specification says, without a word.
            warnings.simplefilter("ignore")
            return avro.schema.parse(text)
    except (avro.errors.AvroException, ValueError, TypeError, AttributeError, KeyError) as error:
        invalid_schema(error)


def _arranged(node: Any) -> Any:
    if isinstance(node, list):
        return [_arranged(branch) for branch in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"type"}:
        return _arranged(node["type"])
    return _ordered(node, _PRINTED_FIRST)


def _ordered(node: dict[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    keys = [key for key in first if key in node] + [key for key in node if key not in first]
    return {key: _arranged_attribute(key, node[key]) for key in keys}


def _arranged_attribute(key: str, value: Any) -> Any:
    if key in ("type", "items", "values"):
        return _arranged(value)
    if key == "fields" and isinstance(value, list):
        return [_ordered(field, _PRINTED_FIRST_IN_FIELD) if isinstance(field, dict) else field for field in value]
    return value
