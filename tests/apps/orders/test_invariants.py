"""The invariants of the order system: of each a story that keeps it, and one that breaks it."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.operate.verify.story import Log

from millstream.declare import Contract
from millstream.operate.verify import Auditor
from orders.contracts import (
    MailDue,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    ProductStocked,
    RefundReturn,
    RequestReturn,
    RestockGoods,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnRefused,
    ShipmentFailed,
    ShipmentScheduled,
    StockProduct,
    StockReservationCancelled,
    StockReserved,
    StockReturned,
    StockWithdrawn,
    WithdrawGoods,
)
from orders.invariants import invariants

TOTAL = Decimal("20.0000")
LINES = (OrderLine(product="p", quantity=2, unit_price=Decimal("10.0000")),)
Change = Callable[[list[Contract]], list[Contract]]


def mail(about: str, kind: Any) -> MailDue:
    return MailDue(about=about, kind=kind, amount=TOTAL)


def created(id: str = "o") -> OrderCreated:
    return OrderCreated(order_id=id, customer_id="c", lines=LINES, total=TOTAL)


STOCK: list[Contract] = [
    StockProduct(product="p", name="p", quantity=2, delivery_id="d"),
    ProductStocked(product="p", name="p", quantity=2, on_hand=2),
]
PAID: list[Contract] = [
    *STOCK,
    created(),
    mail("o", "created"),
    StockReserved(order_id="o", total=TOTAL),
    PaymentCompleted(order_id="o", amount=TOTAL),
    OrderConfirmed(order_id="o", units=2),
]
COMPLETED: list[Contract] = [
    *PAID,
    ShipmentScheduled(order_id="o", tracking="t", units=2),
    OrderCompleted(order_id="o"),
    mail("o", "completed"),
]
CANCELLED: list[Contract] = [
    *PAID,
    ShipmentFailed(order_id="o", reason="far"),
    OrderCancelled(order_id="o", reason="far"),
    mail("o", "cancelled"),
    StockReservationCancelled(order_id="o"),
    PaymentRefunded(order_id="o", amount=TOTAL),
]
BEGUN: list[Contract] = [
    RequestReturn(return_id="r", lines=LINES, refund=TOTAL),
    ReturnAccepted(return_id="r", lines=LINES, refund=TOTAL),
    RestockGoods(return_id="r", lines=LINES),
    StockReturned(return_id="r"),
    RefundReturn(return_id="r", refund=TOTAL),
]
RETURNED: list[Contract] = [
    *BEGUN,
    ReturnRefunded(return_id="r", amount=TOTAL),
    ReturnCompleted(return_id="r"),
    mail("r", "returned"),
]
REFUSED: list[Contract] = [
    *BEGUN,
    ReturnRefundRefused(return_id="r", reason="no"),
    WithdrawGoods(return_id="r", lines=LINES),
    StockWithdrawn(return_id="r"),
    ReturnRefused(return_id="r", reason="no"),
    mail("r", "return_refused"),
]
ASKED_TWICE: list[Contract] = [created(), mail("o", "created"), *COMPLETED]
STORIES = {
    "asked twice": ASKED_TWICE,
    "completed": COMPLETED,
    "cancelled": CANCELLED,
    "returned": RETURNED,
    "refused": REFUSED,
}
ASKED = (StockProduct, OrderCreated, RequestReturn)


def written(story: list[Contract]) -> Log:
    """Each event is caused by the one before it, but for what people ask for."""
    log, cause = Log(), None
    for event in story:
        cause = log.write(event, cause=None if isinstance(event, ASKED) else cause)
    return log


def audited(story: list[Contract], *, at_rest: bool = True) -> dict[str, str]:
    """Which invariants do not hold, and why."""
    audit = Auditor(invariants)
    for event, envelope in written(story).written:
        audit.see(event, envelope)
    return {found.invariant: found.sentence for found in audit.violations(at_rest=at_rest)}


def without(*classes: type[Contract]) -> Change:
    return lambda story: [event for event in story if not isinstance(event, classes)]


def with_more(*events: Contract) -> Change:
    return lambda story: [*story, *events]


def instead(event: Contract) -> Change:
    return lambda story: [event if type(other) is type(event) else other for other in story]


def without_mail(kind: str) -> Change:
    return lambda story: [event for event in story if not (isinstance(event, MailDue) and event.kind == kind)]


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_right_story_keeps_them_all_to_the_end(story: list[Contract]):
    assert audited(story) == {}
    for length in range(len(story)):
        assert audited(story[:length], at_rest=False) == {}, f"after {length} events nothing is wrong yet"


FINAL = [
    ("completed", with_more(OrderCompleted(order_id="o")), "order: ends exactly once", "2 times"),
    ("completed", with_more(OrderCancelled(order_id="o", reason="")), "order: ends exactly once", "completed and canc"),
    ("completed", with_more(PaymentCompleted(order_id="o", amount=TOTAL)), "order: is charged at most once", "2 times"),
    (
        "completed",
        instead(PaymentCompleted(order_id="o", amount=Decimal(1))),
        "order: is charged at most once",
        "1 was",
    ),
    ("cancelled", instead(PaymentRefunded(order_id="o", amount=Decimal(1))), "order: cancelled costs nothing", "and 1"),
    ("cancelled", with_more(PaymentRefunded(order_id="o", amount=TOTAL)), "order: cancelled costs nothing", "2 times"),
    ("completed", with_more(StockReserved(order_id="o", total=TOTAL)), "order: stock is conserved", "2 times"),
    ("completed", with_more(StockReservationCancelled(order_id="o")), "order: stock is conserved", "for sale again"),
    ("completed", with_more(mail("o", "completed")), "order: every end is told", "2 mails"),
    ("returned", with_more(ReturnCompleted(return_id="r")), "return: ends once", "2 times"),
    ("returned", with_more(ReturnRefused(return_id="r", reason="")), "return: ends once", "completed and refused"),
    (
        "returned",
        instead(ReturnRefunded(return_id="r", amount=Decimal(1))),
        "return: is refunded at most once",
        "1 was",
    ),
]
AT_REST = [
    ("completed", without(OrderCompleted), "order: ends exactly once", "not ended"),
    ("cancelled", without(PaymentRefunded), "order: cancelled costs nothing", "not refunded"),
    ("cancelled", without(StockReservationCancelled), "order: stock is conserved", "still reserved"),
    ("completed", with_more(PaymentRefunded(order_id="o", amount=TOTAL)), "order: cancelled costs nothing", "not canc"),
    ("completed", without(StockReserved), "order: stock is conserved", "never reserved"),
    ("completed", without(OrderCreated), "order: takes no step before its time", "without OrderCreated"),
    ("completed", without(PaymentCompleted), "order: takes no step before its time", "without PaymentCompleted"),
    ("completed", without(OrderConfirmed), "order: takes no step before its time", "without OrderConfirmed"),
    ("cancelled", without(StockReserved), "order: inventory looks for its goods", "whether its goods are there"),
    ("cancelled", without(StockReserved), "order: takes no step before its time", "without StockReserved"),
    ("completed", without_mail("completed"), "order: every end is told", "no mail"),
    ("completed", with_more(mail("o", "cancelled")), "order: every end is told", "is cancelled, and it is not"),
    ("returned", without(ReturnCompleted), "return: ends once", "not ended"),
    ("returned", with_more(ReturnRefunded(return_id="r", amount=TOTAL)), "return: is refunded at most once", "2 times"),
    ("returned", without(ReturnRefunded), "return: is refunded at most once", "not refunded"),
    ("refused", with_more(ReturnRefunded(return_id="r", amount=TOTAL)), "return: is refunded at most once", "refused"),
    ("returned", without(StockReturned), "return: its goods are where they belong", "not in the stock"),
    ("refused", without(StockWithdrawn), "return: its goods are where they belong", "are in the stock"),
    ("returned", without_mail("returned"), "return: every end of it is told", "no mail"),
    ("completed", without(ProductStocked), "stock: never negative", "2 more"),
    ("completed", lambda story: [*story, *_sold("o-2")], "stock: never negative", "2 more"),
    ("completed", without(StockProduct), "every step has its cause", "names no cause"),
]


def _sold(id: str) -> list[Contract]:
    return [created(id), StockReserved(order_id=id, total=TOTAL)]


@pytest.mark.parametrize(("story", "change", "invariant", "said"), FINAL)
def test_what_nothing_can_mend_is_seen_at_once(story: str, change: Change, invariant: str, said: str):
    assert said in audited(change(STORIES[story]), at_rest=False)[invariant]


@pytest.mark.parametrize(("story", "change", "invariant", "said"), AT_REST)
def test_what_is_missing_is_seen_at_rest(story: str, change: Change, invariant: str, said: str):
    changed = change(STORIES[story])
    assert said in audited(changed)[invariant]


def test_a_delivery_counts_once():
    log = Log()
    command = log.write(STOCK[0])
    for _ in range(2):
        log.write(STOCK[1], cause=command)
    audit = Auditor(invariants)
    for event, envelope in log.written:
        audit.see(event, envelope)
    assert [(found.invariant, found.sentence) for found in audit.violations()] == [
        ("delivery: arrives once", "it was put into the stock 2 times")
    ]


def test_a_cause_that_does_not_exist_is_named():
    log = Log()
    log.write(PaymentDeclined(order_id="o", reason="no"), cause="nobody")
    audit = Auditor(invariants)
    for event, envelope in log.written:
        audit.see(event, envelope)
    [found] = [found for found in audit.violations(at_rest=True) if found.invariant == "every step has its cause"]
    assert found.sentence == "orders.PaymentDeclined: its cause nobody is not there"
    assert [fact.place for fact in found.evidence] == ["payments.events[0]@0 orders.PaymentDeclined id-0"]


def test_a_refund_may_be_said_as_often_as_it_was_asked_for():
    again = [RefundReturn(return_id="r", refund=TOTAL), ReturnRefunded(return_id="r", amount=TOTAL)]
    assert audited([*RETURNED, *again]) == {}


@pytest.mark.slow
@given(st.sampled_from(sorted(STORIES)), st.data())
def test_the_order_between_topics_makes_no_difference(name: str, data: st.DataObject):
    story = STORIES[name]
    kept = [event for event in story if data.draw(st.booleans())]
    log = written([*kept, *data.draw(st.lists(st.sampled_from(story), max_size=3))])
    verdicts: list[set[str]] = []
    for seed in range(3):
        audit = Auditor(invariants)
        for event, envelope in log.interleaved(random.Random(seed)):
            audit.see(event, envelope)
            list(audit.violations())
        verdicts.append({repr(found) for found in audit.violations(at_rest=True)})
    assert verdicts[0] == verdicts[1] == verdicts[2]
