"""The row of an order comes out the same, whatever the order in which topics are read."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orders.contracts import (
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    PaymentCompleted,
    PaymentRefunded,
    PaymentUnresolved,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnRefused,
    ShipmentFailed,
    ShipmentScheduled,
    StockReservationCancelled,
    StockReserved,
    StockReturned,
    StockWithdrawn,
)
from orders.read_model.rows import ORDER_EVENTS, RETURN_EVENTS, OrderRow, project

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LINES = (OrderLine(product="22465", quantity=12, unit_price=Decimal("1.65")),)
MONEY = Decimal("19.80")
CREATED = OrderCreated(order_id="o-1", customer_id="17850", country="France", lines=LINES, total=MONEY)
HAPPY = [
    [CREATED, OrderConfirmed(order_id="o-1", units=12), OrderCompleted(order_id="o-1")],
    [StockReserved(order_id="o-1", total=MONEY)],
    [PaymentUnresolved(order_id="o-1", amount=MONEY), PaymentCompleted(order_id="o-1", amount=MONEY)],
    [ShipmentScheduled(order_id="o-1", tracking="MS1", units=12)],
]
UNHAPPY = [
    [CREATED, OrderConfirmed(order_id="o-1", units=12), OrderCancelled(order_id="o-1", reason="not deliverable")],
    [StockReserved(order_id="o-1", total=MONEY), StockReservationCancelled(order_id="o-1")],
    [PaymentCompleted(order_id="o-1", amount=MONEY), PaymentRefunded(order_id="o-1", amount=MONEY)],
    [ShipmentFailed(order_id="o-1", reason="no carrier")],
]
ACCEPTED = ReturnAccepted(return_id="r-1", customer_id="17850", lines=LINES, refund=MONEY)
RETURN = [
    [ACCEPTED, ReturnCompleted(return_id="r-1")],
    [StockReturned(return_id="r-1")],
    [ReturnRefunded(return_id="r-1", amount=MONEY)],
]
REFUSED_RETURN = [
    [ACCEPTED, ReturnRefused(return_id="r-1", reason="refund limit exceeded")],
    [StockReturned(return_id="r-1"), StockWithdrawn(return_id="r-1")],
    [ReturnRefundRefused(return_id="r-1", reason="refund limit exceeded")],
]
STORIES = [HAPPY, UNHAPPY, RETURN, REFUSED_RETURN]


def fold(timed: list[tuple[Any, datetime]]) -> OrderRow:
    row = None
    for event, at in timed:
        row = project(event, row, at)
    assert row is not None
    return row


@given(st.sampled_from(STORIES), st.data())
def test_topics_may_be_read_in_any_order_and_events_come_twice(topics: list[list[Any]], data: st.DataObject):
    straight = [event for topic in topics for event in topic]
    at = {id(event): BEGIN + timedelta(seconds=number) for number, event in enumerate(straight)}
    left = [list(topic) for topic in topics]
    mixed: list[Any] = []
    while any(left):
        topic = data.draw(st.sampled_from([topic for topic in left if topic]))
        mixed.append(topic.pop(0))
        if data.draw(st.booleans()):
            mixed.append(mixed[-1])
    assert fold([(event, at[id(event)]) for event in mixed]) == fold([(event, at[id(event)]) for event in straight])


def test_what_a_completed_order_shows():
    row = fold([(event, BEGIN) for topic in HAPPY for event in topic])
    assert (row.status, row.stock, row.payment, row.shipment) == ("completed", "reserved", "completed", "scheduled")
    assert (row.customer, row.total, row.units, row.tracking) == ("17850", MONEY, 12, "MS1")


def test_what_a_refused_return_shows():
    row = fold([(event, BEGIN) for topic in REFUSED_RETURN for event in topic])
    assert (row.status, row.stock, row.payment, row.refunded) == ("refused", "withdrawn", "refused", 0)
    assert row.reason == "refund limit exceeded"


def test_every_event_has_its_place_in_the_row():
    shown = {type(event) for story in STORIES for topic in story for event in topic}
    assert {event.__name__ for event in {*ORDER_EVENTS, *RETURN_EVENTS} - shown} == {
        "OrderCancelRefused",
        "PaymentDeclined",
        "StockReservationFailed",
    }
