"""How an order ends, decided from what has arrived so far.

Topics have no order among each other, and a fact may come twice. So a fact is only noted (noting is commutative and
idempotent), and whatever is known decides: `decide_order` gives what follows and the state in which it has been said.
"""

from decimal import Decimal
from typing import Literal

from msgspec.structs import replace

from millstream import Value
from orders.contracts import (
    MailDue,
    Money,
    OrderCancelled,
    OrderCancelRefused,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
)

BY_CUSTOMER = "cancelled by customer"
TOO_LATE = "already paid and on its way"


class OrderState(Value):
    """One order as the order service knows it."""

    # Facts, noted as they arrive
    created: bool = False
    customer_id: str | None = None
    country: str | None = None
    reference: str | None = None
    total: Money = Decimal(0)
    units: int = 0
    paid: bool = False
    shipped: bool = False
    cancel_asked: bool = False
    trouble: str | None = None
    # Decisions
    confirmed: bool = False
    ended: bool = False
    cancelled: bool = False
    cancel_refused: bool = False


OrderOutcome = OrderConfirmed | OrderCompleted | OrderCancelled | OrderCancelRefused | MailDue


def note_created(state: OrderState, order: OrderCreated) -> OrderState:
    """The state with what later decisions and mails need of the order."""
    return replace(
        state,
        created=True,
        customer_id=order.customer_id,
        country=order.country,
        reference=order.reference,
        total=order.total,
        units=sum(line.quantity for line in order.lines),
    )


def note_trouble(state: OrderState, reason: str) -> OrderState:
    """The state with the first reason why the order cannot be delivered."""
    return state if state.trouble else replace(state, trouble=reason)


def decide_order(order_id: str, state: OrderState) -> tuple[OrderState, tuple[OrderOutcome, ...]]:
    """What follows from what is known, each decision once in the life of an order.

    A payment wins against a cancel unless the cancel was decided first. Nothing is decided before the order itself
    is known.
    """
    if not state.created:
        return state, ()
    outcomes: list[OrderOutcome] = []
    if state.paid and not state.confirmed and not state.ended:
        state = replace(state, confirmed=True)
        outcomes.append(OrderConfirmed(order_id=order_id, units=state.units, country=state.country))
    if not state.ended and (reason := _reason_to_cancel(state)) is not None:
        state = replace(state, ended=True, cancelled=True)
        outcomes += [OrderCancelled(order_id=order_id, reason=reason), _mail(order_id, state, "cancelled", reason)]
    elif not state.ended and state.confirmed and state.shipped:
        state = replace(state, ended=True)
        outcomes += [OrderCompleted(order_id=order_id), _mail(order_id, state, "completed", None)]
    if state.cancel_asked and state.confirmed and not (state.cancelled or state.cancel_refused):
        state = replace(state, cancel_refused=True)
        outcomes.append(OrderCancelRefused(order_id=order_id, reason=TOO_LATE))
    return state, tuple(outcomes)


def _reason_to_cancel(state: OrderState) -> str | None:
    if state.trouble is not None:
        return state.trouble
    return BY_CUSTOMER if state.cancel_asked and not state.confirmed else None


def _mail(order_id: str, state: OrderState, kind: Literal["completed", "cancelled"], reason: str | None) -> MailDue:
    return MailDue(
        about=order_id,
        kind=kind,
        customer_id=state.customer_id,
        reference=state.reference,
        amount=state.total,
        reason=reason,
    )
