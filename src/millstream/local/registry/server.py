"""The registry's HTTP server, in the event loop of whoever starts it."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

from millstream.local.registry.log import TopicLog
from millstream.local.registry.registrar import Registrar
from millstream.local.registry.routes import application
from millstream.telemetry.health import Health
from millstream.telemetry.serve import Observed


class _GuestServer(uvicorn.Server):
    """Leaves the signals to the process it is a guest in, says when it listens, and sleeps until it is closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.closing = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.listening.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.closing.wait()


class Registry:
    """A registry that answers at `url` until it is closed."""

    def __init__(self, url: str, server: _GuestServer, serving: asyncio.Task[None]) -> None:
        self.url = url
        self._server = server
        self._serving = serving

    async def close(self) -> None:
        """Answer what was asked already (for at most a second), then stop."""
        self._server.closing.set()
        await self._serving


async def serve(log: TopicLog, host: str, port: int) -> Registry:
    """Read the registry's topic and answer on `host:port`; port 0 takes a free one, told by the result's `url`.

    `/metrics` and `/health` are answered there, too: they are those of the whole process.

    Raises OSError if the address cannot be had, and whatever `log` raises. The caller closes the result:

        registry = await serve(log, "127.0.0.1", 8081)
        ...
        await registry.close()
    """
    return await serve_at(bound(host, port), log)


async def serve_at(listener: socket.socket, log: TopicLog) -> Registry:
    """`serve` on a socket that is bound already; it is closed with the result."""
    registrar = Registrar(log)
    try:
        await registrar.load()
    except BaseException:
        listener.close()
        raise
    server = _GuestServer(
        uvicorn.Config(
            Observed(application(registrar), Health()),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    serving = asyncio.create_task(server.serve([listener]), name="registry")
    await server.listening.wait()
    if serving.done():
        await serving
    host, port = listener.getsockname()[:2]
    return Registry(f"http://{host}:{port}", server, serving)


def bound(host: str, port: int) -> socket.socket:
    # Named as TCP, or asyncio would not set TCP_NODELAY and every answer would wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
