"""Misuse that a type checker must refuse: each line that ends in `# refused` is an error, and no other is.

mypy does not look at class keywords where there is a metaclass.
"""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import assert_type

from millstream import Deleted, Event, Retry, Service, State, Store, Topic, Value, days
from millstream.patterns.aggregate import Aggregate, Version, replay


class Placed(Event, key="order_id"):
    order_id: str
    cents: int = 0


class Row(Value):
    steps: int


class Book(Aggregate):
    lent: bool = False


class WrongKey(Event, key=7):  # refused by pyright
    order_id: str


placed = Placed(order_id="o-1")
assert_type(placed.cents, int)
placed.cents = 3  # refused
Placed("o-1")  # refused
Placed()  # refused
Placed(order_id=7)  # refused
Placed(order_id="o-1", cent=3)  # refused

deleted = Deleted[Placed](key="o-1")
assert_type(deleted.key, str)
Deleted[Placed](order_id="o-1")  # refused
Deleted[Row](key="o-1")  # refused

Topic("orders", Row)  # refused
Topic("orders", retention=7)  # refused
Topic("orders", format="xml")  # refused
Topic("orders", tombstones="keep")  # refused
Retry(within=60)  # refused
Store("rows", str)  # refused

service = Service("shop")
service.on(Row)  # refused
service.on(Placed, on_failure="park_key")  # refused
service.effect(Placed, timeout=10)  # refused
Service("shop", delivery="once")  # refused
Service("shop", publishes=Placed)  # refused


@service.on(Placed)
def take(event: Placed) -> None: ...


take(Row(steps=1))  # refused
assert_type(days(1), timedelta)
assert_type(replay(Book, []), Version[Book])


def reads(rows: State[Row]) -> None:
    assert_type(rows.get("o-1"), Row | None)
    rows.put("o-1", placed)  # refused


async def unused() -> AsyncIterator[Placed]:
    yield Row(steps=1)  # refused
