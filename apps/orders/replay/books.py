"""What the system says became of the invoices, and where its books disagree with the file or with each other."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from orders.replay.invoices import Invoice, Kind, exact
from orders.replay.shop import Levels, Mail, OrderRow, Payments, Shop


class Entry(NamedTuple):
    """What the books have to know of an invoice that was sent.

    - `lines`: a product's number and the quantity of it, in turn, for each line.
    """

    number: str
    kind: Kind
    amount: Decimal
    lines: "array[int]"

    @classmethod
    def of(cls, invoice: Invoice, products: Mapping[str, int]) -> "Entry":
        """The entry of an invoice whose products have these numbers."""
        lines = array("q", (number for row in invoice.rows for number in (products[row.product], row.quantity)))
        return cls(invoice.number, invoice.kind, invoice.amount, lines)


class Placed(NamedTuple):
    """An invoice that the system accepted, and the id that it got."""

    id: str
    entry: Entry

    @property
    def kind(self) -> Kind:
        """That of the invoice."""
        return self.entry.kind


class Replayed(NamedTuple):
    """What was sent.

    - `invoices`: how many the file has, as far as it was read.
    - `late`: whether the time was up before all of it was sent.
    - `products`: the number of each product.
    """

    invoices: int
    placed: Sequence[Placed]
    refused: Sequence[Entry]
    late: bool
    products: Mapping[str, int]


class Books(NamedTuple):
    """Everything that there is to know about one replay, read from every service's own place.

    - `stock_before`: what there would be if nothing had been sold.
    """

    orders: dict[str, OrderRow]
    returns: dict[str, OrderRow]
    stock_before: Levels
    stock_after: Levels
    payments: Payments
    shipments: Mapping[str, int]
    mails: list[Mail]


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


async def open_books(shop: Shop, orders: Sequence[str], returns: Sequence[str], stock_before: Levels) -> Books:
    """Asks every service for its books."""
    return Books(
        await shop.rows("/orders", orders),
        await shop.rows("/returns", returns),
        stock_before,
        await shop.levels(),
        await shop.payments(),
        await shop.shipments(),
        await shop.mails({*orders, *returns}),
    )


def ended(row: OrderRow | None) -> bool:
    """Whether nothing more happens to an order or return."""
    return row is not None and row.status in ("completed", "cancelled")


def summarise(replayed: Replayed, books: Books, *, scarce: bool, seconds: float) -> Summary:
    """The replay in numbers, with a line for each difference."""
    completed = [row for row in books.orders.values() if row.status == "completed"]
    returned = [row for row in books.returns.values() if row.status == "completed"]
    cancelled = sum(row.status == "cancelled" for row in books.orders.values())
    return Summary(
        invoices=replayed.invoices,
        completed=len(completed),
        returned=len(returned),
        refused=len(replayed.refused),
        cancelled=cancelled,
        open=len(replayed.placed) - len(completed) - len(returned) - cancelled,
        revenue=exact(_total(completed)),
        refunds=exact(_total(returned)),
        mails=len(books.mails),
        mails_duplicated=len(books.mails) - len({mail.message_id for mail in books.mails}),
        differences=tuple(differences(replayed, books, scarce=scarce)),
        seconds=round(seconds, 3),
    )


def differences(replayed: Replayed, books: Books, *, scarce: bool) -> Iterator[str]:
    """Everything that does not agree, as sentences."""
    yield from _ends(replayed, books, scarce=scarce)
    yield from _amounts(replayed, books)
    yield from _stock(replayed, books)
    yield from _payments(books)
    yield from _shipments(books)
    yield from _mails(books)


def _ends(replayed: Replayed, books: Books, *, scarce: bool) -> Iterator[str]:
    for placed in replayed.placed:
        id, entry = placed
        row = _row(placed, books)
        if not ended(row):
            yield f"invoice {entry.number} ({id}) has not ended: {row.status if row else 'unknown'}"
        elif row is not None and row.status == "cancelled" and not scarce:
            yield f"invoice {entry.number} ({id}) was cancelled: {row.reason}"
        if entry.kind == "adjustment":
            yield f"invoice {entry.number} corrects the stock or the accounts and was accepted all the same"
    for entry in replayed.refused:
        if entry.kind != "adjustment":
            yield f"invoice {entry.number}, a {entry.kind}, was refused"
    accepted, refused = len({placed.id for placed in replayed.placed}), len(replayed.refused)
    if replayed.late:
        yield f"the time was up when {accepted + refused} invoices had been sent; give it more with --timeout"
    elif accepted + refused != replayed.invoices:
        yield f"{replayed.invoices} invoices were sent, {accepted} accepted and {refused} refused"


def _amounts(replayed: Replayed, books: Books) -> Iterator[str]:
    for placed in replayed.placed:
        row = _row(placed, books)
        worth = abs(placed.entry.amount)
        if row is not None and row.total != worth:
            yield f"invoice {placed.entry.number} is worth {worth}, its row says {row.total}"


def _stock(replayed: Replayed, books: Books) -> Iterator[str]:
    sold = array("q", bytes(8 * len(replayed.products)))
    for placed in replayed.placed:
        row = _row(placed, books)
        if row is not None and row.status == "completed":
            # A sale takes away; the quantities of a return are negative and bring back.
            lines = placed.entry.lines
            for product, quantity in zip(lines[::2], lines[1::2], strict=True):
                sold[product] += quantity
    for product, (on_hand, reserved) in books.stock_after.items():
        had, had_reserved = books.stock_before.get(product, (0, 0))
        number = replayed.products.get(product)
        expected = -sold[number] if number is not None else 0
        if on_hand != had + expected:
            yield f"there are {on_hand} of product {product}; it should be {had} {expected:+}"
        if reserved != had_reserved:
            yield f"{reserved} of product {product} are reserved though nothing is under way; before: {had_reserved}"


def _payments(books: Books) -> Iterator[str]:
    charges = {charge.key: charge for charge in books.payments.charges}
    refunds = {refund.key: refund for refund in books.payments.refunds}
    for row in books.orders.values():
        charge = charges.get(row.id)
        charged = charge is not None and charge.state == "charged"
        if row.status == "completed" and not (charged and charge and charge.amount == row.total):
            yield f"order {row.id} over {row.total} is completed, but the gateway has {charge}"
        if row.status == "cancelled" and charged:
            yield f"order {row.id} is cancelled, but its charge was not given back"
    for row in books.returns.values():
        refund = refunds.get(row.id)
        if row.status == "completed" and (refund is None or refund.amount != row.total):
            yield f"return {row.id} over {row.total} is completed, but the gateway has {refund}"


def _shipments(books: Books) -> Iterator[str]:
    for row in books.orders.values():
        due = 1 if row.status == "completed" else 0
        shipped = books.shipments.get(row.id, 0)
        if shipped != due:
            yield f"order {row.id} is {row.status} and was shipped {shipped} times"


def _mails(books: Books) -> Iterator[str]:
    # By Message-ID: the same mail delivered twice is counted elsewhere, two mails that say the same are a difference.
    sent: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for mail in books.mails:
        sent[mail.about][mail.message_id] = mail.kind
    for row in books.orders.values():
        yield from _mails_of("order", row, sent, ["created", row.status])
    for row in books.returns.values():
        yield from _mails_of("return", row, sent, ["returned"])


def _mails_of(what: str, row: OrderRow, sent: Mapping[str, Mapping[str, str]], due: list[str]) -> Iterator[str]:
    kinds = sorted(sent.get(row.id, {}).values())
    if ended(row) and kinds != sorted(due):
        yield f"{what} {row.id} is {row.status}; mails about it: {', '.join(kinds) or 'none'}"


def _row(placed: Placed, books: Books) -> OrderRow | None:
    return (books.returns if placed.kind == "return" else books.orders).get(placed.id)


def _total(rows: Iterable[OrderRow]) -> Decimal:
    return sum((row.total for row in rows), Decimal(0))
