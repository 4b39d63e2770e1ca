"""How an order ends, whatever the order in which the others' reports arrive, and however often."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.state.memory import MemoryStore
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
    ProductQuantity,
    ShipmentFailed,
    ShipmentScheduled,
    StockReservationFailed,
)
from orders.order.service import ORDERS, conclude

LINES = (OrderLine(product="22465", quantity=12, unit_price=Decimal("1.6500")),)
CREATED = OrderCreated(order_id="o-1", customer_id="17850", country="France", lines=LINES, total=Decimal("19.8000"))
CANCEL = CancelOrder(order_id="o-1")
PAID = PaymentCompleted(order_id="o-1", amount=Decimal("19.8000"))
DECLINED = PaymentDeclined(order_id="o-1", reason="card declined")
SHIPPED = ShipmentScheduled(order_id="o-1", tracking="MS1", units=12)
NOT_SHIPPED = ShipmentFailed(order_id="o-1", reason="the carrier does not go to Atlantis")
OUT_OF_STOCK = StockReservationFailed(order_id="o-1", missing=(ProductQuantity(product="22465", quantity=3),))


def outcomes(*facts: Any) -> list[Any]:
    """What the order service says when it hears `facts` in this order."""
    orders = MemoryStore(ORDERS)
    return [outcome for fact in facts for outcome in conclude(fact, orders)]


def kinds(*facts: Any) -> list[str]:
    return [
        f"mail:{outcome.kind}" if isinstance(outcome, MailDue) else type(outcome).__name__
        for outcome in outcomes(*facts)
    ]


def test_paid_and_shipped_is_completed():
    assert kinds(CREATED, PAID, SHIPPED) == ["OrderConfirmed", "OrderCompleted", "mail:completed"]


def test_the_confirmation_says_what_shipping_needs():
    assert outcomes(CREATED, PAID) == [OrderConfirmed(order_id="o-1", units=12, country="France")]


def test_a_cancel_before_the_payment_wins():
    said = outcomes(CREATED, CANCEL, PAID)
    assert said[0] == OrderCancelled(order_id="o-1", reason="cancelled by customer")
    assert isinstance(said[1], MailDue) and said[1].kind == "cancelled" and said[1].amount == Decimal("19.8000")
    assert len(said) == 2


def test_a_payment_before_the_cancel_wins():
    assert kinds(CREATED, PAID, CANCEL, SHIPPED) == [
        "OrderConfirmed",
        "OrderCancelRefused",
        "OrderCompleted",
        "mail:completed",
    ]


def test_a_cancel_after_the_end_is_refused_or_already_done():
    assert kinds(CREATED, PAID, SHIPPED, CANCEL)[-1] == "OrderCancelRefused"
    assert kinds(CREATED, OUT_OF_STOCK, CANCEL) == ["OrderCancelled", "mail:cancelled"]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ((CREATED, OUT_OF_STOCK), "out of stock: 22465 (3 short)"),
        ((CREATED, DECLINED), "payment declined: card declined"),
        ((CREATED, PAID, NOT_SHIPPED), "not deliverable: the carrier does not go to Atlantis"),
    ],
)
def test_a_failed_step_cancels(facts: tuple[Any, ...], reason: str):
    [cancelled] = [outcome for outcome in outcomes(*facts) if isinstance(outcome, OrderCancelled)]
    assert cancelled.reason == reason


def test_the_reason_stays_readable_when_much_is_missing():
    missing = tuple(ProductQuantity(product=str(number), quantity=1) for number in range(400))
    reason = outcomes(CREATED, StockReservationFailed(order_id="o-1", missing=missing))[0].reason
    assert reason.endswith("4 (1 short) and 395 more")


def test_what_arrives_before_the_order_itself_is_kept():
    assert kinds(CANCEL, CREATED) == ["OrderCancelled", "mail:cancelled"]
    assert kinds(PAID, CREATED, SHIPPED) == ["OrderConfirmed", "OrderCompleted", "mail:completed"]
    assert kinds(CANCEL, PAID, CREATED) == ["OrderConfirmed", "OrderCancelRefused"]


# What can be reported of one order besides its creation: each of these is one possible story.
STORIES = [
    [PAID, SHIPPED],
    [PAID, NOT_SHIPPED],
    [DECLINED],
    [OUT_OF_STOCK],
]


@given(
    story=st.sampled_from(STORIES),
    cancelled=st.booleans(),
    order=st.randoms(use_true_random=False),
    repeats=st.lists(st.integers(0, 3), min_size=4, max_size=4),
)
def test_every_interleaving_ends_once_and_consistently(
    story: list[Any], cancelled: bool, order: Any, repeats: list[int]
):
    facts = [CREATED, *story, *([CANCEL] if cancelled else [])]
    facts += [fact for fact, repeat in zip(facts, repeats, strict=False) for _ in range(repeat)]
    order.shuffle(facts)
    said = outcomes(*facts)
    count = {kind: sum(isinstance(outcome, kind) for outcome in said) for kind in (
        OrderConfirmed, OrderCompleted, OrderCancelled, OrderCancelRefused)}  # fmt: skip
    assert all(number <= 1 for number in count.values())
    assert count[OrderCompleted] + count[OrderCancelled] == 1, "every order ends, in one way"
    assert not (count[OrderCompleted] and not count[OrderConfirmed]), "nothing is delivered unpaid"
    assert [outcome.kind for outcome in said if isinstance(outcome, MailDue)] == [
        "completed" if count[OrderCompleted] else "cancelled"
    ]
    if count[OrderCompleted] and cancelled:
        assert count[OrderCancelRefused] == 1, "a customer whose cancel did not help is told"
    if not cancelled:
        assert count[OrderCompleted] == (story == [PAID, SHIPPED]), (
            "without a cancel, the order of arrival decides nothing"
        )
