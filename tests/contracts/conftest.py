"""A real registry over a log in memory, and an HTTP server that answers what a test wants."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from anyio.from_thread import start_blocking_portal

from millstream.local.registry import serve


class ListLog:
    """The registry's topic, in a list."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes | None]] = []

    async def create_topic(self, topic: str, *, partitions: int, config: Mapping[str, str]) -> None:
        pass

    async def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> int:
        self.records += records
        return len(self.records) - len(records)

    async def read(self, topic: str, partition: int, from_offset: int) -> Iterable[tuple[int, bytes, bytes | None]]:
        return [(offset, *self.records[offset]) for offset in range(from_offset, len(self.records))]


@pytest.fixture(scope="module")
def registry_url() -> Iterator[str]:
    with start_blocking_portal() as portal:
        registry = portal.call(serve, ListLog(), "127.0.0.1", 0)
        try:
            yield registry.url
        finally:
            portal.call(registry.close)


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Scripted:
    """A server that gives one prepared answer after the other, and the last one for ever."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{handler.command} {handler.path}")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        answer(handler)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            script(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script = Scripted(f"http://127.0.0.1:{server.server_address[1]}")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield script
        script.stopped.set()
        server.shutdown()
        serving.join(5)


def answer(status: int, body: str | bytes) -> Answer:
    """An answer for `Scripted`."""

    def send(handler: BaseHTTPRequestHandler) -> None:
        raw = body.encode() if isinstance(body, str) else body
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    return send
