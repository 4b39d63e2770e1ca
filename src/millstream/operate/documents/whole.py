"""A whole CloudEvent in JSON, as documents describe it: attributes, and the event as its data."""

from typing import Any

from millstream.contracts import json_schema
from millstream.declare import Contract, full_name
from millstream.operate.documents.examples import example_of

_ATTRIBUTES = {"id": "e-1", "source": "example", "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json"}
_TEXT = {"type": "string", "minLength": 1}


def whole_schema(contract: type[Contract]) -> dict[str, Any]:
    """The JSON Schema of the value. The data's is a schema of its own in it, so that its references stay there."""
    name = full_name(contract)
    data = json_schema(contract)
    return {
        "$schema": data.pop("$schema"),
        "title": name,
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _TEXT,
            "source": _TEXT | {"format": "uri-reference"},
            "type": {"const": name},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "data": {"$id": name} | data,
        },
        "required": ["specversion", "id", "source", "type", "data"],
    }


def whole_example(contract: type[Contract]) -> dict[str, Any]:
    """An example of the value, with nothing personal in it."""
    return {"specversion": "1.0", "type": full_name(contract)} | _ATTRIBUTES | {"data": example_of(contract)}
