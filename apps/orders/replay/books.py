"""What the system says became of the invoices, and where its books disagree with the file or with each other."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from orders.replay.invoices import Invoice, exact
from orders.replay.shop import Shop

Levels = Mapping[str, tuple[int, int]]


class Placed(NamedTuple):
    """An invoice that the system accepted, and the id that it got."""

    id: str
    invoice: Invoice


class Books(NamedTuple):
    """Everything that there is to know about one replay, read from every service's own place."""

    orders: dict[str, dict[str, Any]]
    returns: dict[str, dict[str, Any]]
    stock_before: Levels
    stock_after: Levels
    payments: dict[str, list[dict[str, Any]]]
    shipments: list[dict[str, Any]]
    mails: list[dict[str, Any]]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The replay in numbers; amounts are exact texts."""

    invoices: int
    completed: int
    returned: int
    refused: int
    cancelled: int
    open: int
    revenue: str
    refunds: str
    mails: int
    mails_duplicated: int
    differences: tuple[str, ...]
    seconds: float


async def open_books(shop: Shop, orders: Iterable[str], returns: Iterable[str], stock_before: Levels) -> Books:
    """Asks every service for its books."""
    return Books(
        await shop.rows("/orders", orders),
        await shop.rows("/returns", returns),
        stock_before,
        await shop.levels(),
        await shop.payments(),
        await shop.events("ShipmentScheduled"),
        await shop.mails(),
    )


def ended(row: Mapping[str, Any] | None) -> bool:
    """Whether nothing more happens to an order or return."""
    return row is not None and row["status"] in ("completed", "cancelled")


def summarise(
    invoices: list[Invoice], placed: list[Placed], refused: list[Invoice], books: Books, *, scarce: bool, seconds: float
) -> Summary:
    """The replay in numbers, with a line for each difference."""
    orders = list(books.orders.values())
    completed = [row for row in orders if row["status"] == "completed"]
    returned = [row for row in books.returns.values() if row["status"] == "completed"]
    cancelled = sum(row["status"] == "cancelled" for row in orders)
    mine = {entry.id for entry in placed}
    mails = [mail for mail in books.mails if mail["about"] in mine]
    return Summary(
        invoices=len(invoices),
        completed=len(completed),
        returned=len(returned),
        refused=len(refused),
        cancelled=cancelled,
        open=len(placed) - len(completed) - len(returned) - cancelled,
        revenue=exact(_total(completed)),
        refunds=exact(_total(returned)),
        mails=len(mails),
        mails_duplicated=len(mails) - len({mail["message_id"] for mail in mails}),
        differences=tuple(differences(invoices, placed, refused, books, scarce=scarce)),
        seconds=round(seconds, 3),
    )


def differences(
    invoices: list[Invoice], placed: list[Placed], refused: list[Invoice], books: Books, *, scarce: bool
) -> Iterator[str]:
    """Everything that does not agree, as sentences."""
    yield from _ends(invoices, placed, refused, books, scarce=scarce)
    yield from _amounts(placed, books)
    yield from _stock(placed, books)
    yield from _payments(books)
    yield from _shipments(books)
    yield from _mails(books)


def _ends(
    invoices: list[Invoice], placed: list[Placed], refused: list[Invoice], books: Books, *, scarce: bool
) -> Iterator[str]:
    for entry in placed:
        row = _row(entry, books)
        if not ended(row):
            yield f"invoice {entry.invoice.number} ({entry.id}) has not ended: {row['status'] if row else 'unknown'}"
        elif row is not None and row["status"] == "cancelled" and not scarce:
            yield f"invoice {entry.invoice.number} ({entry.id}) was cancelled: {row['reason']}"
        if entry.invoice.kind == "adjustment":
            yield f"invoice {entry.invoice.number} corrects the stock and was accepted all the same"
    for invoice in refused:
        if invoice.kind != "adjustment":
            yield f"invoice {invoice.number}, a {invoice.kind}, was refused"
    if len({entry.id for entry in placed}) + len(refused) != len(invoices):
        yield f"{len(invoices)} invoices were sent, {len(placed)} accepted and {len(refused)} refused"


def _amounts(placed: list[Placed], books: Books) -> Iterator[str]:
    for entry in placed:
        row = _row(entry, books)
        if row is not None and Decimal(row["total"]) != abs(entry.invoice.amount):
            yield f"invoice {entry.invoice.number} is worth {abs(entry.invoice.amount)}, its row says {row['total']}"


def _stock(placed: list[Placed], books: Books) -> Iterator[str]:
    expected: defaultdict[str, int] = defaultdict(int)
    for entry in placed:
        row = _row(entry, books)
        if row is not None and row["status"] == "completed":
            for line in entry.invoice.rows:
                # A sale takes away; the quantities of a return are negative and bring back.
                expected[line.product] -= line.quantity
    for product, (on_hand, reserved) in books.stock_after.items():
        had, had_reserved = books.stock_before.get(product, (0, 0))
        if on_hand != had + expected[product]:
            yield f"there are {on_hand} of product {product}; it should be {had} {expected[product]:+}"
        if reserved != had_reserved:
            yield f"{reserved} of product {product} are reserved though nothing is under way; before: {had_reserved}"


def _payments(books: Books) -> Iterator[str]:
    charges = {charge["key"]: charge for charge in books.payments["charges"]}
    refunds = {refund["key"]: refund for refund in books.payments["refunds"]}
    for row in books.orders.values():
        charge = charges.get(row["id"])
        charged = charge is not None and charge["state"] == "charged"
        if row["status"] == "completed" and not (
            charged and charge and Decimal(charge["amount"]) == Decimal(row["total"])
        ):
            yield f"order {row['id']} over {row['total']} is completed, but the gateway has {charge}"
        if row["status"] == "cancelled" and charged:
            yield f"order {row['id']} is cancelled, but its charge was not given back"
    for row in books.returns.values():
        refund = refunds.get(row["id"])
        if row["status"] == "completed" and (refund is None or Decimal(refund["amount"]) != Decimal(row["total"])):
            yield f"return {row['id']} over {row['total']} is completed, but the gateway has {refund}"


def _shipments(books: Books) -> Iterator[str]:
    shipments = Counter(event["about"] for event in books.shipments)
    for row in books.orders.values():
        due = 1 if row["status"] == "completed" else 0
        if shipments[row["id"]] != due:
            yield f"order {row['id']} is {row['status']} and was shipped {shipments[row['id']]} times"


def _mails(books: Books) -> Iterator[str]:
    # By Message-ID: the same mail delivered twice is counted elsewhere, two mails that say the same are a difference.
    sent: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for mail in books.mails:
        sent[mail["about"]][mail["message_id"]] = mail["kind"]
    for row in books.orders.values():
        yield from _mails_of("order", row, sent, ["created", row["status"]])
    for row in books.returns.values():
        yield from _mails_of("return", row, sent, ["returned"])


def _mails_of(
    what: str, row: Mapping[str, Any], sent: Mapping[str, Mapping[str, str]], due: list[str]
) -> Iterator[str]:
    kinds = sorted(sent.get(row["id"], {}).values())
    if ended(row) and kinds != sorted(due):
        yield f"{what} {row['id']} is {row['status']}; mails about it: {', '.join(kinds) or 'none'}"


def _row(entry: Placed, books: Books) -> dict[str, Any] | None:
    return (books.returns if entry.invoice.kind == "return" else books.orders).get(entry.id)


def _total(rows: Iterable[Mapping[str, Any]]) -> Decimal:
    return sum((Decimal(row["total"]) for row in rows), Decimal(0))
