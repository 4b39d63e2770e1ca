"""Connections of an HTTP client that go when the other side hangs up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2

from millstream.telemetry import get_logger

log = get_logger(__name__)

KEPT_SECONDS = 3.0
"""How long an idle connection is kept: less than the 5 s after which uvicorn hangs up."""
SWEEP_EVERY = 1.0


class SweptTransport(httpx2.AsyncHTTPTransport):
    """A transport that closes idle connections in time.

    httpx2 looks at them when the next request comes. Until then one that the server has hung up on stays in CLOSE-WAIT,
    and a service that is idle after a busy hour would hold as many of them as its pool has places.
    """

    def __init__(self, *, connections: int, idle: int) -> None:
        limits = httpx2.Limits(
            max_connections=connections, max_keepalive_connections=idle, keepalive_expiry=KEPT_SECONDS
        )
        super().__init__(limits=limits)

    @asynccontextmanager
    async def swept(self) -> AsyncIterator[None]:
        """Closes what has expired, as long as the block lasts."""
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait((sweeping,))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            for connection in self._pool.connections:
                if connection.is_idle() and connection.has_expired():
                    try:
                        await connection.aclose()
                    except Exception as error:
                        # The pool forgets it at the next request, closed or not.
                        log.warning("connection_not_closed", error=type(error).__name__)
