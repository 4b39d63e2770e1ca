"""What every side does: an order of ~250 bytes comes in, what its customer has spent is kept, and goes out."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from millstream import Event, Scale, Topic, Value

Money = Annotated[Decimal, Scale(18, 4)]
PARTITIONS = 6
CUSTOMERS = 6_151


class Line(Value, namespace="bench"):
    """One line of an order."""

    product: str
    quantity: int
    unit_price: Money


class CustomerOrdered(Event, key="customer_id", namespace="bench"):
    """What comes in."""

    customer_id: str
    order_id: str
    country: str
    placed_at: datetime
    lines: tuple[Line, ...]
    note: str


class CustomerSpent(Event, key="customer_id", namespace="bench"):
    """What goes out."""

    customer_id: str
    order_id: str
    total: Money
    spent: Money
    orders: int


class Spending(Value, namespace="bench"):
    """What is kept of a customer."""

    spent: Money
    orders: int


ordered = Topic("bench.ordered", CustomerOrdered, partitions=PARTITIONS)
spent = Topic("bench.spent", CustomerSpent, partitions=PARTITIONS)


def orders(count: int) -> Iterator[CustomerOrdered]:
    """`count` orders, no two alike, the same in every run."""
    start = datetime(2011, 11, 14, 8, tzinfo=UTC)
    for number in range(count):
        yield CustomerOrdered(
            customer_id=f"c-{number * 31 % CUSTOMERS:05d}",
            order_id=f"5760{number:08d}",
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
