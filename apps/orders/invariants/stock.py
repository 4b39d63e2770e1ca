"""Of the goods: what comes in comes once, and no more is promised than came."""

from collections import Counter
from collections.abc import Iterable

from millstream import Envelope
from millstream.declare.invariant import Account, Case, Cases, Total
from orders.contracts import (
    OrderCreated,
    OrderLine,
    ProductStocked,
    ReturnAccepted,
    StockReservationCancelled,
    StockReserved,
    StockReturned,
    StockWithdrawn,
)
from orders.invariants.order import order
from orders.invariants.returned import returned


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
