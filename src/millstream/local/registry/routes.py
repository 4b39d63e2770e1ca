"""Confluent's REST routes. What is not here answers 404 or 405 in Confluent's error JSON."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from millstream.local.registry.errors import Refusal, invalid_schema, subject_without_config
from millstream.local.registry.records import SchemaRecord
from millstream.local.registry.registrar import Registrar

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
MAX_BODY_BYTES = 1024 * 1024
Body = TypeVar("Body", bound=msgspec.Struct)


class SchemaBody(msgspec.Struct):
    """The body of every request that carries a schema."""

    schema: str
    schemaType: str | None = None  # noqa: N815 (Confluent's name)
    references: list[Any] | None = None


class LevelBody(msgspec.Struct):
    """The body of a request that sets a compatibility level."""

    compatibility: str


def application(registrar: Registrar) -> Starlette:
    """The ASGI application that answers for `registrar`."""
    catalog = registrar.catalog

    async def nothing(request: Request) -> dict[str, Any]:
        return {}

    async def contexts(request: Request) -> list[str]:
        return ["."]

    async def types(request: Request) -> list[str]:
        return ["AVRO"]

    async def mode(request: Request) -> dict[str, str]:
        return {"mode": "READWRITE"}

    async def schema_by_id(request: Request) -> dict[str, Any]:
        found = {"schema": catalog.text(request.path_params["id"])}
        return found | ({"maxId": catalog.highest_id} if _flag(request, "fetchMaxId") else {})

    async def text_by_id(request: Request) -> msgspec.Raw:
        return msgspec.Raw(catalog.text(request.path_params["id"]).encode())

    async def subjects_of_id(request: Request) -> list[str]:
        uses = catalog.uses(request.path_params["id"], deleted=_flag(request, "deleted"))
        return sorted({use.subject for use in uses})

    async def versions_of_id(request: Request) -> list[dict[str, Any]]:
        uses = catalog.uses(request.path_params["id"], deleted=_flag(request, "deleted"))
        return [{"subject": use.subject, "version": use.version} for use in uses]

    async def subjects(request: Request) -> list[str]:
        prefix = request.query_params.get("subjectPrefix", "")
        return [name for name in catalog.subjects(deleted=_flag(request, "deleted")) if name.startswith(prefix)]

    async def versions(request: Request) -> list[int]:
        known = catalog.known_versions(request.path_params["subject"], deleted=_flag(request, "deleted"))
        return [entry.version for entry in known]

    async def version(request: Request) -> dict[str, Any]:
        return _described(_version(request))

    async def version_text(request: Request) -> msgspec.Raw:
        return msgspec.Raw(_version(request).schema.encode())

    async def referenced_by(request: Request) -> list[int]:
        _version(request)
        return []

    def _version(request: Request) -> SchemaRecord:
        params = request.path_params
        return catalog.version(params["subject"], params["version"], deleted=_flag(request, "deleted"))

    async def register(request: Request) -> dict[str, int]:
        entry = await registrar.register(request.path_params["subject"], await _schema(request))
        return {"id": entry.id}

    async def look_up(request: Request) -> dict[str, Any]:
        subject, deleted = request.path_params["subject"], _flag(request, "deleted")
        return _described(registrar.look_up(subject, await _schema(request), deleted=deleted))

    async def delete_subject(request: Request) -> list[int]:
        subject = request.path_params["subject"]
        return await registrar.delete_subject(subject, permanent=_flag(request, "permanent"))

    async def delete_version(request: Request) -> int:
        params, permanent = request.path_params, _flag(request, "permanent")
        return await registrar.delete_version(params["subject"], params["version"], permanent=permanent)

    async def check(request: Request) -> dict[str, Any]:
        params = request.path_params
        reasons = registrar.check(params["subject"], await _schema(request), params.get("version"))
        verdict: dict[str, Any] = {"is_compatible": not reasons}
        return verdict | ({"messages": reasons} if _flag(request, "verbose") else {})

    async def level(request: Request) -> dict[str, str]:
        subject = request.path_params.get("subject")
        if subject is not None and catalog.level(subject) is None and not _flag(request, "defaultToGlobal"):
            subject_without_config(subject)
        return {"compatibilityLevel": catalog.effective_level(subject)}

    async def set_level(request: Request) -> dict[str, str]:
        body = await _body(request, LevelBody)
        return {"compatibility": await registrar.set_level(request.path_params.get("subject"), body.compatibility)}

    async def clear_level(request: Request) -> dict[str, str]:
        return {"compatibilityLevel": await registrar.clear_level(request.path_params.get("subject"))}

    table: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
        ("GET", "/", nothing),
        ("GET", "/contexts", contexts),
        ("GET", "/schemas/types", types),
        ("GET", "/schemas/ids/{id:int}", schema_by_id),
        ("GET", "/schemas/ids/{id:int}/schema", text_by_id),
        ("GET", "/schemas/ids/{id:int}/subjects", subjects_of_id),
        ("GET", "/schemas/ids/{id:int}/versions", versions_of_id),
        ("GET", "/subjects", subjects),
        ("POST", "/subjects/{subject}", look_up),
        ("DELETE", "/subjects/{subject}", delete_subject),
        ("GET", "/subjects/{subject}/versions", versions),
        ("POST", "/subjects/{subject}/versions", register),
        ("GET", "/subjects/{subject}/versions/{version}", version),
        ("DELETE", "/subjects/{subject}/versions/{version}", delete_version),
        ("GET", "/subjects/{subject}/versions/{version}/schema", version_text),
        ("GET", "/subjects/{subject}/versions/{version}/referencedby", referenced_by),
        ("POST", "/compatibility/subjects/{subject}/versions", check),
        ("POST", "/compatibility/subjects/{subject}/versions/{version}", check),
        ("GET", "/config", level),
        ("PUT", "/config", set_level),
        ("DELETE", "/config", clear_level),
        ("GET", "/config/{subject}", level),
        ("PUT", "/config/{subject}", set_level),
        ("DELETE", "/config/{subject}", clear_level),
        ("GET", "/mode", mode),
        ("GET", "/mode/{subject}", mode),
    ]
    return Starlette(
        routes=[Route(path, _answering(handler), methods=[method]) for method, path, handler in table],
        exception_handlers={Refusal: _refused, HTTPException: _http_error, Exception: _failed},
    )


def _answering(handler: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    @functools.wraps(handler)
    async def answer(request: Request) -> Response:
        return _json(200, await handler(request))

    return answer


def _json(status: int, content: Any) -> Response:
    return Response(msgspec.json.encode(content), status_code=status, media_type=MEDIA_TYPE)


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


def _described(entry: SchemaRecord) -> dict[str, Any]:
    return {"subject": entry.subject, "version": entry.version, "id": entry.id, "schema": entry.schema}


async def _schema(request: Request) -> str:
    body = await _body(request, SchemaBody)
    if (body.schemaType or "AVRO") != "AVRO":
        invalid_schema(f"type {body.schemaType} is not served here, only AVRO")
    if body.references:
        invalid_schema("references are not served here; put the referenced types into the schema")
    return body.schema


async def _body(request: Request, form: type[Body]) -> Body:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise Refusal(413, f"The request body is larger than {MAX_BODY_BYTES} bytes")
    try:
        return msgspec.json.decode(content, type=form)
    except msgspec.DecodeError as error:
        raise Refusal(400, f"The request body is not valid: {error}") from None


async def _refused(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return _json(refusal.status, {"error_code": refusal.code, "message": refusal.message})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(
        error.status_code, {"error_code": error.status_code, "message": f"HTTP {error.status_code} {error.detail}"}
    )


async def _failed(request: Request, error: Exception) -> Response:
    return _json(500, {"error_code": 50001, "message": f"Error in the backend data store: {error}"})
