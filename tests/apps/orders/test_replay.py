"""The replay's reading of invoices, and that its books show every kind of difference."""

import gzip
import tracemalloc
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orders.cli import app
from orders.replay.books import Books, Entry, Placed, Replayed, differences, summarise
from orders.replay.invoices import APART, Invoice, InvoiceFile, Row, UnreadableFile, exact, half_of_the_need
from orders.replay.shop import Charge, Mail, OrderRow, Payments, Refund

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
    file = InvoiceFile(write(tmp_path / name, HEADER + ROWS))
    sale, returned, adjustment = file
    assert (file.counts, file.amounts["sale"]) == ({"sale": 1, "return": 1, "adjustment": 1}, Decimal("8.25"))
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


def test_an_invoice_over_a_negative_price_corrects_the_accounts(tmp_path: Path):
    bad_debt = "A563186,B,Adjust bad debt,1,2011-08-12 14:51:00,-11062.06,,United Kingdom\n"
    (adjustment,) = InvoiceFile(write(tmp_path / "orders.csv", HEADER + bad_debt))
    assert adjustment.kind == "adjustment"


def test_half_of_what_is_needed_of_each_product(tmp_path: Path):
    assert half_of_the_need(InvoiceFile(write(tmp_path / "orders.csv", HEADER + ROWS))) == {"A": 2, "B": 1}


def test_rows_of_an_invoice_may_stand_apart(tmp_path: Path):
    row = "{},A,APPLE,{},2011-11-14 08:10:00,1,,UK\n"
    others = [row.format(f"o{number}", 1) for number in range(APART - 1)]
    near = write(tmp_path / "near.csv", HEADER + row.format("1", 2) + "".join(others) + row.format("1", 3))
    first, *rest = InvoiceFile(near)
    assert ([line.quantity for line in first.rows], len(rest)) == ([2, 3], APART - 1)
    others += [row.format("o", 1), row.format("p", 1)]
    far = write(tmp_path / "far.csv", HEADER + row.format("1", 2) + "".join(others) + row.format("1", 3))
    with pytest.raises(UnreadableFile, match=f"line {APART + 4} .* invoice 1, .* sort the file"):
        list(InvoiceFile(far))


@pytest.mark.slow
def test_a_year_is_never_held(tmp_path: Path):
    lines = "".join(f"{number},P{number % 50},{'x' * 400},1,2011-11-14,1.65,,UK\n" for number in range(40_000))
    path = write(tmp_path / "year.csv.gz", HEADER + lines)
    tracemalloc.start()
    assert sum(1 for _ in InvoiceFile(path)) == 40_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < len(lines) / 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column"),
        (HEADER + "1,A,x,three,2011-11-14,1.65,,UK\n", "line 2: Quantity 'three'"),
        (HEADER + "1,A,x,3,2011-11-14,free,,UK\n", "UnitPrice 'free'"),
        (HEADER + "1,A,x,3\n", "line 2 .* has 4 cells"),
    ],
)
def test_a_file_that_is_something_else(tmp_path: Path, text: str, says: str):
    path = write(tmp_path / "orders.csv", text)
    with pytest.raises(UnreadableFile, match=says):
        list(InvoiceFile(path))
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
PRODUCTS = {"A": 0}
REFUSED = Entry.of(ADJUSTMENT, PRODUCTS)
PLACED = [Placed("o", Entry.of(SALE, PRODUCTS)), Placed("r", Entry.of(RETURN, PRODUCTS))]


def replayed(placed: list[Placed] = PLACED, refused: tuple[Entry, ...] = (REFUSED,), *, late: bool = False) -> Replayed:
    return Replayed(3, placed, refused, late, PRODUCTS)


def books() -> Books:
    """Books in which everything agrees."""
    return Books(
        orders={"o": OrderRow("o", "completed", Decimal("8.2500"))},
        returns={"r": OrderRow("r", "completed", Decimal("1.6500"))},
        stock_before={"A": (100, 0)},
        stock_after={"A": (96, 0)},
        payments=Payments([Charge("o", Decimal("8.2500"), "charged")], [Refund("r", Decimal("1.6500"))]),
        shipments=Counter("o"),
        mails=[Mail("m1", "o", "created"), Mail("m2", "o", "completed"), Mail("m3", "r", "returned")],
    )


def found(what: Replayed, changed: Books, *, scarce: bool = False) -> list[str]:
    return list(differences(what, changed, scarce=scarce))


def test_books_that_agree():
    summary = summarise(replayed(), books(), scarce=False, seconds=1.0)
    assert summary.differences == ()
    assert (summary.completed, summary.returned, summary.refused, summary.open) == (1, 1, 1, 0)
    assert (summary.revenue, summary.refunds, summary.mails_duplicated) == ("8.250", "1.650", 0)


def test_a_mail_that_was_delivered_twice_is_counted_and_no_difference():
    twice = books()
    twice.mails.append(twice.mails[0])
    summary = summarise(replayed(), twice, scarce=False, seconds=1.0)
    assert (summary.mails_duplicated, summary.differences) == (1, ())


def _cancelled_but_charged(books: Books) -> Books:
    books.orders["o"] = OrderRow("o", "cancelled", Decimal("8.2500"), "?")
    return books._replace(
        shipments={},
        stock_after={"A": (101, 0)},
        mails=[*books.mails[:1], Mail("m2", "o", "cancelled"), *books.mails[2:]],
    )


def _set(thing: object, **values: Any) -> None:
    for name, value in values.items():
        setattr(thing, name, value)


CHANGES: list[tuple[Callable[[Books], Any], str]] = [
    (lambda books: books._replace(orders={}), "has not ended: unknown"),
    (lambda books: _set(books.orders["o"], status="confirmed"), "has not ended: confirmed"),
    (lambda books: _set(books.orders["o"], total=Decimal("8.2400")), "its row says 8.2400"),
    (lambda books: books._replace(stock_after={"A": (95, 0)}), "there are 95 of product A"),
    (lambda books: books._replace(stock_after={"A": (96, 2)}), "2 of product A are reserved"),
    (lambda books: books.payments.charges.clear(), "order o over 8.2500 is completed, but the gateway has None"),
    (lambda books: _set(books.payments.charges[0], amount=Decimal("16.5")), "but the gateway has"),
    (lambda books: books.payments.refunds.clear(), "return r over 1.6500 is completed"),
    (lambda books: books._replace(shipments={"o": 2}), "was shipped 2 times"),
    (lambda books: books._replace(shipments={}), "was shipped 0 times"),
    (lambda books: books.mails.pop(1), "mails about it: created"),
    (lambda books: books.mails.append(Mail("m9", "o", "completed")), "completed, completed"),
    (_cancelled_but_charged, "its charge was not given back"),
]


@pytest.mark.parametrize(("change", "says"), CHANGES)
def test_every_disagreement_is_told(change: Callable[[Books], Any], says: str):
    changed = books()
    result = change(changed)
    told = found(replayed(), result if isinstance(result, Books) else changed)
    assert any(says in difference for difference in told), told


def test_who_was_refused_and_accepted_matters():
    sale_too = Entry.of(SALE, PRODUCTS), REFUSED
    assert "invoice 1, a sale, was refused" in found(replayed(PLACED[1:], sale_too), books())
    accepted = found(replayed([*PLACED, Placed("x", REFUSED)], ()), books())
    assert any("accepted all the same" in difference for difference in accepted)
    assert "3 invoices were sent, 2 accepted and 0 refused" in found(replayed(refused=()), books())
    (late,) = found(replayed(refused=(), late=True), books())
    assert late == "the time was up when 2 invoices had been sent; give it more with --timeout"


def test_a_cancelled_order_is_a_difference_unless_stock_is_scarce():
    cancelled = _cancelled_but_charged(books())
    cancelled.payments.charges[0].state = "refunded"
    assert found(replayed(), cancelled, scarce=True) == []
    assert found(replayed(), cancelled) == ["invoice 1 (o) was cancelled: ?"]
