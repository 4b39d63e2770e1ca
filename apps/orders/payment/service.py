"""The payment service: effects on the gateway, whose outcomes are events.

A charge that got no answer is an outcome too, `PaymentUnresolved`. The service hears it itself and asks until there is
an answer. A cancel voids the charge by its key, also one that is still on its way: whichever reaches the gateway first,
the customer does not pay.
"""

from millstream import Retry, Service, Unsettled, exponential, hours, seconds
from orders.contracts import (
    OrderCancelled,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentUnresolved,
    RefundReturn,
    ReturnRefunded,
    ReturnRefundRefused,
    StockReserved,
)
from orders.payment.gateway import (
    CONCURRENCY,
    EFFECT_WITHIN,
    Charged,
    Declined,
    Gateway,
    Refunded,
    Refused,
    Unknown,
    connect,
)

payment = Service("payment")
payment.provides(connect)

_UNTIL_SETTLED = Retry(attempts=None, backoff=exponential(0.1, limit=5), within=hours(24))
_WITHIN = seconds(EFFECT_WITHIN)


@payment.effect(StockReserved, timeout=_WITHIN, concurrency=CONCURRENCY, retry=_UNTIL_SETTLED)
async def charge(reserved: StockReserved, gateway: Gateway) -> PaymentCompleted | PaymentDeclined | PaymentUnresolved:
    """Charges an order whose stock is reserved.

    Without an answer it is unresolved; whatever else goes wrong is tried again, for the charge may have been made.
    """
    match await gateway.charge(reserved.order_id, reserved.total):
        case Charged(amount):
            return PaymentCompleted(order_id=reserved.order_id, amount=amount)
        case Declined(reason):
            return PaymentDeclined(order_id=reserved.order_id, reason=reason)
        case Unknown():
            return PaymentUnresolved(order_id=reserved.order_id, amount=reserved.total)


@payment.effect(PaymentUnresolved, timeout=_WITHIN, concurrency=CONCURRENCY, retry=_UNTIL_SETTLED)
async def settle(unresolved: PaymentUnresolved, gateway: Gateway) -> PaymentCompleted | PaymentDeclined:
    """Asks what became of a charge; one that the gateway never heard of is made now, under the same key."""
    outcome = await gateway.outcome(unresolved.order_id) or await gateway.charge(unresolved.order_id, unresolved.amount)
    match outcome:
        case Charged(amount):
            return PaymentCompleted(order_id=unresolved.order_id, amount=amount)
        case Declined(reason):
            return PaymentDeclined(order_id=unresolved.order_id, reason=reason)
        case Unknown(detail):
            raise Unsettled(f"charge of order {unresolved.order_id}: {detail}")


@payment.effect(OrderCancelled, timeout=_WITHIN, concurrency=CONCURRENCY, retry=_UNTIL_SETTLED)
async def void(cancelled: OrderCancelled, gateway: Gateway) -> PaymentRefunded | None:
    """Makes sure that a cancelled order costs nothing, whether its charge was made, is on its way or never comes."""
    refunded = await gateway.void(cancelled.order_id)
    return PaymentRefunded(order_id=cancelled.order_id, amount=refunded) if refunded else None


@payment.effect(RefundReturn, timeout=_WITHIN, concurrency=CONCURRENCY, retry=_UNTIL_SETTLED)
async def refund(command: RefundReturn, gateway: Gateway) -> ReturnRefunded | ReturnRefundRefused:
    """Gives the money of a return back."""
    match await gateway.refund(command.return_id, command.refund):
        case Refunded(amount):
            return ReturnRefunded(return_id=command.return_id, amount=amount)
        case Refused(reason):
            return ReturnRefundRefused(return_id=command.return_id, reason=reason)
