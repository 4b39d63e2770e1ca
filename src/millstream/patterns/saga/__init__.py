"""A saga: several services do their part of one thing, or what they did is undone.

returns = (
    Saga("returns", starts=RequestReturn)
    .step(RestockGoods, done=StockReturned, failed=RestockRefused, undo=Undo(WithdrawGoods, done=StockWithdrawn))
    .step(RefundReturn, done=ReturnRefunded, failed=ReturnRefundRefused, within=minutes(2))
    .completes(ReturnCompleted)
    .cancels(ReturnRefused)
)
returns.mount(order)
"""

from millstream.patterns.saga.saga import Saga, Undo
from millstream.patterns.saga.state import Happened, SagaState, StepState
from millstream.patterns.saga.story import Story

__all__ = ["Happened", "Saga", "SagaState", "StepState", "Story", "Undo"]
