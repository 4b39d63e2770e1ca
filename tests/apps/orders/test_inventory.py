"""The stock against a real database: all or nothing, once, and never below zero."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError

from millstream.runtime.sql.database import create_missing, open_engine
from orders.contracts import (
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    OrderLine,
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
from orders.inventory.service import receive, release, reserve, restock, ship, withdraw

PRICE = Decimal("2.5000")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    engine = open_engine(f"sqlite:///{tmp_path / 'inventory.db'}")
    create_missing(engine, stock.metadata)
    with engine.connect() as connection:
        receive(StockProduct(product="A", name="Apple", quantity=10, delivery_id="d-1"), connection)
        receive(StockProduct(product="B", name="Bread", quantity=5, delivery_id="d-1"), connection)
        yield connection
    engine.dispose()


def lines(*wanted: tuple[str, int]) -> tuple[OrderLine, ...]:
    return tuple(OrderLine(product=product, quantity=quantity, unit_price=PRICE) for product, quantity in wanted)


def order(order_id: str, *wanted: tuple[str, int]) -> OrderCreated:
    return OrderCreated(order_id=order_id, lines=lines(*wanted), total=Decimal("25.0000"))


def levels(db: Connection) -> dict[str, tuple[int, int]]:
    rows = db.execute(select(stock.products.c.product, stock.products.c.on_hand, stock.products.c.reserved))
    return {product: (on_hand, reserved) for product, on_hand, reserved in rows}


def test_all_lines_are_reserved_repeated_products_together(db: Connection):
    assert reserve(order("o-1", ("A", 3), ("B", 5), ("A", 4)), db) == StockReserved(
        order_id="o-1", total=Decimal("25.0000")
    )
    assert levels(db) == {"A": (10, 7), "B": (5, 5)}


def test_one_missing_line_reserves_nothing(db: Connection):
    assert reserve(order("o-1", ("A", 3), ("B", 3), ("B", 3), ("C", 1)), db) == StockReservationFailed(
        order_id="o-1",
        missing=(ProductQuantity(product="B", quantity=1), ProductQuantity(product="C", quantity=1)),
    )
    assert levels(db) == {"A": (10, 0), "B": (5, 0)}


def test_what_is_reserved_is_not_available_to_others(db: Connection):
    reserve(order("o-1", ("A", 8)), db)
    assert isinstance(reserve(order("o-2", ("A", 3)), db), StockReservationFailed)
    assert isinstance(reserve(order("o-3", ("A", 2)), db), StockReserved)


def test_nothing_happens_twice(db: Connection):
    wanted = order("o-1", ("A", 3))
    assert reserve(wanted, db) is not None
    assert reserve(wanted, db) is None
    ship(OrderCompleted(order_id="o-1"), db)
    ship(OrderCompleted(order_id="o-1"), db)
    assert levels(db)["A"] == (7, 0)


def test_a_cancel_releases_once_and_only_what_was_reserved(db: Connection):
    cancelled = OrderCancelled(order_id="o-1", reason="cancelled by customer")
    reserve(order("o-1", ("A", 3), ("B", 1)), db)
    assert release(cancelled, db) == StockReservationCancelled(order_id="o-1")
    assert release(cancelled, db) is None
    assert levels(db) == {"A": (10, 0), "B": (5, 0)}
    reserve(order("o-2", ("A", 11)), db)
    assert release(OrderCancelled(order_id="o-2", reason="out of stock"), db) is None


def test_an_order_that_arrives_after_its_cancel_reserves_nothing(db: Connection):
    assert release(OrderCancelled(order_id="o-1", reason="cancelled by customer"), db) is None
    assert reserve(order("o-1", ("A", 3)), db) is None
    assert levels(db)["A"] == (10, 0)


def test_a_shipped_order_is_not_released(db: Connection):
    reserve(order("o-1", ("A", 3)), db)
    ship(OrderCompleted(order_id="o-1"), db)
    assert release(OrderCancelled(order_id="o-1", reason="?"), db) is None
    assert levels(db)["A"] == (7, 0)


RESTOCK = RestockGoods(return_id="r-1", lines=lines(("A", 2), ("Z", 1), ("A", 1)))
WITHDRAW = WithdrawGoods(return_id="r-1", lines=RESTOCK.lines)


def test_a_return_comes_back_once_also_of_an_unknown_product_and_says_so_each_time(db: Connection):
    for _ in range(2):
        assert restock(RESTOCK, db) == StockReturned(return_id="r-1")
    assert levels(db) == {"A": (13, 0), "B": (5, 0), "Z": (1, 0)}


def test_a_return_is_withdrawn_once_and_stays_so(db: Connection):
    restock(RESTOCK, db)
    for _ in range(2):
        assert withdraw(WITHDRAW, db) == StockWithdrawn(return_id="r-1")
    assert isinstance(restock(RESTOCK, db), RestockRefused)
    assert levels(db) == {"A": (10, 0), "B": (5, 0), "Z": (0, 0)}


@pytest.mark.scenario(19)
def test_compensation_that_arrives_before_the_forward_action_leaves_a_tombstone(db: Connection):
    assert withdraw(WITHDRAW, db) == StockWithdrawn(return_id="r-1")
    assert isinstance(restock(RESTOCK, db), RestockRefused)
    assert levels(db) == {"A": (10, 0), "B": (5, 0)}


def test_what_is_promised_to_others_by_now_is_not_withdrawn_until_there_is_enough(db: Connection):
    restock(RESTOCK, db)
    reserve(order("o-1", ("A", 12)), db)
    refused = StockWithdrawalRefused(return_id="r-1", missing=(ProductQuantity(product="A", quantity=2),))
    assert withdraw(WITHDRAW, db) == refused
    assert levels(db) == {"A": (13, 12), "B": (5, 0), "Z": (1, 0)}
    receive(StockProduct(product="A", name="Apple", quantity=2, delivery_id="d-2"), db)
    assert withdraw(WITHDRAW, db) == StockWithdrawn(return_id="r-1")
    assert levels(db) == {"A": (12, 12), "B": (5, 0), "Z": (0, 0)}


def test_a_delivery_counts_once(db: Connection):
    again = StockProduct(product="A", name="Red apple", quantity=10, delivery_id="d-2")
    assert receive(again, db) == ProductStocked(product="A", name="Red apple", quantity=10, on_hand=20)
    assert receive(again, db) is None


def test_the_database_refuses_what_cannot_be(db: Connection):
    with pytest.raises(IntegrityError):
        db.execute(stock.products.update().values(reserved=11))


def test_an_order_of_two_thousand_lines(db: Connection):
    there = {"name": "?", "on_hand": 1, "reserved": 0}
    db.execute(stock.products.insert(), [{"product": f"P{number}", **there} for number in range(2000)])
    wanted = order("o-1", *((f"P{number}", 1) for number in range(2000)))
    assert isinstance(reserve(wanted, db), StockReserved)
    assert isinstance(release(OrderCancelled(order_id="o-1", reason="?"), db), StockReservationCancelled)
    assert all(reserved == 0 for _, reserved in levels(db).values())
