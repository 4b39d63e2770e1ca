"""JSON without a class, and what every reader of JSON raises."""

from collections.abc import Callable
from typing import Any

import msgspec

from millstream.errors import DecodeError


def plain_json(value: bytes) -> Any:
    """Any JSON, without a class. Raises `DecodeError`."""
    return guarded(msgspec.json.decode)(value)


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
