"""Server-sent events about one thing's progress, resumable, ending when the thing has ended."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from millstream.http.problem import Problem, unavailable

HEARTBEAT = 15.0
"""Seconds between comments that keep proxies from closing a quiet stream; state is looked at again then, too."""
MAX_STREAMS = 1_000


class Update(NamedTuple):
    """One step: `version` grows with each (the id by which a client resumes), `data` becomes JSON, `last` ends it."""

    version: int
    data: Any
    event: str = "update"
    last: bool = False


Since = Callable[[int], Awaitable[Sequence[Update]]]
"""Reads the updates after a version, oldest first."""


class Progress:
    """Wakes streams when something they follow has changed.

    A notification carries no data: a stream that wakes reads what is new since the version it sent last. So nothing
    queues up for a slow client, and a notification that comes twice, or during a reconnect, does no harm.

        @app.get("/orders/{order_id}/progress")
        async def progress(order_id: str, request: Request):
            return await web.progress.stream(request, order_id, lambda version: history(order_id, version))
    """

    def __init__(self, *, heartbeat: float = HEARTBEAT, limit: int = MAX_STREAMS) -> None:
        self._heartbeat = heartbeat
        self._limit = limit
        self._open = 0
        self._closed = False
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None

    def notify(self, keys: Iterable[str]) -> None:
        """Says that these keys have news; from any thread. One hop to the loop for all, none without followers."""
        followed = [key for key in keys if key in self._listeners]
        if followed and self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._wake, followed)
            except RuntimeError:  # the loop is closed: the process is about to end
                return

    def close(self) -> None:
        """Ends all streams; on the event loop's thread. Clients come back by themselves and resume."""
        self._closed = True
        self._wake(list(self._listeners))

    async def stream(self, request: Request, key: str, since: Since) -> Response:
        """Answers with the updates of `key`: those after the client's `Last-Event-ID`, then each as it comes.

        A client that has seen the last one gets 204, which tells browsers not to come again.
        Raises `Problem`: 400 for a `Last-Event-ID` that is not ours, 503 when too many streams are open.
        """
        resumed = request.headers.get("last-event-id", "").strip()
        if resumed and not (resumed.isascii() and resumed.isdigit() and len(resumed) < 20):
            raise Problem(400, "Last-Event-ID is not one that this stream has sent.")
        version = int(resumed) if resumed else -1
        if any(seen.last and seen.version == version for seen in await since(version - 1)):
            return Response(status_code=204)
        if self._open >= self._limit:
            raise unavailable("Too many progress streams are open.")
        return StreamingResponse(
            self._follow(key, since, version),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _follow(self, key: str, since: Since, version: int) -> AsyncIterator[bytes]:
        news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._listeners[key].add(news)
        self._open += 1
        try:
            yield b"retry: 1000\n\n"
            while not self._closed:
                news.clear()
                for update in await since(version):
                    if update.version > version:
                        version = update.version
                        yield _frame(update)
                        if update.last:
                            return
                try:
                    async with asyncio.timeout(self._heartbeat):
                        await news.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._open -= 1
            self._listeners[key].discard(news)
            if not self._listeners[key]:
                del self._listeners[key]

    def _wake(self, keys: Iterable[str]) -> None:
        for key in keys:
            for news in self._listeners.get(key, ()):
                news.set()


def _frame(update: Update) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        update.version,
        update.event.encode(),
        msgspec.json.encode(update.data),
    )
