"""From a record without a value to the deletion that it means."""

from typing import Any

from millstream.declare import Deleted
from millstream.errors import DecodeError


def with_key(event: Any, key: bytes | None) -> Any:
    """`event` as its handler gets it: a deletion takes its key from the record, any other event is as it was.

    Raises `DecodeError`: `empty` for a record without a key, too, and `bad_key` for a key that is no business id.

    >>> from millstream.declare import Event
    >>> class Order(Event, key="order_id"):
    ...     order_id: str
    >>> with_key(Deleted[Order](key=""), b"o-1")
    Deleted[Order](key='o-1')
    """
    if not isinstance(event, Deleted):
        return event
    if key is None:
        raise DecodeError("empty", "the record has neither a key nor a value")
    if key[:1] == b"\0":
        raise DecodeError("bad_key", "the key of this tombstone begins with a zero byte: it is no text")
    try:
        return type(event)(key=key.decode())
    except UnicodeDecodeError as error:
        raise DecodeError("bad_key", f"the key of this tombstone is no UTF-8: {error}") from None
