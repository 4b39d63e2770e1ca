"""How the registry's tests speak to it."""

import json
from typing import Any

import httpx


def record(*fields: tuple[str, Any] | tuple[str, Any, Any], name: str = "Order", **more: Any) -> str:
    """A record schema; a third item of a field is its default."""
    described = [{"name": f[0], "type": f[1]} | ({"default": f[2]} if len(f) == 3 else {}) for f in fields]
    return json.dumps({"type": "record", "name": name, "fields": described, **more})


ONE = record(("id", "string"))
TWO = record(("id", "string"), ("note", ["null", "string"], None))
THREE = record(("id", "string"), ("note", ["null", "string"], None), ("n", "int", 0))
UNREADABLE = record(("id", "string"), ("total", "long"))


def register(registry: httpx.Client, subject: str, schema: str, query: str = "", **body: Any) -> httpx.Response:
    return registry.post(f"/subjects/{subject}/versions{query}", json={"schema": schema, **body})


def registered(registry: httpx.Client, subject: str, schema: str, query: str = "", **body: Any) -> int:
    response = register(registry, subject, schema, query, **body)
    assert response.status_code == 200, response.text
    return response.json()["id"]


def refusal(response: httpx.Response) -> tuple[int, int]:
    """Status and error code of a refusal, which must have Confluent's form."""
    body = response.json()
    assert set(body) == {"error_code", "message"}, body
    assert "Traceback" not in body["message"]
    return response.status_code, body["error_code"]


def reference(name: str, subject: str, version: int) -> dict[str, Any]:
    return {"name": name, "subject": subject, "version": version}
