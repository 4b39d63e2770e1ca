"""The registry's server, in the event loop of whoever starts it."""

import socket

from millstream.local.http import Handler, HttpServer, Limits, Request, Response
from millstream.local.registry.log import TopicLog
from millstream.local.registry.policy_routes import PolicyRoutes
from millstream.local.registry.routes import application
from millstream.local.registry.schema_routes import SchemaRoutes
from millstream.local.registry.store import Store


class Registry:
    """A registry that answers at `url` until it is closed."""

    def __init__(self, url: str, server: HttpServer) -> None:
        self.url = url
        self._server = server

    async def close(self) -> None:
        """Answer what was asked already (for at most a second), then stop."""
        await self._server.close()


async def serve(log: TopicLog, host: str, port: int, limits: Limits | None = None) -> Registry:
    """Read the registry's topic and answer on `host:port`; port 0 takes a free one, told by the result's `url`.

    `/metrics` and `/health` are answered there, too: they are those of the whole process.

    Raises OSError if the address cannot be had, and whatever `log` raises. The caller closes the result:

        registry = await serve(log, "127.0.0.1", 8081)
        ...
        await registry.close()
    """
    return await serve_at(_bound(host, port), log, limits)


async def serve_at(listener: socket.socket, log: TopicLog, limits: Limits | None = None) -> Registry:
    """`serve` on a socket that is bound already, and closed with the result."""
    store = Store(log)
    try:
        await store.load()
    except BaseException:
        listener.close()
        raise
    routes = SchemaRoutes(store).table() + PolicyRoutes(store).table()
    server = HttpServer(_observed(application(routes)), limits or Limits())
    await server.start(listener)
    host, port = listener.getsockname()[:2]
    return Registry(f"http://{host}:{port}", server)


def _observed(handler: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        path = request.target.partition("?")[0]
        if request.method in ("GET", "HEAD") and path in ("/metrics", "/health"):
            # Here, for it takes longer to import than the rest of the registry to start.
            from millstream.telemetry.health import Health
            from millstream.telemetry.serve import answer

            if found := answer(path, Health()):
                return Response(*found)
        return await handler(request)

    return handle


def _bound(host: str, port: int) -> socket.socket:
    # Named as TCP, or asyncio would not set TCP_NODELAY and every answer would wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
