"""The events that both sides handle: an order of ~250 bytes with three lines, priced into a smaller event."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from millstream import Event, Scale, Topic, Value

Money = Annotated[Decimal, Scale(18, 4)]


class Line(Value):
    """One line of an order."""

    product: str
    quantity: int
    unit_price: Money


class OrderPlaced(Event, key="order_id", namespace="bench"):
    """What comes in."""

    order_id: str
    customer_id: str
    country: str
    placed_at: datetime
    lines: tuple[Line, ...]
    note: str


class OrderPriced(Event, key="order_id", namespace="bench"):
    """What goes out."""

    order_id: str
    customer_id: str
    total: Money
    units: int


placed = Topic("bench.placed", OrderPlaced, partitions=6)
priced = Topic("bench.priced", OrderPriced, partitions=6)


def price(order: OrderPlaced) -> OrderPriced:
    """The work of the handler, the same on both sides."""
    total = Decimal(0)
    units = 0
    for line in order.lines:
        total += line.unit_price * line.quantity
        units += line.quantity
    return OrderPriced(order_id=order.order_id, customer_id=order.customer_id, total=total, units=units)


def orders(count: int) -> list[OrderPlaced]:
    """`count` orders, no two alike, the same in every run."""
    start = datetime(2011, 11, 14, 8, tzinfo=UTC)
    return [
        OrderPlaced(
            order_id=f"5760{number:08d}",
            customer_id=f"c-{number % 6151:05d}",
            country="United Kingdom",
            placed_at=start + timedelta(milliseconds=731 * number),
            lines=tuple(
                Line(
                    product=f"{22000 + (number * 7 + line * 13) % 3000}",
                    quantity=1 + (number + line) % 24,
                    unit_price=Decimal(85 + (number * 3 + line * 17) % 2000).scaleb(-2),
                )
                for line in range(3)
            ),
            note="please leave it with the neighbour at number 12, thank you",
        )
        for number in range(count)
    ]
