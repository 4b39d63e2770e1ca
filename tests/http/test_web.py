"""Serving an application as a worker, and the trace that a request brings."""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from millstream import Service
from millstream.contracts import Contracts
from millstream.errors import ConfigurationError
from millstream.http import Web
from millstream.http.tracing import Traced, incoming_traceparent
from millstream.http.web import WebServer
from millstream.kafka import connect
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer
from millstream.telemetry.listen import bound
from millstream.testing.child import wait_until

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def web(tmp_path: Path, http: str = "127.0.0.1:0") -> Web:
    settings = Settings(http=http, data_dir=tmp_path)

    def engine() -> Any:
        from millstream.runtime.sql.database import open_database

        return open_database(Service("desk"), settings)

    kafka = connect(settings)
    return Web(Service("desk"), settings, Contracts(None), kafka, engine=engine, health=Health(), tracer=Tracer())


@pytest.mark.parametrize("http", ["127.0.0.1:0", "[::1]:0"])
def test_an_application_is_served_with_health_in_front_until_told_to_stop(tmp_path: Path, http: str):
    made, app = web(tmp_path, http), FastAPI()
    app.get("/")(lambda: "here")
    server, stop = WebServer(app, made), threading.Event()
    assert not made.health.healthy
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    wait_until(lambda: made.health.healthy, seconds=60, what="the server has started")
    assert httpx.get(server.url).json() == "here"
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert "millstream_" in httpx.get(f"{server.url}/metrics").text
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url)


def test_an_application_that_cannot_start_ends_its_worker(tmp_path: Path):
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        WebServer(broken, web(tmp_path)).run(threading.Event())


def test_an_address_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=address):
            WebServer(FastAPI(), web(tmp_path, address))


def test_only_what_is_asked_for_is_made(tmp_path: Path):
    made = web(tmp_path)
    assert made.workers == []
    assert made.publisher is made.publisher
    assert [worker.name for worker in made.workers] == ["publisher"]
    assert made.idempotency is made.idempotency
    assert [worker.name for worker in made.workers] == ["publisher", "idempotency"]
    made.engine.dispose()


@pytest.mark.parametrize(("sent", "seen"), [(TRACEPARENT, TRACEPARENT), ("nonsense", None), (None, None)])
def test_the_trace_of_a_request_is_continued(serve: Callable[[ASGIApp], str], sent: str | None, seen: str | None):
    app = FastAPI()

    @app.get("/")
    async def told() -> str | None:
        found = incoming_traceparent()
        return found and found.decode()

    url = serve(Traced(app, Tracer()))
    assert httpx.get(url, headers={"traceparent": sent} if sent else {}).json() == seen


@pytest.mark.anyio
async def test_small_writes_such_as_the_events_of_a_stream_leave_at_once() -> None:
    undelayed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        undelayed.set_result(
            writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        )
        writer.close()

    listening = bound("127.0.0.1", 0)
    async with await asyncio.start_server(accepted, sock=listening):
        _, writer = await asyncio.open_connection(*listening.getsockname())
        assert await asyncio.wait_for(undelayed, 5)
        writer.close()
