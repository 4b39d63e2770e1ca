"""The precision of decimals in contracts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """The number of digits of a `Decimal` field, and of those after the point.

    >>> from decimal import Decimal
    >>> from typing import Annotated
    >>> Money = Annotated[Decimal, Scale(18, 4)]
    """

    precision: int
    scale: int
