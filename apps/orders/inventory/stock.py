"""The stock: tables, and what can be done with them in a few statements, however many lines an order has.

`on_hand` counts what lies in the warehouse, `reserved` the part of it that is promised. The database itself refuses
to promise more than there is. Rows are locked in the order of their product, so two orders never wait for each other
in a circle.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)

from millstream.runtime.sql.tables import insert_into
from orders.contracts import OrderLine

metadata = MetaData()

products = Table(
    "products",
    metadata,
    Column("product", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("on_hand", Integer, nullable=False),
    Column("reserved", Integer, nullable=False, default=0),
    CheckConstraint("reserved >= 0", name="reserved_not_negative"),
    CheckConstraint("on_hand >= reserved", name="no_more_reserved_than_there_is"),
)

# One row for each order: how its reservation stands. It outlives the reservation, so that nothing is done twice.
reservations = Table(
    "reservations",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("state", String(10), nullable=False),  # reserved, failed, cancelled or shipped
)

# What is set aside for orders that are under way.
reserved_products = Table(
    "reserved_products",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("product", String(40), primary_key=True),
    Column("quantity", Integer, CheckConstraint("quantity > 0"), nullable=False),
)

# How each return stands. A withdrawal that comes first is remembered here, so that the goods are refused afterwards.
returned = Table(
    "returned",
    metadata,
    Column("return_id", String(64), primary_key=True),
    Column("state", String(10), nullable=False),  # restocked or withdrawn
)

# Deliveries and returns that are in the stock already.
receipts = Table(
    "receipts",
    metadata,
    Column("receipt_id", String(64), primary_key=True),
    Column("product", String(40), primary_key=True),
)

_PRODUCT, _QUANTITY = bindparam("of_product"), bindparam("by_quantity")
_RESERVE = update(products).where(products.c.product == _PRODUCT).values(reserved=products.c.reserved + _QUANTITY)
_RELEASE = update(products).where(products.c.product == _PRODUCT).values(reserved=products.c.reserved - _QUANTITY)
_SHIP = (
    update(products)
    .where(products.c.product == _PRODUCT)
    .values(on_hand=products.c.on_hand - _QUANTITY, reserved=products.c.reserved - _QUANTITY)
)
_WITHDRAW = update(products).where(products.c.product == _PRODUCT).values(on_hand=products.c.on_hand - _QUANTITY)
_LOCK = (
    select(products.c.product, (products.c.on_hand - products.c.reserved).label("free"))
    .where(products.c.product.in_(bindparam("wanted", expanding=True)))
    .order_by(products.c.product)
    .with_for_update()
)


@cache
def _upsert(dialect: str) -> Any:
    added = insert_into(products, dialect).values(
        product=bindparam("product"), name=bindparam("name"), on_hand=bindparam("quantity"), reserved=0
    )
    return added.on_conflict_do_update(
        index_elements=["product"],
        set_={"name": added.excluded.name, "on_hand": products.c.on_hand + added.excluded.on_hand},
    )


def quantities(lines: Iterable[OrderLine]) -> dict[str, int]:
    """How many of each product, sorted by product; an order may name one in several lines."""
    wanted: Counter[str] = Counter()
    for line in lines:
        wanted[line.product] += line.quantity
    return dict(sorted(wanted.items()))


def reservation_state(order_id: str, db: Connection) -> str | None:
    """How the reservation of an order stands; `None` where none was ever tried."""
    return db.execute(
        select(reservations.c.state).where(reservations.c.order_id == order_id).with_for_update()
    ).scalar_one_or_none()


def try_to_reserve(order_id: str, wanted: Mapping[str, int], db: Connection) -> dict[str, int]:
    """Sets all of `wanted` aside, or nothing; returns how many of which product are missing."""
    missing = _missing(wanted, db)
    if not missing:
        _each(db, _RESERVE, wanted)
        db.execute(
            insert(reserved_products),
            [{"order_id": order_id, "product": product, "quantity": number} for product, number in wanted.items()],
        )
    remember(order_id, "failed" if missing else "reserved", db)
    return missing


def remember(order_id: str, state: str, db: Connection) -> None:
    """Keeps how an order stands that inventory had not heard of."""
    db.execute(insert(reservations), {"order_id": order_id, "state": state})


def release(order_id: str, db: Connection) -> None:
    """What was set aside is for sale again."""
    _finish(order_id, _RELEASE, "cancelled", db)


def ship(order_id: str, db: Connection) -> None:
    """What was set aside has left the warehouse."""
    _finish(order_id, _SHIP, "shipped", db)


def receive(receipt_id: str, arrived: Mapping[str, tuple[str, int]], db: Connection) -> bool:
    """Adds goods, as product → (name, quantity), once for each receipt and product; whether they were new."""
    known = set(db.scalars(select(receipts.c.product).where(receipts.c.receipt_id == receipt_id)))
    new = {product: goods for product, goods in sorted(arrived.items()) if product not in known}
    if not new:
        return False
    db.execute(
        _upsert(db.dialect.name),
        [{"product": product, "name": name, "quantity": quantity} for product, (name, quantity) in new.items()],
    )
    db.execute(insert(receipts), [{"receipt_id": receipt_id, "product": product} for product in new])
    return True


def return_state(return_id: str, db: Connection) -> str | None:
    """How a return stands; `None` where nothing was heard of it."""
    return db.execute(
        select(returned.c.state).where(returned.c.return_id == return_id).with_for_update()
    ).scalar_one_or_none()


def remember_return(return_id: str, state: str, db: Connection) -> None:
    """Keeps how a return stands that inventory had not heard of."""
    db.execute(insert(returned), {"return_id": return_id, "state": state})


def try_to_withdraw(return_id: str, goods: Mapping[str, int], db: Connection) -> dict[str, int]:
    """Takes all goods of a return out of the stock, or none; returns how many of which are promised to others."""
    if missing := _missing(goods, db):
        return missing
    _each(db, _WITHDRAW, goods)
    db.execute(update(returned).where(returned.c.return_id == return_id).values(state="withdrawn"))
    return {}


def names(wanted: Iterable[str], db: Connection) -> dict[str, str]:
    """The names of those products that are known."""
    rows = db.execute(select(products.c.product, products.c.name).where(products.c.product.in_(list(wanted))))
    return {row.product: row.name for row in rows}


def on_hand(product: str, db: Connection) -> int:
    """How many of a product lie in the warehouse."""
    return db.execute(select(products.c.on_hand).where(products.c.product == product)).scalar_one()


def _missing(wanted: Mapping[str, int], db: Connection) -> dict[str, int]:
    available = {row.product: row.free for row in db.execute(_LOCK, {"wanted": list(wanted)})}
    return {
        product: quantity - available.get(product, 0)
        for product, quantity in wanted.items()
        if quantity > available.get(product, 0)
    }


def _finish(order_id: str, change: Any, state: str, db: Connection) -> None:
    mine = reserved_products.c.order_id == order_id
    rows = db.execute(
        select(reserved_products.c.product, reserved_products.c.quantity)
        .where(mine)
        .order_by(reserved_products.c.product)
    )
    _each(db, change, {row.product: row.quantity for row in rows})
    db.execute(delete(reserved_products).where(mine))
    db.execute(update(reservations).where(reservations.c.order_id == order_id).values(state=state))


def _each(db: Connection, change: Any, amounts: Mapping[str, int]) -> None:
    # executemany: one statement for all rows, with SQLite in C and with PostgreSQL in one pipeline.
    db.execute(change, [{"of_product": product, "by_quantity": quantity} for product, quantity in amounts.items()])
