"""The retailer's invoices, read from the recorded rows, and what they add up to."""

import csv
import gzip
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal, InvalidOperation
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "UnitPrice", "CustomerID", "Country")
AMPLE = 1_000_000
"""How much of each product is stocked: more than a year needs of any."""
APART = 200
"""After so many others that have begun an invoice is complete."""

Kind = Literal["sale", "return", "adjustment"]


class UnreadableFile(Exception):
    """The file is not what the retailer's data set looks like; the message names line and column."""


class Row(NamedTuple):
    """One line of an invoice."""

    product: str
    name: str
    quantity: int
    price: Decimal


_Line = tuple[int, str, str, str, str, str, str, str]
"""The number of a line in the file, and its cells in the order of `COLUMNS`."""


class Invoice(NamedTuple):
    """All lines of one number."""

    number: str
    customer: str | None
    country: str | None
    rows: tuple[Row, ...]

    @property
    def kind(self) -> Kind:
        """`C…` numbers are returns. A negative quantity elsewhere corrects the stock, a negative price the accounts:
        neither is for this system."""
        if self.number.startswith("C"):
            return "return"
        return "adjustment" if any(row.quantity < 0 or row.price < 0 for row in self.rows) else "sale"

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


class InvoiceFile:
    """The invoices of a CSV file, gzipped or not, in the order of their first rows.

    The file is read as far as its invoices are asked for, and never held: a year has half a million rows. The rows of
    an invoice need not stand together; it is complete once `APART` others have begun after it.

    - `counts`, `amounts`: how many invoices of each kind were read by the last iteration, and what they are worth.

    Iterating raises `UnreadableFile`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.counts: Counter[Kind] = Counter()
        self.amounts: defaultdict[Kind, Decimal] = defaultdict(Decimal)

    def __iter__(self) -> Iterator[Invoice]:
        self.counts.clear()
        self.amounts.clear()
        open_ones: dict[str, list[_Line]] = {}
        complete: set[str] = set()
        for number, lines in groupby(self._read(), itemgetter(1)):
            open_ones.setdefault(number, []).extend(lines)
            if number in complete:
                raise UnreadableFile(
                    f"line {open_ones[number][0][0]} of {self._path} belongs to invoice {number}, and {APART} others "
                    "have begun since that one: sort the file by InvoiceNo"
                )
            if len(open_ones) > APART:
                complete.add(first := next(iter(open_ones)))
                yield self._counted(open_ones.pop(first))
        for lines in open_ones.values():
            yield self._counted(lines)

    def _counted(self, lines: list[_Line]) -> Invoice:
        _, number, _, _, _, _, customer, country = lines[0]
        invoice = Invoice(number, customer or None, country or None, tuple(map(_row, lines)))
        self.counts[invoice.kind] += 1
        self.amounts[invoice.kind] += invoice.amount
        return invoice

    def _read(self) -> Iterator[_Line]:
        try:
            with _opened(self._path) as file:
                rows = csv.reader(file)
                names = next(rows, [])
                if missing := set(COLUMNS) - set(names):
                    raise UnreadableFile(f"{self._path} has no column {', '.join(sorted(missing))}")
                cells = itemgetter(*map(names.index, COLUMNS))
                for row in rows:
                    if not row:
                        continue
                    if len(row) < len(names):
                        reason = f"{len(row)} cells, and the first line names {len(names)} columns"
                        raise UnreadableFile(f"line {rows.line_num} of {self._path} has {reason}")
                    yield rows.line_num, *cells(row)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise UnreadableFile(f"{self._path} cannot be read: {error}") from error


def half_of_the_need(invoices: Iterable[Invoice]) -> dict[str, int]:
    """About half of what the sales need of each product: with so much in stock about every second one can be
    delivered."""
    needed: Counter[str] = Counter()
    for invoice in invoices:
        for row in invoice.rows:
            needed[row.product] += row.quantity if invoice.kind == "sale" else 0
    return {product: max(1, quantity // 2) for product, quantity in needed.items()}


def exact(amount: Decimal) -> str:
    """An amount as text, with three decimals, or with as many more as it needs.

    >>> exact(Decimal("388622.44")), exact(Decimal("0.0001"))
    ('388622.440', '0.0001')
    """
    return f"{amount:.3f}" if amount == round(amount, 3) else f"{amount.normalize():f}"


def _opened(path: Path) -> IO[str]:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="")


def _row(line: _Line) -> Row:
    at, _, product, name, quantity, price, _, _ = line
    try:
        return Row(product, name.strip(), int(quantity), Decimal(price))
    except (ValueError, InvalidOperation) as error:
        raise UnreadableFile(f"line {at}: Quantity {quantity!r} and UnitPrice {price!r} must be numbers") from error
