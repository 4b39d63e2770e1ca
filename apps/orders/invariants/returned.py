"""Of every return: it ends once, its money goes back once, and its goods are where they belong."""

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from millstream.declare.invariant import Case, Cases
from orders.contracts import (
    MailDue,
    RefundReturn,
    ReturnAccepted,
    ReturnCompleted,
    ReturnRefunded,
    ReturnRefused,
    StockReturned,
    StockWithdrawn,
)
from orders.invariants.mails import less_mail, of_a_return


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
    keep={ReturnAccepted: _less_return, MailDue: less_mail},
    by={MailDue: of_a_return},
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
