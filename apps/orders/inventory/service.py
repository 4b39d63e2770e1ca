"""The inventory service: reserves, releases, ships and restocks."""

from sqlalchemy import Connection

from millstream import Retry, Service, exponential
from orders.contracts import (
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    ProductQuantity,
    ProductStocked,
    ReturnAccepted,
    StockProduct,
    StockReservationCancelled,
    StockReservationFailed,
    StockReserved,
    StockReturned,
)
from orders.inventory import stock

inventory = Service("inventory", tables=stock.metadata, web="orders.inventory.web:app")

_PATIENT = Retry(attempts=10, backoff=exponential(0.1, most=5))


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
        missing=tuple(ProductQuantity(product=product, quantity=short) for product, short in missing.items()),
    )


@inventory.on(OrderCancelled, retry=_PATIENT)
def release(cancelled: OrderCancelled, db: Connection) -> StockReservationCancelled | None:
    """Puts what was set aside on sale again; an order that had nothing set aside leaves nothing to do."""
    match stock.reservation_state(cancelled.order_id, db):
        case "reserved":
            stock.release(cancelled.order_id, db)
            return StockReservationCancelled(order_id=cancelled.order_id)
        case None:
            # Its creation was set aside as a dead letter: should it be handed in again, it is too late.
            stock.remember(cancelled.order_id, "cancelled", db)
    return None


@inventory.on(OrderCompleted, retry=_PATIENT)
def ship(completed: OrderCompleted, db: Connection) -> None:
    """The goods left the warehouse."""
    if stock.reservation_state(completed.order_id, db) == "reserved":
        stock.ship(completed.order_id, db)


@inventory.on(ReturnAccepted, retry=_PATIENT)
def restock(accepted: ReturnAccepted, db: Connection) -> StockReturned | None:
    """The goods of a return are in the warehouse again, also those that it never knew."""
    back = stock.quantities(accepted.lines)
    known = stock.names(back, db)
    arrived = {product: (known.get(product, product), quantity) for product, quantity in back.items()}
    if not stock.receive(accepted.return_id, arrived, db):
        return None
    return StockReturned(return_id=accepted.return_id)


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
