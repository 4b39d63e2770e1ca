"""The precision of decimals in contracts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """How many digits a `Decimal` field has, and how many of them after the point.

    >>> from decimal import Decimal
    >>> from typing import Annotated
    >>> Money = Annotated[Decimal, Scale(18, 4)]
    """

    precision: int
    scale: int
