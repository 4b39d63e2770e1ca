"""The address of a process: taken in one way, with a web application or without."""

import socket

from millstream.errors import ConfigurationError


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket bound to an address, not listening yet. Raises `ConfigurationError` where that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Named as TCP, or asyncio would not set TCP_NODELAY, and the second event of a stream would wait 40 ms.
        taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((host, port))
        except OSError:
            taken.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"MILLSTREAM_HTTP is {_authority(host, port)}, and that address cannot be had: {error.strerror}. "
            "Stop what listens there, or choose another; port 0 takes a free one"
        ) from error
    return taken


def url_of(taken: socket.socket) -> str:
    """The address that it answers at, once it listens.

    >>> with bound("127.0.0.1", 0) as taken:
    ...     url_of(taken).startswith("http://127.0.0.1:")
    True
    """
    return f"http://{_authority(*taken.getsockname()[:2])}"


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
