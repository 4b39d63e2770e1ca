"""The broker on a TCP socket: asyncio outside, the core inside, a clock between them."""

import asyncio
import logging
import mmap
import socket
import time
from collections.abc import Callable

from millstream.local.broker.core import Broker
from millstream.local.broker.dispatch import Session
from millstream.local.broker.wire.buffer import Malformed

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 100 * 1024 * 1024
MAX_CONTROL_BYTES = 8 * 1024 * 1024
"""The largest request that is no Produce."""
MAX_HELD_BYTES = MAX_REQUEST_BYTES + 2 * 1024 * 1024
"""What all connections together may hold of requests that have not come whole."""
MAX_CONNECTIONS = 2000
IDLE_SECONDS = 10 * 60
HALF_REQUEST_SECONDS = 60
_SWEEP_SECONDS = 15
_FLUSH_SECONDS = 1
_SMALL = 32 * 1024
_STEP = 1 << 20
_LARGE = 4 << 20
_PRODUCE = b"\0\0"


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
        self.held = 0
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

    def make_room_for_another(self) -> bool:
        """Hang up on whoever has been connected for long and never asked anything, if there are too many."""
        if len(self.connections) < MAX_CONNECTIONS:
            return True
        mute = min((c for c in self.connections if not c.has_asked), key=lambda c: c.heard_at, default=None)
        if mute is None:
            return False
        mute.drop()
        self.connections.discard(mute)
        return True

    def hold(self, connection: "Connection", more: int) -> None:
        """Count what a connection takes. When it is too much, whose request has been coming for the longest goes."""
        self.held += more
        connection.held += more
        if self.held <= MAX_HELD_BYTES:
            return
        for other in self.connections:
            other.let_go_if_idle()
        while self.held > MAX_HELD_BYTES:
            slowest = min((c for c in self.connections if c.held), key=lambda c: c.begun_at)
            slowest.refuse("more is being sent than there is room for, and this came the slowest")
            slowest.let_go()


class Connection(asyncio.BufferedProtocol):
    """Cuts the stream into requests and hands them to the session, one at a time and in order."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._broker = server.broker
        self._transport: asyncio.Transport | None = None
        self._session: Session | None = None
        self._peer = ""
        self._buffer: bytearray | mmap.mmap = bytearray(_SMALL)
        self.held = 0
        self._start = 0
        self._end = 0
        self._wanted = 0
        self._busy = False
        self._full = False
        self._running = False
        self.has_asked = False
        self.heard_at = self.begun_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        host, port = transport.get_extra_info("peername")[:2]
        self._peer = f"{host}:{port}"
        transport.set_write_buffer_limits(high=_STEP)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._server.make_room_for_another():
            self.refuse(f"{MAX_CONNECTIONS} connections are open")
            return
        self._server.connections.add(self)
        self._session = self._server.open_session(host, self.drop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        self.let_go()
        if self._session is not None:
            self._session.close()

    def let_go(self) -> None:
        """Give back what a large request took."""
        if self.held:
            self._server.held -= self.held
            self.held = 0
            self._buffer = bytearray(_SMALL)
            self._start = self._end = 0

    def let_go_if_idle(self) -> None:
        if self._start == self._end and not self._busy:
            self.let_go()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._start == self._end:
            if isinstance(self._buffer, mmap.mmap):
                self.let_go()
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
            size = max(size, min(self._wanted, max(2 * held, _STEP)))
        elif self._start == 0:
            size += _SMALL
        whole = memoryview(self._buffer)[self._start : self._end]
        if size > len(self._buffer):
            self._buffer = _buffer_of(size if size <= _LARGE else self._wanted)
        self._buffer[:held] = whole
        self._start, self._end = 0, held
        taken = held if isinstance(self._buffer, mmap.mmap) else size - _SMALL
        self._server.hold(self, taken - self.held)

    def buffer_updated(self, nbytes: int) -> None:
        self.heard_at = time.monotonic()
        if self._start == self._end:
            self.begun_at = self.heard_at
        self._end += nbytes
        if isinstance(self._buffer, mmap.mmap):
            self._server.hold(self, nbytes)
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
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def close_if_silent(self, now: float) -> None:
        """Hang up on who sends nothing, or takes for ever to send one request."""
        silent = now - self.heard_at
        half = not self._busy and self._end > self._start
        patience = IDLE_SECONDS if self.has_asked else HALF_REQUEST_SECONDS
        if silent > patience or (half and now - self.begun_at > HALF_REQUEST_SECONDS):
            self.drop()
        elif silent > _SWEEP_SECONDS:
            self.let_go_if_idle()

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
            self.refuse(f"a request of {size} bytes; at most {MAX_REQUEST_BYTES} are taken")
            return None
        if size > MAX_CONTROL_BYTES and held >= 6 and self._buffer[self._start + 4 : self._start + 6] != _PRODUCE:
            self.refuse(f"a request of {size} bytes; only Produce may have more than {MAX_CONTROL_BYTES}")
            return None
        self._wanted = 4 + size
        if held < self._wanted:
            return None
        frame = memoryview(self._buffer)[self._start + 4 : self._start + self._wanted]
        self._start += self._wanted
        self._wanted = 0
        self.has_asked = True
        return frame

    def _handle(self, frame: memoryview) -> None:
        assert self._session is not None
        try:
            self._session.handle(frame, self._answer_when_durable)
        except Malformed as malformed:
            self.refuse(str(malformed))
        except Exception:
            log.exception(
                "a request of %s failed; its connection is closed", self._peer, extra={"code": "broker_request_failed"}
            )
            self.drop()
        self._broker.settle()

    def _answer_when_durable(self, frame: bytes) -> None:
        self._broker.when_durable(lambda safe: self._answer(frame) if safe else self.drop())

    def _answer(self, frame: bytes) -> None:
        self._busy = False
        self.begun_at = time.monotonic()
        if self._transport is None:
            return
        if frame:
            self._transport.write(memoryview(frame))  # asyncio cuts off what was sent, which must not copy the rest
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

    def refuse(self, reason: str) -> None:
        log.warning("closing the connection of %s: %s", self._peer, reason, extra={"code": "connection_closed"})
        self.drop()


def _buffer_of(size: int) -> bytearray | mmap.mmap:
    """For what is large one whose pages come with the bytes, and go as soon as it does."""
    if size <= _LARGE:
        return bytearray(size)
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
