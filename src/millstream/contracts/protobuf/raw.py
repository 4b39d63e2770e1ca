"""Protobuf without its schema, for people who look: numbers and what their bytes might be."""

from typing import Any

from millstream.contracts.protobuf.wire import read_signed, read_varint, skip
from millstream.errors import DecodeError

_MAX_DEPTH = 20


def raw_fields(message: bytes) -> dict[str, Any]:
    """The fields of a framed message by number, nested ones where bytes read like that. Raises `DecodeError`.

    >>> raw_fields(bytes.fromhex("0000000007000a026f2d10d206"))
    {'1': ['o-'], '2': [850]}
    """
    try:
        at = 6
        if message[5]:
            count, at = read_varint(message, 5)
            for _ in range(min(count, _MAX_DEPTH) >> 1):
                _, at = read_varint(message, at)
        return _fields(message[at:], 0)
    except (ValueError, EOFError, IndexError, OverflowError) as error:
        raise DecodeError("invalid", f"no Protobuf: {type(error).__name__} {error}") from None


def _fields(data: bytes, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 0
    while at < len(data):
        end = skip(data, at, len(data))
        tag, begin = read_varint(data, at)
        match tag & 7:
            case 0:
                value: Any = read_signed(data, begin)[0]
            case 2:
                _, begin = read_varint(data, begin)
                value = _guess(data[begin:end], depth + 1)
            case _:
                value = data[begin:end].hex()
        found.setdefault(str(tag >> 3), []).append(value)
        at = end
    return found


def _guess(data: bytes, depth: int) -> Any:
    try:
        text = data.decode()
    except UnicodeDecodeError:  # then it is no text
        text = None
    if text is not None and text.isprintable():
        return text
    if depth < _MAX_DEPTH:
        try:
            return _fields(data, depth)
        except (ValueError, EOFError, IndexError, OverflowError):  # then it is no message
            pass
    return data.hex()
