"""How a return goes: the goods come back into the stock, then the customer gets the money, or both are taken back."""

from typing import Literal

from millstream import hours, minutes
from millstream.patterns.saga import Saga, Story, Undo
from orders.contracts import (
    MailDue,
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


def completed_mail(story: Story) -> MailDue:
    """The goods are back, and the money."""
    return _mail(story, "returned")


def refused_mail(story: Story) -> MailDue:
    """There is no money, and why."""
    return _mail(story, "return_refused")


returns = (
    Saga("returns", starts=RequestReturn)
    .begins(ReturnAccepted)
    .step(
        RestockGoods,
        done=StockReturned,
        failed=RestockRefused,
        undo=Undo(WithdrawGoods, done=StockWithdrawn, failed=StockWithdrawalRefused),
        within=hours(1),
    )
    # Money that was given is not taken back: the gateway is asked until it says what became of it.
    .step(RefundReturn, done=ReturnRefunded, failed=ReturnRefundRefused, within=minutes(2))
    .completes(ReturnCompleted, completed_mail)
    .cancels(ReturnRefused, refused_mail)
)


def _mail(story: Story, kind: Literal["returned", "return_refused"]) -> MailDue:
    request = story[RequestReturn]
    return MailDue(
        about=story.id,
        kind=kind,
        customer_id=request.customer_id,
        reference=request.reference,
        amount=request.refund,
        reason=story.reason,
    )
