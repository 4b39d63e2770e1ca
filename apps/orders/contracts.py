"""What travels between the services: events, commands and their topics. Everything else is private to a service.

`order_id` and `return_id` are business keys: all about one order, on every topic, is in the partition of that id.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from typing import Annotated, Any, Literal

from millstream import FOREVER, Command, Doc, Event, Scale, Topic, Value, days, upcasts

Money = Annotated[Decimal, Scale(18, 4)]


class OrderLine(Value):
    """So many of one product, at a price each. An order or a return may have several lines of the same product."""

    product: str
    quantity: int
    unit_price: Money


class ProductQuantity(Value):
    """So many of one product."""

    product: str
    quantity: int


# The order service


class OrderEvent(Event, key="order_id"):
    """About one order."""

    order_id: str


class OrderCreated(OrderEvent):
    """A valid order came in. `reference` is the customer's own number for it."""

    customer_id: str | None = None
    country: str | None = None
    reference: str | None = None
    lines: tuple[OrderLine, ...]
    total: Money
    placed_at: Annotated[datetime | None, Doc("When the customer ordered, where that is older than the event.")] = None


@upcasts(OrderCreated, "com.example.orders.OrderCreated")
def from_the_first_shop(old: dict[str, Any]) -> OrderCreated:
    """The first shop named each unit, priced the order only, and wrote times as milliseconds."""
    total = Decimal(str(old["totalAmount"])).quantize(Decimal("0.0001"))
    share = (total / max(len(old["items"]), 1)).quantize(Decimal("0.0001"), ROUND_DOWN)
    return OrderCreated(
        order_id=old["orderId"],
        customer_id=old["customerId"],
        lines=tuple(
            OrderLine(product=product, quantity=quantity, unit_price=share)
            for product, quantity in Counter(old["items"]).items()
        ),
        total=total,
        placed_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=old["createdAt"]),
    )


class OrderConfirmed(OrderEvent):
    """Reserved and paid: from here on it can no longer be cancelled by the customer."""

    units: int
    country: str | None = None


class OrderCompleted(OrderEvent):
    """The goods are on their way."""


class OrderCancelled(OrderEvent):
    """The order ended without delivery; whoever did something for it undoes that."""

    reason: str


class OrderCancelRefused(OrderEvent):
    """The customer's cancel came after the confirmation."""

    reason: str


class ReturnEvent(Event, key="return_id"):
    """About one return."""

    return_id: str


class ReturnAccepted(ReturnEvent):
    """Goods come back. Accepted as goodwill: no order has to be named."""

    customer_id: str | None = None
    reference: str | None = None
    lines: tuple[OrderLine, ...]
    refund: Money


class ReturnCompleted(ReturnEvent):
    """The goods are back in stock and the customer has the money."""


class ReturnRefused(ReturnEvent):
    """The return ended without money; its goods are not in the stock."""

    reason: str


class CancelOrder(Command, key="order_id"):
    """The customer no longer wants it."""

    order_id: str


class RequestReturn(Command, key="return_id"):
    """The customer sends goods back."""

    return_id: str
    customer_id: str | None = None
    reference: str | None = None
    lines: tuple[OrderLine, ...]
    refund: Money


class MailDue(Event, key="about"):
    """The customer is to be told, with all that the mail says. `about` is the id of the order or return."""

    about: str
    kind: Literal["created", "completed", "cancelled", "returned", "return_refused"]
    customer_id: str | None = None
    reference: str | None = None
    amount: Money
    reason: str | None = None


orders = Topic(
    "orders.events",
    OrderCreated,
    OrderConfirmed,
    OrderCompleted,
    OrderCancelled,
    OrderCancelRefused,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefused,
    retention=FOREVER,
)
commands = Topic("orders.commands", CancelOrder, RequestReturn, retention=days(7))
outbox = Topic("outbox.events", MailDue, retention=FOREVER)


# What the order service asks of others for a return. Each answers every time it is asked.


class ReturnCommand(Command, key="return_id"):
    """About one return."""

    return_id: str


class RestockGoods(ReturnCommand):
    """Put the goods of a return on sale again."""

    lines: tuple[OrderLine, ...]


class WithdrawGoods(ReturnCommand):
    """Take the goods of a return off sale; should they not be there yet, refuse them when they come."""

    lines: tuple[OrderLine, ...]


class RefundReturn(ReturnCommand):
    """Give the customer the money for a return."""

    refund: Money


return_commands = Topic("returns.commands", RestockGoods, WithdrawGoods, RefundReturn, retention=days(7))


# Inventory


class StockProduct(Command, key="product"):
    """Goods arrived. A delivery that is announced twice (the same `delivery_id`) counts once."""

    product: str
    name: str
    quantity: int
    delivery_id: str


class ProductStocked(Event, key="product"):
    """The product can be ordered; `on_hand` is what there is of it, reserved or not."""

    product: str
    name: str
    quantity: int
    on_hand: int


class StockReserved(OrderEvent):
    """Every line of the order is set aside. `total` is what is to be paid."""

    total: Money


class StockReservationFailed(OrderEvent):
    """Something is missing, so nothing was set aside."""

    missing: tuple[ProductQuantity, ...]


class StockReservationCancelled(OrderEvent):
    """What was set aside for a cancelled order is for sale again."""


class StockReturned(ReturnEvent):
    """The goods of a return are for sale again."""


class RestockRefused(ReturnEvent):
    """The goods of a return were withdrawn before they came."""

    reason: str


class StockWithdrawn(ReturnEvent):
    """The goods of a return are not for sale, and will not be."""


class StockWithdrawalRefused(ReturnEvent):
    """Some goods of a return are promised to others by now, so none was withdrawn."""

    missing: tuple[ProductQuantity, ...]


stock_commands = Topic("inventory.commands", StockProduct, retention=days(7))
stock = Topic(
    "inventory.events",
    ProductStocked,
    StockReserved,
    StockReservationFailed,
    StockReservationCancelled,
    StockReturned,
    RestockRefused,
    StockWithdrawn,
    StockWithdrawalRefused,
    retention=FOREVER,
)


# Payment


class PaymentCompleted(OrderEvent):
    """The customer was charged."""

    amount: Money


class PaymentDeclined(OrderEvent):
    """The customer was not charged, and will not be."""

    reason: str


class PaymentUnresolved(OrderEvent):
    """Nobody knows yet whether the customer was charged; the stock stays reserved while the gateway is asked."""

    amount: Money


class PaymentRefunded(OrderEvent):
    """A cancelled order had been charged; the customer has the money back."""

    amount: Money


class ReturnRefunded(ReturnEvent):
    """The customer has the money for a return."""

    amount: Money


class ReturnRefundRefused(ReturnEvent):
    """The customer does not get the money for a return, and will not."""

    reason: str


payments = Topic(
    "payments.events",
    PaymentCompleted,
    PaymentDeclined,
    PaymentUnresolved,
    PaymentRefunded,
    ReturnRefunded,
    ReturnRefundRefused,
    retention=FOREVER,
)


# Shipping


class ShipmentScheduled(OrderEvent):
    """The carrier comes for it."""

    tracking: str
    units: int


class ShipmentFailed(OrderEvent):
    """No carrier takes it."""

    reason: str


shipments = Topic("shipping.events", ShipmentScheduled, ShipmentFailed, retention=FOREVER)
