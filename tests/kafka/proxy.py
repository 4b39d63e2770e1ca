"""A proxy for Kafka's protocol that loses answers, so that a test can have an outcome that nobody knows."""

import contextlib
import socket
import struct
import threading

PRODUCE, END_TXN = 0, 26
HELD = -2


class Proxy:
    """Stands before one broker and claims its address towards clients; `lose` says which answers never arrive."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        own = self._listener.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{own}"
        # Metadata names brokers as host and port, one after the other, whatever the version.
        self._theirs, self._ours = (host.encode() + struct.pack(">i", n) for n in (int(port), own))
        self._lost: set[int] = set()
        self._once = self._cut = self._mute = False
        self._hold: int | None = None
        self._held: tuple[socket.socket, bytes] | None = None
        self._arrived = threading.Event()
        self.hits = threading.Event()
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def lose(self, *api_keys: int) -> None:
        """From now on hang up instead of answering requests with these keys; the broker has carried them out."""
        self.hits.clear()
        self._lost = set(api_keys)

    def lose_once(self, api_key: int) -> None:
        """The same for the next one only."""
        self._once = True
        self.lose(api_key)

    def hold(self, api_key: int) -> None:
        """Hang up on the next request with this key, and keep it."""
        self._arrived.clear()
        self._hold = api_key

    def release(self) -> None:
        """Let it arrive after all; returns when the broker has answered it."""
        assert self._held is not None
        broker, frame = self._held
        broker.sendall(struct.pack(">i", len(frame)) + frame)
        assert self._arrived.wait(10)

    def cut(self) -> None:
        """Hang up on everybody, and let nobody through from now on."""
        self._cut = True
        _hang_up(*self._sockets)

    def mute(self) -> None:
        """Keep all connections, take new ones, and pass no answer on from now on."""
        self._mute = True

    def heal(self) -> None:
        """Lose nothing any more."""
        self._lost = set()
        self._cut = self._mute = False

    def close(self) -> None:
        _hang_up(self._listener)
        # A connection that is just being made would be left open.
        self._accepting.join(10)
        _hang_up(*self._sockets)
        for each in [self._listener, *self._sockets]:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                if self._cut:
                    client.close()
                    continue
                self._sockets.append(client)
                broker = socket.create_connection(self._target)
                self._sockets.append(broker)
                asked: dict[int, int] = {}
                for work in (self._requests, self._answers):
                    threading.Thread(target=work, args=(client, broker, asked), daemon=True).start()

    def _requests(self, client: socket.socket, broker: socket.socket, asked: dict[int, int]) -> None:
        with contextlib.suppress(OSError), client.makefile("rb") as stream:
            while frame := _frame(stream):
                api_key, _, correlation = struct.unpack_from(">hhi", frame)
                if api_key == self._hold:
                    self._hold, self._held = None, (broker, frame)
                    asked[correlation] = HELD
                    _hang_up(client)
                    return
                asked[correlation] = api_key
                broker.sendall(struct.pack(">i", len(frame)) + frame)
        _hang_up(client, broker)

    def _answers(self, client: socket.socket, broker: socket.socket, asked: dict[int, int]) -> None:
        with contextlib.suppress(OSError), broker.makefile("rb") as stream:
            while frame := _frame(stream):
                api_key = asked.pop(struct.unpack_from(">i", frame)[0], -1)
                if api_key == HELD:
                    self._arrived.set()
                    break
                if self._mute:
                    continue
                if api_key in self._lost:
                    self.hits.set()
                    if self._once:
                        self.heal()
                    break
                frame = frame.replace(self._theirs, self._ours)
                client.sendall(struct.pack(">i", len(frame)) + frame)
        _hang_up(client, broker)


def _frame(stream) -> bytes:
    size = stream.read(4)
    return stream.read(struct.unpack(">i", size)[0]) if len(size) == 4 else b""


def _hang_up(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
