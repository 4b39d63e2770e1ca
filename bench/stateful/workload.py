"""What every side does: an order of ~250 bytes comes in, what its customer has spent is kept, and goes out."""

from collections.abc import Iterator
from datetime import datetime

import msgspec

from bench import workload
from bench.outputs import PARTITIONS
from bench.workload import Line, Money
from millstream import Event, Topic, Value


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
    """`count` orders, no two alike, the same in every run: those of the other benchmarks, by customer."""
    return (CustomerOrdered(**msgspec.structs.asdict(order)) for order in workload.orders(count))
