"""JSON without a class, and what every reader of JSON raises."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

from millstream.contracts.json_forms import Unfit
from millstream.errors import DecodeError

_PLACE = re.compile(r" - at (`key` in )?`\$[^`]*`\Z")
_QUOTES_NOTHING = re.compile(
    r"Expected `[^`]+`(, got `[^`]+`| of length [\w <=>]+)?|Object missing required field `[^`]+`"
    r"|Invalid (UUID|decimal string|RFC3339 encoded \w+|ISO8601 duration|base64 encoded string)|\w+( is)? out of range"
)


def plain_json(value: bytes) -> Any:
    """Any JSON, without a class. Raises `DecodeError`."""
    return guarded(msgspec.json.decode)(value)


def guarded(decode: Callable[[bytes], Any], *, quiet: bool = False) -> Callable[[bytes | None], Any]:
    """`decode` with whatever it raises turned into `DecodeError`.

    - `quiet`: quote no value, as for a class with personal fields.
    """

    def guarded(value: bytes | None) -> Any:
        if not value:
            raise DecodeError("empty", "the record has no value")
        try:
            return decode(value)
        except DecodeError:
            raise
        except msgspec.ValidationError as error:
            raise DecodeError("invalid", without_values(error) if quiet else str(error)) from None
        except Unfit as error:
            raise DecodeError("invalid", f"ValueError: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError("malformed_json", str(error)) from None
        except RecursionError:
            raise DecodeError("too_deep", "the JSON is nested too deep") from None
        except Exception as error:  # what a class's own __post_init__ raises
            text = "the class refuses it" if quiet else str(error)
            raise DecodeError("invalid", f"{type(error).__name__}: {text}") from None

    return guarded


def without_values(error: msgspec.ValidationError) -> str:
    """Return where and of which kind an error of msgspec is.

    Its text quotes what is no symbol of an enumeration, and what a class's `__post_init__` says.
    """
    text = str(error)
    place = found[0] if (found := _PLACE.search(text)) else ""
    kind = text.removesuffix(place)
    if error.__cause__ is not None or not _QUOTES_NOTHING.fullmatch(kind):
        kind = "a value that the class does not take"
    return kind + place
