"""Loopback ports for servers that a test kills and starts again."""

import random
import socket

# Below the range from which the system takes the client's side of a connection: a client that keeps trying to reach a
# killed server on a port of that range can be given the same port, connect to itself, and so keep the server from it.
_RANGE = (20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """`count` different ports on 127.0.0.1 on which nobody listens now. Raises OSError if none can be found."""
    held: list[socket.socket] = []
    try:
        for port in random.sample(range(*_RANGE), 200 + count):
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                candidate.close()
                continue
            held.append(candidate)
            if len(held) == count:
                return [taken.getsockname()[1] for taken in held]
        raise OSError(f"no {count} free ports between {_RANGE[0]} and {_RANGE[1]}")
    finally:
        for taken in held:
            taken.close()
