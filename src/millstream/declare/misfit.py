"""Finds what a value has that its schema cannot hold, and where.

A text stands in logs and in headers of dead letters, and what does not fit may have slipped from one field into
another. So texts about a record of a class with `Personal` fields, at any depth, quote no value and no key of a map.
"""

from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from millstream.declare.personal import has_personal, holds_personal, shown
from millstream.declare.shape import (
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    python_class,
)

_MICROSECOND = timedelta(microseconds=1)


def misfit(shape: Shape | None, value: Any, path: str, *, quiet: bool = False) -> str | None:
    """The first thing in `value` that its schema cannot hold, with the path to it.

    - `quiet`: quote no value, as for a record with personal fields.
    """
    given: object = value  # for tests of its class that must not narrow `value`, of which type checkers know nothing
    quiet = quiet or (isinstance(shape, Record) and has_personal(shape.python))
    match shape:
        case None:
            return None if value is None else _wrong_class(type(None), value, path, quiet)
        case OneOf(branches):
            for branch in branches:
                if type(value) is python_class(branch):
                    return misfit(branch, value, path, quiet=quiet)
            if len(branches) == 2 and None in branches:
                return misfit(next(branch for branch in branches if branch), value, path, quiet=quiet)
            return f"{path}: {_shown(value, quiet)} is none of {', '.join(python_class(b).__name__ for b in branches)}"
        case Record(fields=fields) if type(value) is shape.python:
            inside = (
                misfit(f.shape, getattr(value, f.attribute), f"{path}.{f.attribute}", quiet=quiet) for f in fields
            )
        case Items(container, item) if type(value) is container:
            inside = (misfit(item, part, f"{path}[{at}]", quiet=quiet) for at, part in enumerate(value))
        case Fixed(parts=parts) if type(given) is tuple:
            if len(value) != len(parts):
                return f"{path}: {_shown(value, quiet)} has {len(value)} parts instead of {len(parts)}"
            inside = (misfit(part, value[at], f"{path}[{at}]", quiet=quiet) for at, part in enumerate(parts))
        case Entries(entry) if type(given) is dict:
            inside = (
                _text(key, f"{path}, a key", quiet)
                or misfit(entry, part, f"{path}[{'…' if quiet else repr(key)}]", quiet=quiet)
                for key, part in value.items()
            )
        case Scalar(python=python):
            return _scalar(python, value, path, quiet)
        case Symbols(members=members):
            try:
                if value in dict.fromkeys(members.values()):
                    return None
            except TypeError:  # not hashable
                pass
            return f"{path}: {_shown(value, quiet)} is none of {', '.join(members)}"
        case Decimals():
            return _decimal(shape, value, path, quiet)
        case _:
            return _wrong_class(python_class(shape), value, path, quiet)
    return next((problem for problem in inside if problem), None)


def _scalar(python: type, value: Any, path: str, quiet: bool) -> str | None:
    if python is str:
        return _text(value, path, quiet)
    if python is float and type(value) is int:
        return None if abs(value) < 1 << 1023 else f"{path}: {_shown(value, quiet)} is too large for a float"
    if python is datetime and isinstance(value, datetime):
        if value.tzinfo is None:
            return f"{path}: {_shown(value, quiet)} has no time zone; use datetime.now(UTC)"
        return None
    if type(value) is not python:
        return _wrong_class(python, value, path, quiet)
    if python is time and value.tzinfo is not None:
        return f"{path}: {_shown(value, quiet)} has a time zone; use a datetime, or replace(tzinfo=None)"
    if python is timedelta and not -(1 << 63) <= value // _MICROSECOND < 1 << 63:
        return f"{path}: {_shown(value, quiet)} has more microseconds than 64 bits hold"
    if python is int and not -(1 << 63) <= value < 1 << 63:
        return f"{path}: {_shown(value, quiet)} does not fit 64 bits"
    return None


def _text(value: Any, path: str, quiet: bool) -> str | None:
    if not isinstance(value, str):
        return _wrong_class(str, value, path, quiet)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{path}: {_shown(value, quiet)} has half a surrogate pair at {error.start}, which UTF-8 cannot hold"
    return None


def _decimal(shape: Decimals, value: Any, path: str, quiet: bool) -> str | None:
    if not isinstance(value, Decimal):
        return _wrong_class(Decimal, value, path, quiet)
    if not value.is_finite():
        return f"{path}: {unquoted(value) if quiet else value} is no number"
    _, given, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    digits = bytes(given).rstrip(b"\0")
    exponent += len(given) - len(digits)
    if not digits:
        return None
    if -exponent > shape.scale:
        return (
            f"{path}: {_shown(value, quiet)} has {-exponent} digits after the point, and its scale is {shape.scale}; "
            "round it with quantize()"
        )
    if len(digits) + exponent > shape.precision - shape.scale:
        most = shape.precision - shape.scale
        return f"{path}: {_shown(value, quiet)} has more than {most} digits before the point"
    return None


def _wrong_class(python: type, value: Any, path: str, quiet: bool) -> str:
    return f"{path}: {_shown(value, quiet)} is no {python.__name__}"


def unquoted(value: Any) -> str:
    """The class of a value, for texts that must not quote it.

    >>> unquoted("ada@example.org"), unquoted(7)
    ('a str', 'an int')
    """
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _shown(value: Any, quiet: bool) -> str:
    if quiet:
        return unquoted(value)
    try:
        text = shown(value) if holds_personal(value) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}…"
