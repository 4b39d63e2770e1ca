"""What is shown of an order or return: one row each, and how every event changes it.

Rows are made of facts that do not contradict each other, and of states that only ever advance, so the same row comes
out whatever the order between topics, and an event that comes twice changes nothing.
"""

from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeVar

from msgspec.structs import replace

from millstream import Value
from orders.contracts import (
    Money,
    OrderCancelled,
    OrderCancelRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderEvent,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentUnresolved,
    ReturnAccepted,
    ReturnCompleted,
    ReturnEvent,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnRefused,
    ShipmentFailed,
    ShipmentScheduled,
    StockReservationCancelled,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockWithdrawn,
)

STATUSES = ("unknown", "open", "confirmed", "completed", "cancelled", "refused")
STOCKS = ("none", "reserved", "failed", "released", "returned", "withdrawn")
PAYMENTS = ("none", "unresolved", "declined", "completed", "refunded", "refused")
SHIPMENTS = ("none", "failed", "scheduled")

ORDER_EVENTS = (
    OrderCreated,
    OrderConfirmed,
    OrderCompleted,
    OrderCancelled,
    OrderCancelRefused,
    StockReserved,
    StockReservationFailed,
    StockReservationCancelled,
    PaymentCompleted,
    PaymentDeclined,
    PaymentUnresolved,
    PaymentRefunded,
    ShipmentScheduled,
    ShipmentFailed,
)
RETURN_EVENTS = (
    ReturnAccepted,
    StockReturned,
    StockWithdrawn,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnCompleted,
    ReturnRefused,
)


class OrderRow(Value):
    """An order or a return. `total` is what was to be paid, or to be given back for a return."""

    id: str
    kind: Literal["order", "return"]
    status: Literal["unknown", "open", "confirmed", "completed", "cancelled", "refused"] = "unknown"
    customer: str | None = None
    country: str | None = None
    reference: str | None = None
    total: Money = Decimal(0)
    units: int = 0
    reason: str | None = None
    cancel_refused: bool = False
    stock: Literal["none", "reserved", "failed", "released", "returned", "withdrawn"] = "none"
    payment: Literal["none", "unresolved", "declined", "completed", "refunded", "refused"] = "none"
    refunded: Money = Decimal(0)
    shipment: Literal["none", "failed", "scheduled"] = "none"
    tracking: str | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime


def project(event: OrderEvent | ReturnEvent, row: OrderRow | None, at: datetime) -> OrderRow:
    """The row after `event`, which happened `at` that time."""
    if row is None:
        id, kind = (event.order_id, "order") if isinstance(event, OrderEvent) else (event.return_id, "return")
        row = OrderRow(id=id, kind=kind, updated_at=at)
    row = replace(row, updated_at=max(row.updated_at, at))
    match event:
        case OrderCreated():
            return replace(
                row,
                status=_later(STATUSES, row.status, "open"),
                customer=event.customer_id,
                country=event.country,
                reference=event.reference,
                total=event.total,
                units=sum(line.quantity for line in event.lines),
                created_at=at,
            )
        case OrderConfirmed():
            return replace(row, status=_later(STATUSES, row.status, "confirmed"))
        case OrderCompleted():
            return replace(row, status="completed", ended_at=at)
        case OrderCancelled():
            return replace(row, status="cancelled", reason=event.reason, ended_at=at)
        case OrderCancelRefused():
            return replace(row, cancel_refused=True)
        case StockReserved():
            return replace(row, stock=_later(STOCKS, row.stock, "reserved"))
        case StockReservationFailed():
            return replace(row, stock=_later(STOCKS, row.stock, "failed"))
        case StockReservationCancelled():
            return replace(row, stock="released")
        case PaymentUnresolved():
            return replace(row, payment=_later(PAYMENTS, row.payment, "unresolved"))
        case PaymentDeclined():
            return replace(row, payment=_later(PAYMENTS, row.payment, "declined"))
        case PaymentCompleted():
            return replace(row, payment=_later(PAYMENTS, row.payment, "completed"))
        case PaymentRefunded() | ReturnRefunded():
            return replace(row, payment="refunded", refunded=event.amount)
        case ShipmentScheduled():
            return replace(row, shipment="scheduled", tracking=event.tracking)
        case ShipmentFailed():
            return replace(row, shipment=_later(SHIPMENTS, row.shipment, "failed"))
        case ReturnAccepted():
            return replace(
                row,
                status=_later(STATUSES, row.status, "open"),
                customer=event.customer_id,
                reference=event.reference,
                total=event.refund,
                units=sum(line.quantity for line in event.lines),
                created_at=at,
            )
        case StockReturned():
            return replace(row, stock=_later(STOCKS, row.stock, "returned"))
        case StockWithdrawn():
            return replace(row, stock="withdrawn")
        case ReturnRefundRefused():
            return replace(row, payment="refused")
        case ReturnCompleted():
            return replace(row, status="completed", ended_at=at)
        case ReturnRefused():
            return replace(row, status="refused", reason=event.reason, ended_at=at)
        case _:
            raise TypeError(f"no row shows {type(event).__name__}")


State = TypeVar("State", bound=str)


def _later(states: tuple[str, ...], one: State, other: State) -> State:
    return max(one, other, key=states.index)
