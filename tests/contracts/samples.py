"""Classes with every type that a contract may have."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Annotated, Literal
from uuid import UUID

from millstream.declare import Alias, Deprecated, Doc, Event, Scale, Value

Money = Annotated[Decimal, Scale(18, 4)]


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Priority(IntEnum):
    LOW = 1
    HIGH = 10


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
    clock: time
    took: timedelta
    priority: Priority
    grade: Literal[1, 2, -3]
    place: tuple[str, int, Line | None]
    seen: frozenset[str]
    codes: set[int]
    reached: frozenset[tuple[Colour, date]] | None
    region: Annotated[str | None, Alias("area"), Doc("Where it happened."), Deprecated("country says it better")] = None


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
    clock: time = time(12, 30)
    took: timedelta = timedelta(seconds=-1)
    priority: Priority = Priority.HIGH
    place: tuple[str, Priority] = ("x", Priority.LOW)
    codes: frozenset[int] = frozenset({3})
