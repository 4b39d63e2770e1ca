"""How an application tests its handlers: as the functions that they are."""

import msgspec
from shop import Cancel, Lost, Order, Overdue, Placed, Product, Withdrawn, created, gone

from millstream import Deleted
from millstream.patterns.aggregate import replay


def test_handlers() -> None:
    placed = Placed(order_id="o-1")
    row = created(placed, None)
    assert row.order_id == placed.order_id
    gone(Deleted[Product](key="p-1"))
    later = msgspec.structs.replace(placed, email="ada@example.org")
    assert later.email is not None
    decided: object = Order().cancel(Cancel(order_id="o-1"))
    assert decided == Withdrawn(order_id="o-1")
    assert replay(Order, [Withdrawn(order_id="o-1")]).state.withdrawn
    assert Overdue(order_id="o-1").order_id == Lost(order_id="o-1", reason="").order_id
