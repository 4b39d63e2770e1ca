"""The outcomes of reserving an idempotency key."""

import hashlib
from typing import NamedTuple, TypeAlias


class Fresh(NamedTuple):
    """The key was not known: carry the request out under this id."""

    id: str


class Repeat(NamedTuple):
    """The same request came before. Unless it is `done`, publish again with the same ids: its outcome is not known."""

    id: str
    done: bool


class Conflict(NamedTuple):
    """The key was used with another body: answer 409."""


Reservation: TypeAlias = Fresh | Repeat | Conflict


def body_hash(*parts: bytes | str) -> str:
    """The request that a key is bound to: a digest of the request's parts, such as path and body.

    >>> body_hash("/orders", b'{"customer": 1}') == body_hash("/orders", b'{"customer": 2}')
    False
    """
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(encoded) + encoded)
    return digest.hexdigest()
