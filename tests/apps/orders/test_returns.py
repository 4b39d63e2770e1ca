"""How a return ends: with goods and money back, or with neither."""

from datetime import timedelta
from decimal import Decimal

import pytest
from tests.patterns.saga_story import SagaStory

from orders.contracts import (
    MailDue,
    OrderLine,
    ProductQuantity,
    RefundReturn,
    RequestReturn,
    RestockGoods,
    RestockRefused,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefundRefused,
    ReturnRefused,
    StockReturned,
    StockWithdrawalRefused,
    StockWithdrawn,
    WithdrawGoods,
)
from orders.order.service import order

LINES = (OrderLine(product="22465", quantity=12, unit_price=Decimal("1.6500")),)
MONEY = Decimal("19.8000")
REQUEST = RequestReturn(return_id="r-1", customer_id="17850", lines=LINES, refund=MONEY)
ACCEPTED = ReturnAccepted(return_id="r-1", customer_id="17850", lines=LINES, refund=MONEY)
RESTOCK = RestockGoods(return_id="r-1", lines=LINES)
WITHDRAW = WithdrawGoods(return_id="r-1", lines=LINES)
REFUND = RefundReturn(return_id="r-1", refund=MONEY)
RESTOCKED = StockReturned(return_id="r-1")
REFUNDED = ReturnRefunded(return_id="r-1", amount=MONEY)
REFUND_REFUSED = ReturnRefundRefused(return_id="r-1", reason="refund limit exceeded")
WITHDRAWN = StockWithdrawn(return_id="r-1")


@pytest.fixture
def story() -> SagaStory:
    return SagaStory(order, "returns")


def refused(reason: str) -> list[ReturnRefused | MailDue]:
    mail = MailDue(about="r-1", kind="return_refused", customer_id="17850", amount=MONEY, reason=reason)
    return [ReturnRefused(return_id="r-1", reason=reason), mail]


def test_goods_come_back_then_the_money_and_the_customer_is_told(story: SagaStory):
    assert story.hear(REQUEST) == [ACCEPTED, RESTOCK]
    assert story.hear(RESTOCKED) == [REFUND]
    mail = MailDue(about="r-1", kind="returned", customer_id="17850", amount=MONEY)
    assert story.hear(REFUNDED) == [ReturnCompleted(return_id="r-1"), mail]
    assert story.hear(REQUEST, RESTOCKED, REFUNDED) == []
    assert story.timers.waiting == []


def test_a_refund_that_is_refused_for_good_takes_the_goods_off_sale_again(story: SagaStory):
    story.hear(REQUEST, RESTOCKED)
    assert story.hear(REFUND_REFUSED) == [WITHDRAW]
    assert story.hear(WITHDRAWN) == refused("refund limit exceeded")


def test_goods_that_are_not_let_in_end_the_return(story: SagaStory):
    story.hear(REQUEST)
    assert story.hear(RestockRefused(return_id="r-1", reason="withdrawn before they came")) == refused(
        "withdrawn before they came"
    )


def test_an_unanswered_refund_is_asked_for_again_and_never_given_up_silently(story: SagaStory):
    story.hear(REQUEST, RESTOCKED)
    asked = [story.pass_time(timedelta(minutes=2)) for _ in range(5)]
    assert asked == [[REFUND]] * 4 + [[]]
    assert story.state("r-1").shown == "parked"
    assert isinstance(story.hear(REFUNDED)[0], ReturnCompleted)


def test_goods_that_others_were_promised_meanwhile_are_withdrawn_later(story: SagaStory):
    story.hear(REQUEST, RESTOCKED, REFUND_REFUSED)
    missing = (ProductQuantity(product="22465", quantity=2),)
    assert story.hear(StockWithdrawalRefused(return_id="r-1", missing=missing)) == []
    assert story.pass_time(timedelta(seconds=1)) == [WITHDRAW]
    assert story.hear(WITHDRAWN) == refused("refund limit exceeded")
