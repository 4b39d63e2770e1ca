"""A bound on request bodies, held before a body is read."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from millstream.http.problem import Problem
from millstream.timeouts import DRAIN_TIMEOUT

DEFAULT_BODY_LIMIT: Final = 1024 * 1024
"""Bytes: an order of 10,000 lines fits."""
DRAIN_LIMIT: Final = 16 * DEFAULT_BODY_LIMIT
"""The bytes of a refused body that are read and dropped, so that its sender can read the answer instead of a reset."""


class BodyLimit:
    """Answers 413 to a request whose body is larger than `limit` bytes; nothing of the rest is kept."""

    def __init__(self, app: ASGIApp, limit: int = DEFAULT_BODY_LIMIT) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length")
        if length is None:
            await self._counted(scope, receive, send)
        elif int(length) <= self.limit:
            # The server takes no more than was announced.
            await self.app(scope, receive, send)
        else:
            if b"expect" not in headers:
                await _drain(receive)
            await self._refuse(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A body in chunks: its size is unknown before its end."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client is gone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.limit:
                chunks.clear()
                await _drain(receive)
                await self._refuse(scope, receive, send)
                return
            if not message.get("more_body"):
                break
        whole: Message | None = {"type": "http.request", "body": b"".join(chunks), "more_body": False}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = f"The body may have {self.limit} bytes at most."
        await Problem(413, detail, headers={"Connection": "close"}).response()(scope, receive, send)


async def _drain(receive: Receive) -> None:
    dropped = 0
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while dropped < DRAIN_LIMIT:
                message = await receive()
                dropped += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:  # the client has had its answer, and does not go
        return
