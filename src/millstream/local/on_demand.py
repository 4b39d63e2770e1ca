"""A server whose code is imported when its first client comes.

The registry and the control take longer to import than the broker takes to start, and most tests need neither.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol


class Running(Protocol):
    """A server that answers until it is closed."""

    async def close(self) -> None: ...


class OnDemand:
    """Listens on `address` at once, and calls `serve` with the socket when somebody connects.

    `failed` is told what `serve` raised. Raises OSError if the address cannot be had. `close()` it in the end.
    """

    def __init__(
        self,
        address: tuple[str, int],
        serve: Callable[[socket.socket], Awaitable[Running]],
        failed: Callable[[Exception], None],
    ) -> None:
        self._serve = serve
        self._failed = failed
        self._serving: asyncio.Task[Running | None] | None = None
        self._socket = _listen(*address)
        self.port: int = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._wake)

    async def close(self) -> None:
        """Stop listening, and the server if there is one."""
        if self._serving is None:
            self._forget()
        elif (running := await self._serving) is not None:
            await running.close()

    def _wake(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._serving = asyncio.create_task(self._begin())

    async def _begin(self) -> Running | None:
        try:
            return await self._serve(self._socket)
        except Exception as error:
            self._socket.close()
            self._failed(error)
            return None

    def _forget(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        with contextlib.suppress(OSError):  # nobody can connect to it either way
            self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # Named as TCP, or asyncio would not set TCP_NODELAY and every answer would wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
