"""Plain JSON, for topics of others: one object of one class, no schema id, no registry."""

from collections.abc import Callable
from typing import Any

import msgspec

from millstream.declare.contract import Value
from millstream.errors import DecodeError, EncodeError


def json_decoder(contract: type[Value]) -> Callable[[bytes | None], Any]:
    """A function from JSON to the class. It raises `DecodeError` with `malformed_json`, or `invalid` and the path."""
    return guarded(msgspec.json.Decoder(contract).decode)


def plain_json(value: bytes) -> Any:
    """Any JSON, without a class. Raises `DecodeError`."""
    return guarded(msgspec.json.decode)(value)


def json_encoder(contract: type[Value]) -> Callable[[Any], bytes]:
    """A function from the class to JSON. It raises `EncodeError` for what it could not read back."""
    encode = msgspec.json.Encoder().encode
    check = msgspec.json.Decoder(contract).decode

    def checked(record: Any) -> bytes:
        try:
            value = encode(record)
            check(value)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise EncodeError(f"{contract.__name__}: {error}") from error
        return value

    return checked


def guarded(decode: Callable[[bytes], Any]) -> Callable[[bytes | None], Any]:
    """`decode` with whatever it raises turned into `DecodeError`."""

    def guarded(value: bytes | None) -> Any:
        if not value:
            raise DecodeError("empty", "the record has no value")
        try:
            return decode(value)
        except DecodeError:
            raise
        except msgspec.ValidationError as error:
            raise DecodeError("invalid", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError("malformed_json", str(error)) from None
        except RecursionError:
            raise DecodeError("too_deep", "the JSON is nested too deep") from None
        except Exception as error:  # what a class's own __post_init__ raises
            raise DecodeError("invalid", f"{type(error).__name__}: {error}") from None

    return guarded
