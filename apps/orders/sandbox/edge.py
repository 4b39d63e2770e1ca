"""The one public address: commands go to the order service, queries to the read model; a page says what there is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from millstream.http.body_limit import BodyLimit
from millstream.http.problem import Problem, unavailable
from millstream.settings import Settings
from orders.pool import SweptTransport
from orders.sandbox.pages import docs_page, start_page
from orders.sandbox.serving import serve

TIMEOUT = httpx2.Timeout(30, connect=2)
"""Seconds. A progress stream says something at least every 15."""

# Headers that are about one connection, not about the message; the servers on both sides write their own.
_OF_THE_CONNECTION = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "accept-encoding",
    "date",
    "server",
}


class Edge:
    """A small reverse proxy.

    - `addresses`: the URL of each process behind it.
    """

    def __init__(self, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self._transport = SweptTransport(connections=200, idle=50)
        self._client = httpx2.AsyncClient(timeout=TIMEOUT, transport=self._transport)

    async def commands(self, request: Request) -> Response:
        """What changes something."""
        return await self._pass_on(request, "order")

    async def queries(self, request: Request) -> Response:
        """What became of it."""
        return await self._pass_on(request, "read-model")

    async def stock(self, request: Request) -> Response:
        """What there is."""
        return await self._pass_on(request, "inventory")

    async def payments(self, request: Request) -> Response:
        """The gateway's own list."""
        return await self._pass_on(request, "gateway")

    async def mailbox(self, request: Request) -> Response:
        """Every mail that was sent."""
        return await self._pass_on(request, "mailbox", {"/mail": "/"}.get(request.url.path))

    async def start(self, request: Request) -> Response:
        """The first page."""
        return HTMLResponse(start_page(escape(str(request.base_url).rstrip("/"))))

    async def docs(self, request: Request) -> Response:
        """Both OpenAPI documents as one page."""
        documents = await asyncio.gather(*(self._document(of) for of in ("order", "read-model", "inventory")))
        return HTMLResponse(docs_page([document for document in documents if document]))

    async def openapi(self, request: Request) -> Response:
        """One of the OpenAPI documents."""
        of = {"commands": "order", "queries": "read-model"}[request.path_params["document"]]
        return await self._pass_on(request, of, "/openapi.json")

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keeps connections as long as the block lasts."""
        async with self._client, self._transport.swept():
            yield

    async def _pass_on(self, request: Request, to: str, path: str | None = None) -> Response:
        url = f"{self._addresses[to]}{path or request.url.path}"
        headers = [(name, value) for name, value in request.headers.items() if name not in _OF_THE_CONNECTION]
        outgoing = self._client.build_request(
            request.method,
            f"{url}?{request.url.query}" if request.url.query else url,
            headers=[*headers, ("accept-encoding", "identity")],
            content=await request.body(),
        )
        try:
            answer = await self._client.send(outgoing, stream=True)
            back = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION}
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return StreamingResponse(
                    _until_it_breaks(answer), answer.status_code, back, background=BackgroundTask(answer.aclose)
                )
            try:
                return Response(await answer.aread(), answer.status_code, back)
            finally:
                await answer.aclose()
        except httpx2.ConnectError:
            return unavailable(f"The {to} service does not answer; nothing was done. Repeat the request.").response()
        except httpx2.TransportError:
            return unavailable(
                f"The {to} service broke off. Repeat the request, with the same Idempotency-Key if it has one."
            ).response()

    async def _document(self, of: str) -> dict[str, Any] | None:
        try:
            return (await self._client.get(f"{self._addresses[of]}/openapi.json")).raise_for_status().json()
        except httpx2.HTTPError:
            return None


def application(settings: Settings) -> Starlette:
    """The proxy in front of the processes that `settings.addresses` names."""
    edge = Edge({name: settings.address(name) for name in ("order", "read-model", "inventory", "gateway", "mailbox")})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with edge.connected():
            yield

    return Starlette(
        lifespan=lifespan,
        middleware=[Middleware(BodyLimit)],
        exception_handlers={404: _nothing_here, 405: _nothing_here},
        routes=[
            Route("/", edge.start),
            Route("/docs", edge.docs),
            Route("/openapi/{document:str}.json", edge.openapi),
            Route("/orders", edge.commands, methods=["POST"]),
            Route("/orders/{order_id}/cancel", edge.commands, methods=["POST"]),
            Route("/returns", edge.commands, methods=["POST"]),
            Route("/products", edge.commands, methods=["GET", "PUT"]),
            Route("/orders", edge.queries),
            Route("/orders/{rest:path}", edge.queries),
            Route("/returns", edge.queries),
            Route("/returns/{rest:path}", edge.queries),
            Route("/events", edge.queries),
            Route("/stock", edge.stock),
            Route("/payments", edge.payments),
            Route("/mails", edge.mailbox),
            Route("/mail", edge.mailbox),
        ],
    )


def main(settings: Settings) -> None:
    """The process."""
    serve(application(settings), settings)


async def _until_it_breaks(answer: httpx2.Response) -> AsyncIterator[bytes]:
    # A stream that ends early is resumed by its client, with the last id that it saw.
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    except httpx2.TransportError:
        return


async def _nothing_here(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    detail = "There is nothing at this path." if status == 404 else f"{request.method} is not possible here."
    return Problem(status, detail).response()
