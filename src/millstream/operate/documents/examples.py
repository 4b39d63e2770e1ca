"""An example of each message: made up, the same every time, and with nothing personal in it."""

import base64
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from millstream.declare import Value
from millstream.declare.personal import masked
from millstream.declare.reading import shape_of
from millstream.declare.shape import Decimals, Entries, Fixed, Items, OneOf, Record, Scalar, Shape, Symbols

_VALUES: dict[type, Any] = {
    int: 1,
    bool: True,
    float: 1.5,
    bytes: base64.b64encode(b"bytes").decode(),
    datetime: datetime(2026, 1, 31, 12, tzinfo=UTC),
    date: date(2026, 1, 31),
    time: time(12, 30),
    timedelta: timedelta(minutes=5),
    UUID: UUID("018f0000-0000-7000-8000-000000000001"),
}


def example_of(contract: type[Value]) -> dict[str, Any]:
    """An example of a class, as JSON would hold it.

    >>> from typing import Annotated
    >>> from millstream.declare.personal import Personal
    >>> class Signed(Value, namespace="shop"):
    ...     order_id: str
    ...     by: Annotated[str, Personal]
    >>> example_of(Signed)
    {'order_id': 'order_id-1', 'by': '••••••'}
    """
    return masked(contract, msgspec.to_builtins(_example(shape_of(contract), "value", ())))


def _example(shape: Shape | None, name: str, inside: tuple[str, ...]) -> Any:
    match shape:
        case None:
            return None
        case Scalar(python=python):
            return _VALUES.get(python, f"{name}-1")
        case Decimals(precision, scale):
            return str(Decimal(1).scaleb(-scale) + (12 if precision - scale > 1 else 0))
        case Symbols(members=members):
            first = next(iter(members.values()))
            return getattr(first, "value", first)
        case Items(item=item):
            return [] if _is_inside(item, inside) else [_example(item, name, inside)]
        case Fixed(parts=parts):
            return [_example(part, name, inside) for part in parts]
        case Entries(value=value):
            return {} if _is_inside(value, inside) else {"key": _example(value, name, inside)}
        case OneOf(branches=branches):
            fitting = [branch for branch in branches if branch is not None and not _is_inside(branch, inside)]
            return _example(fitting[0], name, inside) if fitting else None
        case Record(fields=fields):
            inside = (*inside, shape.name)
            return {field.name: _example(field.shape, field.name, inside) for field in fields}


def _is_inside(shape: Shape | None, inside: tuple[str, ...]) -> bool:
    """Return whether a class holds itself: the example ends there."""
    return isinstance(shape, Record) and shape.name in inside
