"""The trace that a request belongs to, from its `traceparent` header to what is published for it."""

from contextvars import ContextVar

from starlette.types import ASGIApp, Receive, Scope, Send

from millstream.telemetry import Tracer
from millstream.telemetry.spans import parse_traceparent

_incoming: ContextVar[bytes | None] = ContextVar("millstream_traceparent", default=None)


def incoming_traceparent() -> bytes | None:
    """The `traceparent` of the request being handled: its own span's where tracing is on, else the one that came in."""
    return _incoming.get()


class Traced:
    """Continues the trace of each request, or begins one where tracing is on."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traceparent = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
        if parse_traceparent(traceparent) is None:
            traceparent = None
        if not self._tracer.enabled:
            _incoming.set(traceparent)
            await self._app(scope, receive, send)
            return
        with self._tracer.edge_span(scope["method"], scope["path"], traceparent) as span:
            _incoming.set(span.traceparent)
            await self._app(scope, receive, send)
