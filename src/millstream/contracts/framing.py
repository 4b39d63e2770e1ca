"""The frame in front of every message: a zero byte and the id of its schema, as Confluent does it."""

from millstream.errors import DecodeError


def framing(schema_id: int) -> bytes:
    """The five bytes before every message of this schema."""
    return b"\0" + schema_id.to_bytes(4, "big", signed=True)


def schema_id_of(message: bytes) -> int:
    """The schema id that a message names. Raises `DecodeError` (`not_framed`) where it names none."""
    if len(message) < 5 or message[0] != 0:
        raise DecodeError("not_framed", f"{len(message)} bytes without the zero byte and schema id in front")
    return int.from_bytes(message[1:5], "big", signed=True)
