"""A server that is made when its first client comes."""

import asyncio
import socket

import pytest

from millstream.local.http import HttpServer, Limits, Request, Response
from millstream.local.on_demand import OnDemand

PATIENCE = 60.0


async def hello(request: Request) -> Response:
    return Response(200, "text/plain", b"hello")


class Maker:
    """Makes the server, or fails; counts how often it was asked."""

    def __init__(self, error: Exception | None = None) -> None:
        self.made = 0
        self.failures: list[Exception] = []
        self._error = error

    async def serve(self, listener: socket.socket) -> HttpServer:
        self.made += 1
        if self._error is not None:
            raise self._error
        server = HttpServer(hello, Limits())
        await server.start(listener)
        return server


async def get(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        return (await asyncio.wait_for(reader.read(), PATIENCE)).rpartition(b"\r\n\r\n")[2]
    finally:
        writer.close()


def test_the_first_clients_are_all_answered_by_one_server():
    async def scenario() -> None:
        maker = Maker()
        on_demand = OnDemand(("127.0.0.1", 0), maker.serve, maker.failures.append)
        assert maker.made == 0
        assert await asyncio.gather(*(get(on_demand.port) for _ in range(5))) == [b"hello"] * 5
        assert maker.made == 1
        await on_demand.close()
        with pytest.raises(ConnectionRefusedError):
            await get(on_demand.port)

    asyncio.run(scenario())


def test_one_that_nobody_asked_closes_too():
    async def scenario() -> None:
        on_demand = OnDemand(("127.0.0.1", 0), Maker().serve, [].append)
        await on_demand.close()
        with pytest.raises(ConnectionRefusedError):
            await get(on_demand.port)

    asyncio.run(scenario())


def test_one_that_cannot_be_made_is_told_and_hangs_up():
    async def scenario() -> None:
        maker = Maker(RuntimeError("no schemas"))
        on_demand = OnDemand(("127.0.0.1", 0), maker.serve, maker.failures.append)
        with pytest.raises(ConnectionError):
            await get(on_demand.port)
        assert [str(error) for error in maker.failures] == ["no schemas"]
        await on_demand.close()

    asyncio.run(scenario())


def test_an_address_that_is_taken_is_refused_at_once():
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
            OnDemand(taken.getsockname()[:2], Maker().serve, [].append)

    asyncio.run(scenario())
