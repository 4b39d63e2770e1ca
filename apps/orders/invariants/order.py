"""Of every order: it ends once, costs what it should, and takes no step before its time."""

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from millstream.declare import Contract
from millstream.declare.invariant import Case, Cases
from orders.contracts import (
    MailDue,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentUnresolved,
    ShipmentFailed,
    ShipmentScheduled,
    StockReservationCancelled,
    StockReservationFailed,
    StockReserved,
)
from orders.invariants.mails import less_mail, of_an_order


def _less_order(order: OrderCreated) -> OrderCreated:
    return replace(order, customer_id=None, country=None, reference=None, placed_at=None)


order = Cases(
    "order",
    OrderCreated,
    OrderConfirmed,
    OrderCompleted,
    OrderCancelled,
    StockReserved,
    StockReservationFailed,
    StockReservationCancelled,
    PaymentCompleted,
    PaymentDeclined,
    PaymentUnresolved,
    PaymentRefunded,
    ShipmentScheduled,
    ShipmentFailed,
    MailDue,
    keep={OrderCreated: _less_order, MailDue: less_mail},
    by={MailDue: of_an_order},
)


@order.invariant
def ends_exactly_once(case: Case) -> Iterable[str]:
    """Completed or cancelled, never both, and never neither."""
    completed, cancelled = case.count(OrderCompleted), case.count(OrderCancelled)
    if completed and cancelled:
        yield "it is completed and cancelled"
    elif completed + cancelled > 1:
        yield f"it ends {completed + cancelled} times"
    elif case.at_rest and not completed + cancelled and case[OrderCreated]:
        yield "it has not ended"


@order.invariant
def is_charged_at_most_once(case: Case) -> Iterable[str]:
    """One charge, of what the order costs."""
    if (times := case.count(PaymentCompleted)) > 1:
        yield f"it was charged {times} times"
    for created in case[OrderCreated][:1]:
        for paid in case[PaymentCompleted]:
            if paid.amount != created.total:
                yield f"it costs {created.total}, and {paid.amount} was charged"


@order.invariant
def cancelled_costs_nothing(case: Case) -> Iterable[str]:
    """The charge of a cancelled order is refunded, all of it, once; and no other's is.

    A refund without a charge is one whose charge got no answer before the cancel: the gateway knew of it.
    """
    if (times := case.count(PaymentRefunded)) > 1:
        yield f"it was refunded {times} times"
    charges = [*(paid.amount for paid in case[PaymentCompleted]), *(left.total for left in case[StockReserved])]
    refunds = [refund.amount for refund in case[PaymentRefunded]]
    if charges and refunds and refunds[0] != charges[0]:
        yield f"{charges[0]} was charged, and {refunds[0]} refunded"
    if not case.at_rest:
        return
    cancelled = case.count(OrderCancelled)
    if cancelled and case[PaymentCompleted] and not refunds:
        yield f"it is cancelled, and its charge of {charges[0]} was not refunded"
    if refunds and not cancelled:
        yield f"{refunds[0]} was refunded, and it is not cancelled"


@order.invariant
def stock_is_conserved(case: Case) -> Iterable[str]:
    """Reserved once; a cancelled order's goods are for sale again, once; a completed one's were reserved, and left."""
    for contract in (StockReserved, StockReservationCancelled):
        if (times := case.count(contract)) > 1:
            yield f"{contract.__name__} is said {times} times"
    if case[StockReserved] and case[StockReservationFailed]:
        yield "its stock is reserved, and could not be reserved"
    if case[StockReservationCancelled] and case[OrderCompleted]:
        yield "its goods are for sale again, and it is completed"
    if not case.at_rest:
        return
    if case[OrderCompleted] and not case[StockReserved]:
        yield "it is completed, and its stock was never reserved"
    if case[OrderCancelled] and case[StockReserved] and not case[StockReservationCancelled]:
        yield "it is cancelled, and its stock is still reserved"


@order.invariant
def inventory_looks_for_its_goods(case: Case) -> Iterable[str]:
    """They are there or not, and that is said of every order, before anything else becomes of it."""
    if case.at_rest and case[OrderCreated] and not case.count(StockReserved, StockReservationFailed):
        yield "nobody has said whether its goods are there"


_NEEDS: dict[type[Contract], tuple[type[Contract], ...]] = {
    StockReserved: (OrderCreated,),
    StockReservationFailed: (OrderCreated,),
    StockReservationCancelled: (StockReserved, OrderCancelled),
    PaymentCompleted: (StockReserved,),
    PaymentDeclined: (StockReserved,),
    PaymentUnresolved: (StockReserved,),
    PaymentRefunded: (OrderCancelled,),
    OrderConfirmed: (OrderCreated, PaymentCompleted),
    OrderCompleted: (ShipmentScheduled,),
    OrderCancelled: (OrderCreated,),
    ShipmentScheduled: (OrderConfirmed,),
    ShipmentFailed: (OrderConfirmed,),
}


@order.invariant
def takes_no_step_before_its_time(case: Case) -> Iterable[str]:
    """Whatever a step needs has happened."""
    if not case.at_rest:
        return
    for step, needs in _NEEDS.items():
        if case.count(step):
            yield from (f"{step.__name__} without {need.__name__}" for need in needs if not case.count(need))


@order.invariant
def every_end_is_told(case: Case) -> Iterable[str]:
    """One mail for each end, and none for what did not happen.

    That it is created may be said twice, under one id: a customer who gets no answer asks for the same again.
    """
    told = Counter(mail.kind for mail in case[MailDue])
    for kind in ("completed", "cancelled"):
        if told[kind] > 1:
            yield f"{told[kind]} mails say that it is {kind}"
    if not case.at_rest:
        return
    for kind, happened in (("completed", OrderCompleted), ("cancelled", OrderCancelled)):
        if case.count(happened) and not told[kind]:
            yield f"it is {kind}, and no mail says so"
        if told[kind] and not case.count(happened):
            yield f"a mail says that it is {kind}, and it is not"
