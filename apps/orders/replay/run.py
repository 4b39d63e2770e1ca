"""One replay from the first delivery to the last reconciliation."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx2

from orders.replay.books import Levels, Placed, Summary, ended, open_books, summarise
from orders.replay.invoices import Invoice, deliveries
from orders.replay.shop import IN_FLIGHT, Shop

SETTLING: Final = 30.0
"""Seconds after the last order's end in which mails, refunds and stock may still come to agree."""

_LOOK_EVERY = 0.3


class Plan(NamedTuple):
    """What to replay, and how.

    - `rate`: invoices a second; `None` for as fast as they are accepted.
    - `scarce`: stock about half of what is needed.
    - `timeout`: seconds for everything.
    """

    invoices: list[Invoice]
    url: str
    rate: float | None
    scarce: bool
    timeout: float


Told = Callable[[str, int], None]
"""Called with `"sent"` or `"ended"` and how many invoices that is true of."""


async def replay(plan: Plan, told: Told) -> Summary:
    """Stocks the shop, sends every invoice, waits for every end, and compares.

    Raises `GaveUp` where the system does not answer, or answers what it never should.
    """
    began = time.monotonic()
    deadline = began + plan.timeout
    limits = httpx2.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
    async with httpx2.AsyncClient(base_url=plan.url, timeout=15, limits=limits) as client:
        shop = Shop(client, uuid4().hex, deadline)
        await shop.knock()
        await shop.stock(deliveries(plan.invoices, scarce=plan.scarce))
        before = await shop.levels()
        placed, refused = await _send(plan, shop, told)
        await _wait(shop, placed, len(refused), deadline, told)
        patience = min(deadline, time.monotonic() + SETTLING)
        while True:
            summary = await _compare(plan, shop, placed, refused, before, time.monotonic() - began)
            if not summary.differences or time.monotonic() > patience:
                return summary
            await asyncio.sleep(_LOOK_EVERY)


async def _send(plan: Plan, shop: Shop, told: Told) -> tuple[list[Placed], list[Invoice]]:
    placed: list[Placed] = []
    refused: list[Invoice] = []
    waiting = iter(enumerate(plan.invoices))
    began = time.monotonic()

    async def send_some() -> None:
        # Each takes the next invoice until there are no more.
        for number, invoice in waiting:
            if plan.rate:
                await asyncio.sleep(began + number / plan.rate - time.monotonic())
            answer = await shop.place(invoice)
            if answer.is_success:
                placed.append(Placed(answer.json()["id"], invoice))
            else:
                refused.append(invoice)
            told("sent", len(placed) + len(refused))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(send_some())
    return placed, refused


async def _wait(shop: Shop, placed: list[Placed], refused: int, deadline: float, told: Told) -> None:
    """Until every order and return has ended, or the time is up."""
    under_way = {
        "/orders": {entry.id for entry in placed if entry.invoice.kind != "return"},
        "/returns": {entry.id for entry in placed if entry.invoice.kind == "return"},
    }
    while any(under_way.values()) and time.monotonic() < deadline:
        for path, ids in under_way.items():
            ids -= _ended(await shop.rows(path, ids))
        told("ended", len(placed) - sum(map(len, under_way.values())) + refused)
        if any(under_way.values()):
            await asyncio.sleep(_LOOK_EVERY)


def _ended(rows: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {id for id, row in rows.items() if ended(row)}


async def _compare(
    plan: Plan, shop: Shop, placed: list[Placed], refused: list[Invoice], before: Levels, seconds: float
) -> Summary:
    orders = [entry.id for entry in placed if entry.invoice.kind != "return"]
    returns = [entry.id for entry in placed if entry.invoice.kind == "return"]
    books = await open_books(shop, orders, returns, before)
    return summarise(plan.invoices, placed, refused, books, scarce=plan.scarce, seconds=seconds)
