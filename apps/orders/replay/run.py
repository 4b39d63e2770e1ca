"""One replay from the first delivery to the last reconciliation.

Nothing of the file is held that was sent, but for what the books are compared with: a year of invoices takes no more
memory than a week. Products are announced as they come, some hundred invoices ahead, so that the first order need not
wait for the last line to be read.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple
from uuid import uuid4

import httpx2

from orders.replay.books import Entry, Placed, Replayed, Summary, ended, open_books, summarise
from orders.replay.invoices import AMPLE, Delivery, Invoice, InvoiceFile, half_of_the_need
from orders.replay.shop import IN_FLIGHT, Levels, OrderRow, Shop

SETTLING: Final = 30.0
"""Seconds after the last order's end in which mails, refunds and stock may still come to agree."""

_LOOK_EVERY = 0.3
_AHEAD = 200
"""So many invoices are read and their products stocked at once, while those before them are sent."""


class Plan(NamedTuple):
    """What to replay, and how.

    - `rate`: invoices a second; `None` for as fast as they are accepted.
    - `scarce`: stock about half of what is needed.
    - `timeout`: seconds for everything. What was not sent by then is not sent.
    """

    file: InvoiceFile
    url: str
    rate: float | None
    scarce: bool
    timeout: float


Told = Callable[[str, int, int | None], None]
"""Called with `"sent"` or `"ended"`, how many invoices that is true of, and of how many, once that is known."""


async def replay(plan: Plan, told: Told) -> Summary:
    """Stocks the shop, sends every invoice, waits for every end, and compares.

    Raises `GaveUp` where the system does not answer, or answers what it never should, `UnreadableFile` for a row that
    cannot be read, which may come after others were sent.
    """
    began = time.monotonic()
    deadline = began + plan.timeout
    limits = httpx2.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx2.AsyncClient(base_url=plan.url, timeout=15, limits=limits) as client:
        shop = Shop(client, uuid4().hex, deadline)
        await shop.knock()
        shelves = _Shelves(shop, await shop.levels(), half_of_the_need(plan.file) if plan.scarce else None)
        placed, refused, late = await _send(plan, shop, shelves, deadline, told)
        await _wait(shop, placed, len(refused), deadline, told)
        replayed = Replayed(sum(plan.file.counts.values()), placed, refused, late, shelves.products)
        patience = min(deadline, time.monotonic() + SETTLING)
        while True:
            orders = [entry.id for entry in placed if entry.kind != "return"]
            returns = [entry.id for entry in placed if entry.kind == "return"]
            books = await open_books(shop, orders, returns, shelves.levels())
            summary = summarise(replayed, books, scarce=plan.scarce, seconds=time.monotonic() - began)
            if not summary.differences or time.monotonic() > patience:
                return summary
            await asyncio.sleep(_LOOK_EVERY)


class _Shelves:
    """What was stocked, and the number that stands for each product.

    - `before`: the levels at the beginning.
    - `scarce`: how much of each product there shall be, instead of more than enough.
    """

    def __init__(self, shop: Shop, before: Levels, scarce: Mapping[str, int] | None) -> None:
        self.products: dict[str, int] = {}
        self._shop = shop
        self._before = before
        self._scarce = scarce
        self._stocked: Counter[str] = Counter()
        self._needed: Counter[str] = Counter()

    async def fill(self, invoices: Iterable[Invoice]) -> None:
        """Returns once every product of these can be ordered."""
        new: dict[str, str] = {}
        for invoice in invoices:
            for row in invoice.rows:
                self.products.setdefault(row.product, len(self.products))
                self._needed[row.product] += max(row.quantity, 0)
                if row.product not in self._stocked and not new.get(row.product):
                    new[row.product] = row.name
        if new:
            await self._shop.stock([self._deliver(product, name) for product, name in new.items()], self._before)
        if self._scarce is None:
            short = [p for p, needed in self._needed.items() if needed > self._stocked[p] - AMPLE // 2]
            await self._shop.announce([self._deliver(product, product) for product in short])

    def levels(self) -> Levels:
        """What there would be if nothing had been sold."""
        levels = dict(self._before)
        for product, quantity in self._stocked.items():
            on_hand, reserved = levels.get(product, (0, 0))
            levels[product] = on_hand + quantity, reserved
        return levels

    def _deliver(self, product: str, name: str) -> Delivery:
        quantity = AMPLE if self._scarce is None else self._scarce[product]
        self._stocked[product] += quantity
        return Delivery(product, name or product, quantity)


async def _send(
    plan: Plan, shop: Shop, shelves: _Shelves, deadline: float, told: Told
) -> tuple[list[Placed], list[Entry], bool]:
    """What was accepted and what was refused; whether the time was up before the end of the file."""
    placed: list[Placed] = []
    refused: list[Entry] = []
    late = False
    began = time.monotonic()
    taken = 0

    async def send_some(waiting: asyncio.Queue[Invoice | None]) -> None:
        # Each takes the next invoice until there are no more.
        nonlocal late, taken
        while (invoice := await waiting.get()) is not None:
            if plan.rate:
                due = began + taken / plan.rate
                taken += 1
                await asyncio.sleep(min(due, deadline) - time.monotonic())
            if time.monotonic() > deadline:
                late = True
                continue
            answer = await shop.place(invoice)
            entry = Entry.of(invoice, shelves.products)
            if answer.is_success:
                placed.append(Placed(answer.json()["id"], entry))
            else:
                refused.append(entry)
            told("sent", len(placed) + len(refused), None)

    waiting: asyncio.Queue[Invoice | None] = asyncio.Queue(_AHEAD)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(send_some(waiting))
        for invoices in _parts(plan.file):
            if late or time.monotonic() > deadline:
                late = True
                break
            await shelves.fill(invoices)
            for invoice in invoices:
                await waiting.put(invoice)
        for _ in range(IN_FLIGHT):
            await waiting.put(None)
    told("sent", len(placed) + len(refused), len(placed) + len(refused))
    return placed, refused, late


def _parts(file: InvoiceFile) -> Iterator[list[Invoice]]:
    """A few invoices that can soon be sent, and then larger parts."""
    invoices = iter(file)
    size = IN_FLIGHT
    while part := list(islice(invoices, size)):
        yield part
        size = _AHEAD


async def _wait(shop: Shop, placed: list[Placed], refused: int, deadline: float, told: Told) -> None:
    """Until every order and return has ended, or the time is up."""
    under_way = {
        "/orders": {entry.id for entry in placed if entry.kind != "return"},
        "/returns": {entry.id for entry in placed if entry.kind == "return"},
    }
    while any(under_way.values()) and time.monotonic() < deadline:
        for path, ids in under_way.items():
            ids -= _ended(await shop.rows(path, ids))
        left = sum(map(len, under_way.values()))
        told("ended", len(placed) - left + refused, len(placed) + refused)
        if left:
            await asyncio.sleep(_LOOK_EVERY)


def _ended(rows: Mapping[str, OrderRow]) -> set[str]:
    return {id for id, row in rows.items() if ended(row)}
