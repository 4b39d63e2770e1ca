"""Confluent's REST routes: which request is answered by what. What is not here answers 404 or 405."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from millstream.local.http import Handler, Request, Response
from millstream.local.registry.call import MEDIA_TYPES, Call
from millstream.local.registry.errors import Refusal

Answer: TypeAlias = Callable[[Call], Awaitable[Any]]
Route: TypeAlias = tuple[str, str, Answer]
_log = logging.getLogger(__name__)


class Text(str):
    """An answer that is a schema's own text, not JSON made of it."""


def application(routes: list[Route]) -> Handler:
    """What answers any request by the route that fits: `("GET", "/subjects/{subject}/versions", answer)`."""
    table = [(method, path.strip("/").split("/"), answer) for method, path, answer in routes]

    async def handle(request: Request) -> Response:
        media_type = MEDIA_TYPES[0]
        try:
            call = Call(request)
            media_type = call.media_type()
            found = await _routed(table, call)(call)
            body = found.encode() if isinstance(found, Text) else msgspec.json.encode(found)
            return Response(200, media_type, body)
        except Refusal as refusal:
            return _refused(refusal, media_type)
        except Exception:
            _log.exception("%s %s failed", request.method, request.target, extra={"code": "registry_request_failed"})
            return _refused(Refusal(500, "Internal Server Error"), media_type)

    return handle


def _routed(table: list[tuple[str, list[str], Answer]], call: Call) -> Answer:
    method = "GET" if call.request.method == "HEAD" else call.request.method
    elsewhere = False
    for offered, pattern, answer in table:
        params = _match(pattern, call.segments)
        if params is None:
            continue
        if offered == method:
            call.params = params
            return answer
        elsewhere = True
    if elsewhere:
        raise Refusal(405, "HTTP 405 Method Not Allowed")
    raise Refusal(404, "HTTP 404 Not Found")


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    params: dict[str, str] = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            params[wanted[1:-1]] = segment
        elif wanted != segment:
            return None
    return params


def _refused(refusal: Refusal, media_type: str) -> Response:
    # json, for messages may quote a lone surrogate, which msgspec refuses.
    body = json.dumps({"error_code": refusal.code, "message": refusal.message}, separators=(",", ":"))
    return Response(refusal.status, media_type, body.encode())
