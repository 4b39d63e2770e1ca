"""A small HTTP/1.1 server over h11, for few and friendly clients; the others are bounded in time, size and number."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import h11

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_HEADER_BYTES = 32 * 1024
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    """Path and query as they were sent."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True)
class Response:
    status: int
    media_type: str
    body: bytes


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """A client gets `request_seconds` to say what it wants, silence between two requests included, and as long to take
    the answer in; `connections` of them may be there at once."""

    request_seconds: float = 30.0
    connections: int = 500


class _TooLarge(Exception):
    pass


class HttpServer:
    """Answers with `handler` until it is closed; one request at a time on each connection."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self._handler = handler
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, listener: socket.socket) -> None:
        """Listen on a socket that is bound already."""
        self._server = await asyncio.start_server(self._converse, sock=listener, limit=64 * 1024)

    async def close(self, grace: float = 1.0) -> None:
        """Answer what was asked already, for at most `grace` seconds, then hang up."""
        assert self._server is not None
        self._server.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace)
        leaving = set(self._conversations)
        for conversation in leaving:
            conversation.cancel()
        if leaving:
            await asyncio.wait(leaving, timeout=grace)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        try:
            if len(self._conversations) > self._limits.connections:
                await self._send(connection, writer, _plain(503, "too many connections"), last=True)
                return
            while await self._serve_one(task, connection, reader, writer):
                connection.start_next_cycle()
        except (TimeoutError, OSError, h11.ProtocolError):
            pass  # The client was silent or slow for too long, went away, or speaks no HTTP.
        except asyncio.CancelledError:
            pass  # The server closes; the task ends here anyway.
        finally:
            self._conversations.discard(task)
            self._answering.discard(task)
            writer.close()

    async def _serve_one(
        self,
        task: "asyncio.Task[None]",
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer the next request; False when it was the last."""
        try:
            async with asyncio.timeout(self._limits.request_seconds):
                request = await _receive(connection, reader, writer)
        except _TooLarge:
            too_large = _plain(413, f"the request body is larger than {MAX_BODY_BYTES} bytes")
            await self._send(connection, writer, too_large, last=True)
            return False
        except h11.RemoteProtocolError as error:
            if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                await self._send(connection, writer, _plain(error.error_status_hint, "no valid HTTP"), last=True)
            return False
        if request is None:
            return False
        self._answering.add(task)
        response = await self._handler(request)
        await self._send(connection, writer, response, head=request.method == "HEAD")
        self._answering.discard(task)
        assert self._server is not None
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE and self._server.is_serving()

    async def _send(
        self,
        connection: h11.Connection,
        writer: asyncio.StreamWriter,
        response: Response,
        *,
        head: bool = False,
        last: bool = False,
    ) -> None:
        headers = [("Content-Type", response.media_type), ("Content-Length", str(len(response.body)))]
        if last:
            headers.append(("Connection", "close"))
        sent = connection.send(h11.Response(status_code=response.status, headers=headers)) or b""
        sent += (not head and connection.send(h11.Data(data=response.body))) or b""
        if not head or connection.our_state is h11.SEND_BODY:
            sent += connection.send(h11.EndOfMessage()) or b""
        writer.write(sent)
        async with asyncio.timeout(self._limits.request_seconds):
            await writer.drain()


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """The next request, whole; None when the client has hung up."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                writer.write(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            connection.receive_data(await reader.read(64 * 1024))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise _TooLarge
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
            return Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, bytes(body))
        else:
            return None


def _plain(status: int, why: str) -> Response:
    body = f'{{"error_code":{status},"message":"HTTP {status}: {why}"}}'
    return Response(status, "application/json", body.encode())
