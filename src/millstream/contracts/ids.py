"""Ids of events: random and ordered in time at the edge, derived from the input everywhere else."""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import NAMESPACE_URL, uuid5

_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def edge_id() -> str:
    """A new UUIDv7: for events that no other event led to."""
    return str(_uuid7()())


def derived_id(input_id: str, handler: str, ordinal: int) -> str:
    """The id of the `ordinal`th event that `handler` makes of the event `input_id`: the same whenever it is made again.

    It is `uuid5(input id, "handler/ordinal")`; an input id that is no UUID is first made one within the URL namespace.

    >>> derived_id("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b", "shipping.schedule", 0)
    '350a48f0-dbe6-5543-9fa3-64c95c0385c8'
    """
    digits = input_id.replace("-", "")
    try:
        namespace = bytes.fromhex(digits)
    except ValueError:  # any text may be an id
        namespace = b""
    if len(namespace) != 16 or len(digits) != 32:
        namespace = uuid5(NAMESPACE_URL, input_id).bytes
    h = hashlib.sha1(namespace + f"{handler}/{ordinal}".encode(), usedforsecurity=False).hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


def position_id(topic: str, partition: int, offset: int, milliseconds: int) -> str:
    """The id of a record that brings none: derived from where it lies, so that reading it again gives the same.

    - `milliseconds`: its timestamp. A topic that is deleted and made again counts offsets from 0 again, and a record
      that lies where an old one lay is another event.
    """
    return str(uuid5(NAMESPACE_URL, f"kafka:{topic}/{partition}/{offset}/{milliseconds}"))


@cache
def _uuid7() -> Callable[[], Any]:
    import uuid_utils  # 2 MB that workers do without

    return uuid_utils.uuid7
