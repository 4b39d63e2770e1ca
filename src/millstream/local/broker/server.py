"""The broker on a TCP socket: asyncio outside, the core inside, a clock between them."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from millstream.local.broker.core import Broker
from millstream.local.broker.dispatch import Session
from millstream.local.broker.wire.buffer import Malformed

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 100 * 1024 * 1024
MAX_CONNECTIONS = 2000
IDLE_SECONDS = 10 * 60
HALF_REQUEST_SECONDS = 60
_SWEEP_SECONDS = 15
_FLUSH_SECONDS = 1
_SMALL = 32 * 1024
_STEP = 1 << 20


OpenSession = Callable[[str, Callable[[], None]], Session]
"""Makes the session of a client, given its host and a function that hangs up on it."""


def wall_clock() -> int:
    return time.time_ns() // 1_000_000


class Server:
    """Serves `broker` until it is closed.

    server = await Server.start(broker, "127.0.0.1", 0)
    print(server.port)
    await server.close()
    """

    def __init__(self, broker: Broker, open_session: OpenSession | None = None) -> None:
        self.broker = broker
        self.open_session = open_session or (lambda host, hang_up: Session(broker, host))
        self.port = 0
        self.connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, broker: Broker, host: str, port: int, open_session: OpenSession | None = None) -> "Server":
        """Listen on `host:port`, port 0 for a free one. Raises OSError if the address cannot be had."""
        server = cls(broker, open_session)
        loop = asyncio.get_running_loop()
        server._listener = await loop.create_server(lambda: Connection(server), host, port, backlog=512)
        server.port = server._listener.sockets[0].getsockname()[1]
        broker.host, broker.port = host, server.port
        broker.timers.on_earlier = server.set_alarm
        broker.on_held = server.flush_soon
        server.set_alarm()
        server._sweep()
        return server

    async def close(self) -> None:
        """Stop listening and end every connection once its answers are sent, within a second.

        What was acknowledged is written already.
        """
        if self._listener is not None:
            self._listener.close()
        for timer in (self._alarm, self._sweeping):
            if timer is not None:
                timer.cancel()
        self.broker.timers.on_earlier = self.broker.on_held = lambda: None
        self.broker.flush()
        for connection in tuple(self.connections):
            connection.finish()
        give_up = time.monotonic() + _FLUSH_SECONDS
        while self.connections and time.monotonic() < give_up:  # noqa: ASYNC110 (once in a process)
            await asyncio.sleep(0.001)
        for connection in tuple(self.connections):
            connection.drop()
        await asyncio.sleep(0)

    def set_alarm(self) -> None:
        """Wake when the broker's next deadline comes."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        at = self.broker.timers.next_at()
        if at is not None:
            delay = max(at - self.broker.clock(), 0) / 1000
            self._alarm = asyncio.get_running_loop().call_later(delay, self._ring)

    def flush_soon(self) -> None:
        """Sync once for all requests that came in together."""
        asyncio.get_running_loop().call_soon(self.broker.flush)

    def _ring(self) -> None:
        try:
            self.broker.timers.run_due()
            self.broker.settle()
        finally:
            self.set_alarm()

    def _sweep(self) -> None:
        """Close what has been silent for too long."""
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.close_if_silent(now)


class Connection(asyncio.BufferedProtocol):
    """Cuts the stream into requests and hands them to the session, one at a time and in order."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._broker = server.broker
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._peer = ""
        self._buffer = bytearray(_SMALL)
        self._start = 0
        self._end = 0
        self._wanted = 0
        self._busy = False
        self._full = False
        self._running = False
        self._heard_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        self._peer = f"{host}:{port}"
        transport.set_write_buffer_limits(high=_STEP)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if len(self._server.connections) >= MAX_CONNECTIONS:
            self._refuse(f"{MAX_CONNECTIONS} connections are open")
            return
        self._server.connections.add(self)
        self._session = self._server.open_session(host, self.drop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        if self._session is not None:
            self._session.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._start == self._end:
            self._start = self._end = 0
        room = len(self._buffer) - self._end
        missing = self._wanted - (self._end - self._start)
        if room < max(missing, 1):
            self._make_room()
        # A large request is read to its end and no further: what follows would have to be moved.
        stop = min(self._start + self._wanted, len(self._buffer)) if self._wanted > _SMALL else len(self._buffer)
        return memoryview(self._buffer)[self._end : stop]

    def _make_room(self) -> None:
        """Move what is there to the front, of a larger buffer if need be; it grows as bytes come, not as they are
        announced."""
        held = self._end - self._start
        size = len(self._buffer)
        if self._wanted > size:
            size = min(self._wanted, max(2 * held, _STEP))
        if size > len(self._buffer) or self._start == 0:
            grown = bytearray(max(size, held + _SMALL if self._start == 0 else size))
            grown[:held] = memoryview(self._buffer)[self._start : self._end]
            self._buffer = grown
        else:
            self._buffer[:held] = self._buffer[self._start : self._end]
        self._start, self._end = 0, held

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        self._heard_at = time.monotonic()
        self._run()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._run()

    def finish(self) -> None:
        """Hang up once everything answered is sent."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_if_silent(self, now: float) -> None:
        silent = now - self._heard_at
        half = not self._busy and self._end > self._start
        if silent > IDLE_SECONDS or (half and silent > HALF_REQUEST_SECONDS):
            self.drop()
        elif silent > _SWEEP_SECONDS and self._start == self._end and len(self._buffer) > _SMALL:
            self._buffer = bytearray(_SMALL)

    def _run(self) -> None:
        """Handle the requests that are there, as long as each is answered at once."""
        if self._running:
            return
        self._running = True
        try:
            while not self._busy and not self._full and self._transport is not None:
                frame = self._next_frame()
                if frame is None:
                    break
                self._busy = True
                self._handle(frame)
        finally:
            self._running = False
        self._throttle()

    def _next_frame(self) -> memoryview | None:
        held = self._end - self._start
        if held < 4:
            self._wanted = 0
            return None
        size = int.from_bytes(self._buffer[self._start : self._start + 4], "big", signed=True)
        if not 0 <= size <= MAX_REQUEST_BYTES:
            self._refuse(f"a request of {size} bytes; at most {MAX_REQUEST_BYTES} are taken")
            return None
        self._wanted = 4 + size
        if held < self._wanted:
            return None
        frame = memoryview(self._buffer)[self._start + 4 : self._start + self._wanted]
        self._start += self._wanted
        self._wanted = 0
        return frame

    def _handle(self, frame: memoryview) -> None:
        assert self._session is not None
        try:
            self._session.handle(frame, self._answer_when_durable)
        except Malformed as malformed:
            self._refuse(str(malformed))
        except Exception:
            log.exception("a request of %s failed; its connection is closed", self._peer)
            self.drop()
        self._broker.settle()

    def _answer_when_durable(self, frame: bytes) -> None:
        self._broker.when_durable(lambda safe: self._answer(frame) if safe else self.drop())

    def _answer(self, frame: bytes) -> None:
        self._busy = False
        if self._transport is None:
            return
        if frame:
            self._transport.write(frame)
        if not self._running:
            self._run()

    def _throttle(self) -> None:
        """A client that sends on while it is being answered waits in its socket, not in our memory."""
        if self._transport is None or self._transport.is_closing():
            return
        if (self._busy or self._full) and self._end - self._start > 0:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _refuse(self, reason: str) -> None:
        log.warning("closing the connection of %s: %s", self._peer, reason)
        self.drop()
