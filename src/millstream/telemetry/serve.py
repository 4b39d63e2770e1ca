"""`GET /metrics` and `GET /health`: in front of a web application, or alone."""

import json
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from millstream.telemetry.health import Health
from millstream.telemetry.listen import bound, url_of
from millstream.telemetry.metrics import render

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def answer(path: str, health: Health) -> tuple[int, str, bytes] | None:
    """Status, content type and body for one of our two paths; None for any other."""
    if path == "/metrics":
        body, content_type = render()
        return 200, content_type, body
    if path == "/health":
        status = health.status()
        code = 200 if status["status"] == "healthy" else 503
        return code, "application/json", json.dumps(status).encode()
    return None


class Observed:
    """An ASGI application that answers `/metrics` and `/health` by itself and passes everything else on.

    app = Observed(FastAPI(), health)
    """

    def __init__(self, app: Application, health: Health) -> None:
        self._app = app
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return await self._app(scope, receive, send)
        found = answer(scope["path"], self._health)
        if found is None:
            return await self._app(scope, receive, send)
        status, content_type, body = found
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})
        return None


class ObservabilityServer:
    """The same two paths for a process without a web application, on threads of its own.

    Listens from the moment it is made; port 0 takes a free one, which `url` tells. Raises `ConfigurationError` where
    the address is taken.
    """

    def __init__(self, address: tuple[str, int], health: Health) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds that a client may take to say what it wants

            def do_GET(self) -> None:
                found = answer(self.path.partition("?")[0], health)
                status, content_type, body = found or (404, "text/plain", b"There are /metrics and /health here.\n")
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Scrapes are not news."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A scraper that hung up is none of our troubles."""

        self._server = Server(address, Handler, bind_and_activate=False)
        self._server.socket.close()  # of the one family that it knows
        self._server.socket = bound(*address)
        self._server.server_activate()
        self.url = url_of(self._server.socket)
        self.thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="observability", daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self.thread.join(2.0)
