"""The retailer's invoices, read from the recorded rows, and what they add up to."""

import csv
import gzip
import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, NamedTuple

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country")
AMPLE = 10
"""How many more of each product are stocked than all invoices together need."""

Kind = Literal["sale", "return", "adjustment"]


class UnreadableFile(Exception):
    """The file is not what the retailer's data set looks like; the message names line and column."""


class Row(NamedTuple):
    """One line of an invoice."""

    product: str
    name: str
    quantity: int
    price: Decimal


class Invoice(NamedTuple):
    """All lines of one number."""

    number: str
    customer: str | None
    country: str | None
    rows: tuple[Row, ...]

    @property
    def kind(self) -> Kind:
        """`C…` numbers are returns; a negative quantity elsewhere corrects the stock, which is not for this system."""
        if self.number.startswith("C"):
            return "return"
        return "adjustment" if any(row.quantity < 0 for row in self.rows) else "sale"

    @property
    def amount(self) -> Decimal:
        """What it is worth, exactly; negative for a return."""
        return sum((row.quantity * row.price for row in self.rows), Decimal(0))

    def body(self) -> dict[str, Any]:
        """The request that it becomes. A return sends back what its negative quantities say."""
        sign = -1 if self.kind == "return" else 1
        lines = [
            {"product": row.product, "quantity": sign * row.quantity, "unit_price": str(row.price)} for row in self.rows
        ]
        known = {"customer": self.customer, "country": self.country}
        return {"reference": self.number, "lines": lines} | {name: value for name, value in known.items() if value}


class Delivery(NamedTuple):
    """What has to be in stock of one product."""

    product: str
    name: str
    quantity: int


def read(path: Path) -> list[Invoice]:
    """The invoices of a CSV file, gzipped or not, in the order of their first rows.

    Raises `UnreadableFile`.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        if missing := set(COLUMNS) - set(rows.fieldnames or ()):
            raise UnreadableFile(f"{path} has no column {', '.join(sorted(missing))}")
        grouped: dict[str, list[dict[str, str]]] = defaultdict(list)
        for row in rows:
            grouped[row["InvoiceNo"]].append(row | {"line": str(rows.line_num)})
    except (OSError, UnicodeDecodeError, csv.Error, gzip.BadGzipFile) as error:
        raise UnreadableFile(f"{path} cannot be read: {error}") from error
    return [_invoice(number, lines) for number, lines in grouped.items()]


def deliveries(invoices: Iterable[Invoice], *, scarce: bool) -> list[Delivery]:
    """What to stock so that every sale can be delivered, or, where `scarce`, about every second one."""
    needed: Counter[str] = Counter()
    names: dict[str, Counter[str]] = defaultdict(Counter)
    for invoice in invoices:
        for row in invoice.rows:
            needed[row.product] += row.quantity if invoice.kind == "sale" else 0
            names[row.product][row.name or row.product] += 1
    return [
        Delivery(
            product,
            max(names[product].items(), key=lambda counted: (counted[1], counted[0]))[0],
            max(1, quantity // 2) if scarce else quantity + AMPLE,
        )
        for product, quantity in sorted(needed.items())
    ]


def exact(amount: Decimal) -> str:
    """An amount as text, with three decimals, or with as many more as it needs.

    >>> exact(Decimal("388622.44")), exact(Decimal("0.0001"))
    ('388622.440', '0.0001')
    """
    return f"{amount:.3f}" if amount == round(amount, 3) else f"{amount.normalize():f}"


def _invoice(number: str, lines: list[dict[str, str]]) -> Invoice:
    return Invoice(number, lines[0]["CustomerID"] or None, lines[0]["Country"] or None, tuple(map(_row, lines)))


def _row(line: dict[str, str]) -> Row:
    try:
        price = Decimal(line["UnitPrice"])
        return Row(line["StockCode"], line["Description"].strip(), int(line["Quantity"]), price)
    except (ValueError, InvalidOperation) as error:
        raise UnreadableFile(
            f"line {line['line']}: Quantity {line['Quantity']!r} and UnitPrice {line['UnitPrice']!r} must be numbers"
        ) from error
