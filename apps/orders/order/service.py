"""The order service: notes what the others report and says what follows; returns are a saga of their own."""

from collections.abc import Iterable
from typing import Annotated

from msgspec.structs import replace

from millstream import Service, State, Store
from orders.contracts import (
    CancelOrder,
    MailDue,
    OrderCancelled,
    OrderCancelRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    PaymentCompleted,
    PaymentDeclined,
    RequestReturn,
    ShipmentFailed,
    ShipmentScheduled,
    StockProduct,
    StockReservationFailed,
)
from orders.order import catalogue
from orders.order.decisions import (
    OrderState,
    decide_order,
    note_created,
    note_trouble,
)
from orders.order.returns import returns

ORDERS = Store("orders", OrderState)

order = Service(
    "order",
    tables=catalogue.metadata,
    web="orders.order.web:app",
    publishes=(OrderCreated, MailDue, CancelOrder, RequestReturn, StockProduct),
)
order.on(catalogue.ProductStocked)(catalogue.keep)
returns.mount(order)

Fact = (
    OrderCreated
    | CancelOrder
    | StockReservationFailed
    | PaymentCompleted
    | PaymentDeclined
    | ShipmentScheduled
    | ShipmentFailed
)


@order.on(
    OrderCreated,
    CancelOrder,
    StockReservationFailed,
    PaymentCompleted,
    PaymentDeclined,
    ShipmentScheduled,
    ShipmentFailed,
)
def conclude(
    fact: Fact, orders: Annotated[State[OrderState], ORDERS]
) -> Iterable[OrderConfirmed | OrderCompleted | OrderCancelled | OrderCancelRefused | MailDue]:
    """Notes one fact about an order and says what follows from all that is known."""
    before = orders.get(fact.order_id)
    state, outcomes = decide_order(fact.order_id, note(before or OrderState(), fact))
    if state != before:
        orders.put(fact.order_id, state)
    return outcomes


def note(state: OrderState, fact: Fact) -> OrderState:
    """The state with one more fact. Noting a fact twice, or two facts the other way round, makes no difference."""
    match fact:
        case OrderCreated():
            return note_created(state, fact)
        case CancelOrder():
            return replace(state, cancel_asked=True)
        case PaymentCompleted():
            return replace(state, paid=True)
        case ShipmentScheduled():
            return replace(state, shipped=True)
        case StockReservationFailed():
            return note_trouble(state, _out_of_stock(fact))
        case PaymentDeclined():
            return note_trouble(state, f"payment declined: {fact.reason}")
        case ShipmentFailed():
            return note_trouble(state, f"not deliverable: {fact.reason}")


def _out_of_stock(failed: StockReservationFailed) -> str:
    shown = ", ".join(f"{missing.product} ({missing.quantity} short)" for missing in failed.missing[:5])
    more = len(failed.missing) - 5
    return f"out of stock: {shown}" + (f" and {more} more" if more > 0 else "")
