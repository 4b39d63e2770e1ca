"""Classes with every type that a contract may have."""

from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from millstream.declare import Event, Scale, Value

Money = Annotated[Decimal, Scale(18, 4)]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Line(Value, namespace="samples"):
    product: str
    quantity: int
    price: Money


class Card(Value, namespace="samples"):
    number: str


class Invoice(Value, namespace="samples"):
    due: date
    lines: tuple[Line, ...] = ()


class Tree(Value, namespace="samples"):
    label: str
    left: "Tree | None" = None
    right: "Tree | None" = None


class Everything(Event, key="id", namespace="samples"):
    """All there is.

    And a second paragraph.
    """

    id: str
    whole: int
    truth: bool
    real: float
    raw: bytes
    money: Money
    moment: datetime
    day: date
    uuid: UUID
    colour: Colour
    kind: Literal["small", "large"]
    maybe: str | None
    maybe_when: datetime | None
    payment: Card | Invoice
    maybe_payment: Card | Invoice | None
    scalar: int | str | bool | None
    lines: tuple[Line, ...]
    numbers: list[int]
    grid: tuple[tuple[Money, ...], ...]
    labels: dict[str, str]
    boxes: dict[str, tuple[Line, ...]]
    tree: Tree


class Defaults(Value, namespace="samples"):
    text: str = "x"
    maybe: str | None = None
    maybe_text: str | None = "y"
    whole: int = 7
    money: Money = Decimal("1.5")
    colour: Colour = Colour.BLUE
    numbers: tuple[int, ...] = ()
    line: Line = Line(product="p", quantity=1, price=Decimal(2))
    raw: bytes = b"\xff"
