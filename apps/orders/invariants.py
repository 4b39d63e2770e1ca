"""What must be true of the order system's events, whatever went wrong: `millstream verify` holds the log to it.

Everything here looks at topics that are kept for ever, so it holds of years-old orders, too.
"""

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from millstream import Envelope
from millstream.declare import Contract
from millstream.declare.invariant import Account, Case, Cases, Causes, Invariants, Total
from orders.contracts import (
    CancelOrder,
    MailDue,
    OrderCancelled,
    OrderCancelRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentUnresolved,
    ProductStocked,
    RefundReturn,
    RequestReturn,
    RestockGoods,
    RestockRefused,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnRefused,
    ShipmentFailed,
    ShipmentScheduled,
    StockProduct,
    StockReservationCancelled,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockWithdrawalRefused,
    StockWithdrawn,
    WithdrawGoods,
)

# Orders


def _less_order(order: OrderCreated) -> OrderCreated:
    return replace(order, customer_id=None, country=None, reference=None, placed_at=None)


def _of_an_order(mail: MailDue, envelope: Envelope) -> str | None:
    return None if _of_a_return(mail, envelope) else mail.about


def _less_mail(mail: MailDue) -> MailDue:
    return replace(mail, customer_id=None, reference=None, reason=None)


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
    keep={OrderCreated: _less_order, MailDue: _less_mail},
    by={MailDue: _of_an_order},
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


# Returns


def _of_a_return(mail: MailDue, _: Envelope) -> str | None:
    return mail.about if mail.kind in ("returned", "return_refused") else None


def _less_return(accepted: ReturnAccepted) -> ReturnAccepted:
    return replace(accepted, customer_id=None, reference=None)


returned = Cases(
    "return",
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefused,
    StockReturned,
    StockWithdrawn,
    RefundReturn,
    ReturnRefunded,
    MailDue,
    keep={ReturnAccepted: _less_return, MailDue: _less_mail},
    by={MailDue: _of_a_return},
)


@returned.invariant
def ends_once(case: Case) -> Iterable[str]:
    """Completed or refused, never both, and never neither."""
    completed, refused = case.count(ReturnCompleted), case.count(ReturnRefused)
    if completed and refused:
        yield "it is completed and refused"
    elif completed + refused > 1:
        yield f"it ends {completed + refused} times"
    elif case.at_rest and not completed + refused and case[ReturnAccepted]:
        yield "it has not ended"


@returned.invariant
def is_refunded_at_most_once(case: Case) -> Iterable[str]:
    """The money goes back where the return is completed, all of it, once.

    Payment answers every time it is asked, so it may say so again; but never more often than it was asked.
    """
    for accepted in case[ReturnAccepted][:1]:
        for refund in case[ReturnRefunded]:
            if refund.amount != accepted.refund:
                yield f"its refund is {accepted.refund}, and {refund.amount} was given"
    if not case.at_rest:
        return
    refunds, asked = case.count(ReturnRefunded), case.count(RefundReturn)
    # Commands are not kept for ever: where none is left, one refund is what there can be at least.
    if refunds > max(asked, 1):
        yield f"it was refunded {refunds} times, and asked for {asked} times"
    if case.count(ReturnCompleted) and not refunds:
        yield "it is completed, and was not refunded"
    if case.count(ReturnRefused) and refunds:
        yield "it is refused, and was refunded"


@returned.invariant
def its_goods_are_where_they_belong(case: Case) -> Iterable[str]:
    """The goods of a completed return are in the stock; those of a refused one are not."""
    if not case.at_rest:
        return
    back = case.count(StockReturned) and not case.count(StockWithdrawn)
    if case.count(ReturnCompleted) and not back:
        yield "it is completed, and its goods are not in the stock"
    if case.count(ReturnRefused) and back:
        yield "it is refused, and its goods are in the stock"


@returned.invariant
def every_end_of_it_is_told(case: Case) -> Iterable[str]:
    """One mail for each end, and none for what did not happen."""
    told = Counter(mail.kind for mail in case[MailDue])
    for kind, happened in (("returned", ReturnCompleted), ("return_refused", ReturnRefused)):
        if told[kind] > 1:
            yield f"{told[kind]} mails say {kind!r}"
        if case.at_rest and case.count(happened) and not told[kind]:
            yield f"there is {happened.__name__}, and no mail says so"
        if case.at_rest and told[kind] and not case.count(happened):
            yield f"a mail says {kind!r}, and there is no {happened.__name__}"


# Stock


def _command_of(stocked: ProductStocked, envelope: Envelope) -> str:
    return envelope.causation_id or envelope.id


delivery = Cases("delivery", ProductStocked, by={ProductStocked: _command_of})


@delivery.invariant
def arrives_once(case: Case) -> Iterable[str]:
    """One command stocks a product once."""
    if (times := case.count(ProductStocked)) > 1:
        yield f"it was put into the stock {times} times"


def _quantities(lines: Iterable[OrderLine], sign: int) -> Counter[str]:
    counted: Counter[str] = Counter()
    for line in lines:
        counted[line.product] += sign * line.quantity
    return counted


def _arrived(case: Case) -> Counter[str]:
    return Counter({stocked.product: stocked.quantity for stocked in case[ProductStocked][:1]})


def _held(case: Case) -> Counter[str]:
    """What an order holds, or took with it."""
    if not case[StockReserved] or case[StockReservationCancelled]:
        return Counter()
    return _quantities((line for created in case[OrderCreated][:1] for line in created.lines), -1)


def _restocked(case: Case) -> Counter[str]:
    if not case[StockReturned] or case[StockWithdrawn]:
        return Counter()
    return _quantities((line for accepted in case[ReturnAccepted][:1] for line in accepted.lines), 1)


stock = Total("stock", {delivery: _arrived, order: _held, returned: _restocked})


@stock.invariant
def never_negative(product: Account) -> Iterable[str]:
    """No more is promised than ever came in."""
    if product.balance < 0:
        yield f"{-product.balance} more are promised or sold than came in"


# Causes: all but what customers and suppliers ask for, and what the timers of a return may lead to

causes = Causes(
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
    ProductStocked,
    ReturnAccepted,
    ReturnCompleted,
    StockReturned,
    RestockRefused,
    StockWithdrawn,
    StockWithdrawalRefused,
    ReturnRefunded,
    ReturnRefundRefused,
    known=(
        OrderCreated,
        MailDue,
        ReturnRefused,
        *(CancelOrder, RequestReturn, StockProduct, RestockGoods, WithdrawGoods, RefundReturn),
    ),
)

invariants: Invariants = (order, returned, delivery, stock, causes)
