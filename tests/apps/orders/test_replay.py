"""The replay's reading of invoices, and that its books show every kind of difference."""

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orders.cli import app
from orders.replay.books import Books, Placed, differences, summarise
from orders.replay.invoices import Invoice, Row, UnreadableFile, deliveries, exact, read

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
ROWS = (
    "1,A, APPLE ,3,2011-11-14 08:10:00,1.65,17850,United Kingdom\n"
    "1,A,APPLE,2,2011-11-14 08:10:00,1.65,17850,United Kingdom\n"
    "C2,A,APPLE,-1,2011-11-14 08:16:00,1.65,,France\n"
    '3,B,"BREAD, OLD",-7,2011-11-14 08:16:00,0,,United Kingdom\n'
)


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["orders.csv", "orders.csv.gz"])
def test_rows_become_invoices(tmp_path: Path, name: str):
    sale, returned, adjustment = read(write(tmp_path / name, HEADER + ROWS))
    assert [invoice.kind for invoice in (sale, returned, adjustment)] == ["sale", "return", "adjustment"]
    assert (sale.amount, returned.amount) == (Decimal("8.25"), Decimal("-1.65"))
    assert sale.body() == {
        "reference": "1",
        "customer": "17850",
        "country": "United Kingdom",
        "lines": [
            {"product": "A", "quantity": 3, "unit_price": "1.65"},
            {"product": "A", "quantity": 2, "unit_price": "1.65"},
        ],
    }
    assert returned.body() == {
        "reference": "C2",
        "country": "France",
        "lines": [{"product": "A", "quantity": 1, "unit_price": "1.65"}],
    }
    assert adjustment.body()["lines"][0]["quantity"] == -7


def test_what_to_stock(tmp_path: Path):
    invoices = read(write(tmp_path / "orders.csv", HEADER + ROWS))
    assert [(delivery.product, delivery.name) for delivery in deliveries(invoices, scarce=False)] == [
        ("A", "APPLE"),
        ("B", "BREAD, OLD"),
    ]
    ample, scarce = (deliveries(invoices, scarce=scarce)[0].quantity for scarce in (False, True))
    assert ample >= 5 and scarce == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column"),
        (HEADER + "1,A,x,three,2011-11-14,1.65,,UK\n", "line 2: Quantity 'three'"),
        (HEADER + "1,A,x,3,2011-11-14,free,,UK\n", "UnitPrice 'free'"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str, says: str):
    path = write(tmp_path / "orders.csv", text)
    with pytest.raises(UnreadableFile, match=says):
        read(path)
    assert CliRunner().invoke(app, ["replay", str(path)]).exit_code == 2
    assert CliRunner().invoke(app, ["replay", str(tmp_path / "missing.csv")]).exit_code == 2


def test_a_system_that_does_not_answer(tmp_path: Path):
    path = write(tmp_path / "orders.csv", HEADER + ROWS)
    nowhere = ["replay", str(path), "--url", "http://127.0.0.1:1", "--timeout", "1"]
    assert CliRunner().invoke(app, nowhere).exit_code == 3


def test_amounts_are_exact():
    assert exact(Decimal("388622.44")) == "388622.440"
    assert exact(Decimal("1E+3")) == "1000.000"
    assert exact(Decimal("0.12345")) == "0.12345"


SALE = Invoice("1", "17850", "France", (Row("A", "APPLE", 5, Decimal("1.65")),))
RETURN = Invoice("C2", None, None, (Row("A", "APPLE", -1, Decimal("1.65")),))
ADJUSTMENT = Invoice("3", None, None, (Row("A", "APPLE", -7, Decimal(0)),))
INVOICES = [SALE, RETURN, ADJUSTMENT]
PLACED = [Placed("o", SALE), Placed("r", RETURN)]


def books() -> Books:
    """Books in which everything agrees."""
    return Books(
        orders={"o": {"id": "o", "status": "completed", "total": "8.2500", "reason": None}},
        returns={"r": {"id": "r", "status": "completed", "total": "1.6500", "reason": None}},
        stock_before={"A": (100, 0)},
        stock_after={"A": (96, 0)},
        payments={
            "charges": [{"key": "o", "amount": "8.2500", "state": "charged"}],
            "refunds": [{"key": "r", "amount": "1.6500"}],
        },
        shipments=[{"about": "o"}],
        mails=[
            {"about": "o", "kind": "created", "message_id": "m1"},
            {"about": "o", "kind": "completed", "message_id": "m2"},
            {"about": "r", "kind": "returned", "message_id": "m3"},
        ],
    )


def found(placed: list[Placed], refused: list[Invoice], changed: Books, *, scarce: bool = False) -> list[str]:
    return list(differences(INVOICES, placed, refused, changed, scarce=scarce))


def test_books_that_agree():
    summary = summarise(INVOICES, PLACED, [ADJUSTMENT], books(), scarce=False, seconds=1.0)
    assert summary.differences == ()
    assert (summary.completed, summary.returned, summary.refused, summary.open) == (1, 1, 1, 0)
    assert (summary.revenue, summary.refunds, summary.mails_duplicated) == ("8.250", "1.650", 0)


def test_a_mail_that_was_delivered_twice_is_counted_and_no_difference():
    twice = books()
    twice.mails.append(twice.mails[0])
    summary = summarise(INVOICES, PLACED, [ADJUSTMENT], twice, scarce=False, seconds=1.0)
    assert (summary.mails_duplicated, summary.differences) == (1, ())


def _cancelled_but_charged(books: Books) -> Books:
    books.orders["o"] |= {"status": "cancelled", "reason": "?"}
    return books._replace(
        shipments=[],
        stock_after={"A": (101, 0)},
        mails=[*books.mails[:1], books.mails[1] | {"kind": "cancelled"}, *books.mails[2:]],
    )


CHANGES: list[tuple[Callable[[Books], Any], str]] = [
    (lambda books: books._replace(orders={}), "has not ended: unknown"),
    (lambda books: books.orders["o"].update(status="confirmed"), "has not ended: confirmed"),
    (lambda books: books.orders["o"].update(total="8.2400"), "its row says 8.2400"),
    (lambda books: books._replace(stock_after={"A": (95, 0)}), "there are 95 of product A"),
    (lambda books: books._replace(stock_after={"A": (96, 2)}), "2 of product A are reserved"),
    (lambda books: books.payments["charges"].clear(), "order o over 8.2500 is completed, but the gateway has None"),
    (lambda books: books.payments["charges"][0].update(amount="16.5"), "but the gateway has"),
    (lambda books: books.payments["refunds"].clear(), "return r over 1.6500 is completed"),
    (lambda books: books.shipments.append({"about": "o"}), "was shipped 2 times"),
    (lambda books: books.shipments.clear(), "was shipped 0 times"),
    (lambda books: books.mails.pop(1), "mails about it: created"),
    (lambda books: books.mails.append({"about": "o", "kind": "completed", "message_id": "m9"}), "completed, completed"),
    (_cancelled_but_charged, "its charge was not given back"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_every_disagreement_is_told(change: Callable[[Books], Any], says: str):
    changed = books()
    result = change(changed)
    told = found(PLACED, [ADJUSTMENT], result if isinstance(result, Books) else changed)
    assert any(says in difference for difference in told), told


def test_who_was_refused_and_accepted_matters():
    assert "invoice 1, a sale, was refused" in found(PLACED[1:], [SALE, ADJUSTMENT], books())
    accepted = found([*PLACED, Placed("x", ADJUSTMENT)], [], books())
    assert any("accepted all the same" in difference for difference in accepted)
    assert "3 invoices were sent, 2 accepted and 0 refused" in found(PLACED, [], books())


def test_a_cancelled_order_is_a_difference_unless_stock_is_scarce():
    cancelled = _cancelled_but_charged(books())
    cancelled.payments["charges"][0]["state"] = "refunded"
    assert found(PLACED, [ADJUSTMENT], cancelled, scarce=True) == []
    assert found(PLACED, [ADJUSTMENT], cancelled) == ["invoice 1 (o) was cancelled: ?"]
