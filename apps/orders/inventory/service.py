"""The inventory service: reserves, releases, ships and restocks."""

from collections.abc import Mapping

from sqlalchemy import Connection

from millstream import Retry, Service, exponential
from orders.contracts import (
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    ProductQuantity,
    ProductStocked,
    RestockGoods,
    RestockRefused,
    StockProduct,
    StockReservationCancelled,
    StockReservationFailed,
    StockReserved,
    StockReturned,
    StockWithdrawalRefused,
    StockWithdrawn,
    WithdrawGoods,
)
from orders.inventory import stock

inventory = Service("inventory", tables=stock.metadata, web="orders.inventory.web:app")

_PATIENT = Retry(attempts=10, backoff=exponential(0.1, limit=5))


@inventory.on(OrderCreated, retry=_PATIENT)
def reserve(order: OrderCreated, db: Connection) -> StockReserved | StockReservationFailed | None:
    """Sets every line of the order aside, or none of them."""
    if stock.reservation_state(order.order_id, db) is not None:
        return None
    missing = stock.try_to_reserve(order.order_id, stock.quantities(order.lines), db)
    if not missing:
        return StockReserved(order_id=order.order_id, total=order.total)
    return StockReservationFailed(
        order_id=order.order_id,
        missing=_quantities(missing),
    )


@inventory.on(OrderCancelled, retry=_PATIENT)
def release(cancelled: OrderCancelled, db: Connection) -> StockReservationCancelled | None:
    """Puts what was set aside on sale again; an order that had nothing set aside leaves nothing to do."""
    match stock.reservation_state(cancelled.order_id, db):
        case "reserved":
            stock.release(cancelled.order_id, db)
            return StockReservationCancelled(order_id=cancelled.order_id)
        case None:
            # Its creation is a dead letter: if it is redriven now, it is too late.
            stock.remember(cancelled.order_id, "cancelled", db)
    return None


@inventory.on(OrderCompleted, retry=_PATIENT)
def ship(completed: OrderCompleted, db: Connection) -> None:
    """The goods left the warehouse."""
    if stock.reservation_state(completed.order_id, db) == "reserved":
        stock.ship(completed.order_id, db)


@inventory.on(RestockGoods, retry=_PATIENT)
def restock(command: RestockGoods, db: Connection) -> StockReturned | RestockRefused:
    """The goods of a return are in the warehouse again, also those that it never knew."""
    match stock.return_state(command.return_id, db):
        case None:
            back = stock.quantities(command.lines)
            known = stock.names(back, db)
            arrived = {product: (known.get(product, product), quantity) for product, quantity in back.items()}
            stock.receive(command.return_id, arrived, db)
            stock.remember_return(command.return_id, "restocked", db)
        case "withdrawn":
            return RestockRefused(return_id=command.return_id, reason="withdrawn before they came")
    return StockReturned(return_id=command.return_id)


@inventory.on(WithdrawGoods, retry=_PATIENT)
def withdraw(command: WithdrawGoods, db: Connection) -> StockWithdrawn | StockWithdrawalRefused:
    """The goods of a return leave the warehouse again; where they have not come, they will not be let in."""
    match stock.return_state(command.return_id, db):
        case None:
            stock.remember_return(command.return_id, "withdrawn", db)
        case "restocked":
            if missing := stock.try_to_withdraw(command.return_id, stock.quantities(command.lines), db):
                return StockWithdrawalRefused(return_id=command.return_id, missing=_quantities(missing))
    return StockWithdrawn(return_id=command.return_id)


@inventory.on(StockProduct, retry=_PATIENT)
def receive(delivery: StockProduct, db: Connection) -> ProductStocked | None:
    """Goods of a supplier arrived."""
    if not stock.receive(delivery.delivery_id, {delivery.product: (delivery.name, delivery.quantity)}, db):
        return None
    return ProductStocked(
        product=delivery.product,
        name=delivery.name,
        quantity=delivery.quantity,
        on_hand=stock.on_hand(delivery.product, db),
    )


def _quantities(found: Mapping[str, int]) -> tuple[ProductQuantity, ...]:
    return tuple(ProductQuantity(product=product, quantity=quantity) for product, quantity in found.items())
