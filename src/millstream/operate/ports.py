"""Addresses on this machine that stay ours from one start of a process to the next."""

import socket

from millstream.errors import ConfigurationError


class Reserved:
    """A TCP port of `host` that nobody else is given while this object lives; processes of ours may listen on it.

    - `port`: 0 for a free one.
    - `purpose`, `option`: for the error message, such as "the public address" and "--port".

    Raises `ConfigurationError` naming port and remedy where another process listens there.
    """

    def __init__(self, host: str, port: int, *, purpose: str, option: str) -> None:
        # Bound and never listening: enough to keep it from being handed out, and with SO_REUSEADDR on both sides no
        # obstacle to a child that listens.
        self._socket = socket.socket()
        try:
            if port:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                f"Port {port}, {purpose}, cannot be had on {host}: {error.strerror}. "
                f"Stop what listens there, or choose another with {option}"
            ) from None
        self.host = host
        self.port: int = self._socket.getsockname()[1]

    @property
    def address(self) -> str:
        """As `host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As a URL."""
        return f"http://{self.address}"

    def release(self) -> None:
        """Anybody may have it now."""
        self._socket.close()
