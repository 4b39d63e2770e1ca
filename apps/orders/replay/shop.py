"""The system's public API as the replay uses it: every request is repeated until it is answered."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

import httpx2
import msgspec

from orders.replay.invoices import Delivery, Invoice

ANSWER_WITHIN = 10.0
"""Seconds that the system has for its first answer."""
IN_FLIGHT = 16
"""Requests at once."""

_AGAIN_AFTER = 0.2
"""Seconds until a request is repeated."""
_TOGETHER = 100
"""Ids that one query asks for."""
_PAGE = 1_000
_DELIVERIES_TOGETHER = 500

T = TypeVar("T")
Levels = Mapping[str, tuple[int, int]]
"""On hand and reserved of each product."""


class OrderRow(msgspec.Struct):
    """What the read model says of an order or a return, as far as it is compared."""

    id: str
    status: str
    total: Decimal
    reason: str | None = None


class Charge(msgspec.Struct):
    """What the gateway took for an order."""

    key: str
    amount: Decimal
    state: str


class Refund(msgspec.Struct):
    """What the gateway gave for a return."""

    key: str
    amount: Decimal


class Payments(msgspec.Struct):
    """The gateway's list."""

    charges: list[Charge]
    refunds: list[Refund]


class Mail(msgspec.Struct):
    """One delivered mail, without its text."""

    message_id: str
    about: str
    kind: str


class GaveUp(Exception):
    """The system did not answer, or not as it should; the message says what was asked."""


class Shop:
    """The shop at one public URL.

    - `run`: part of every idempotency key, so that a file can be replayed again.
    - `deadline`: on the monotonic clock; nothing is repeated after it.
    """

    def __init__(self, client: httpx2.AsyncClient, run: str, deadline: float) -> None:
        self._client = client
        self._run = run
        self._deadline = deadline
        self._announced = 0

    async def knock(self) -> None:
        """Returns once the system answers. Raises `GaveUp` where it does not within some seconds."""
        patience = min(self._deadline, time.monotonic() + ANSWER_WITHIN)
        while True:
            try:
                await self._client.get("/health")
                return
            except httpx2.TransportError as error:
                if time.monotonic() > patience:
                    raise GaveUp(
                        f"Nothing answers at {self._client.base_url} ({type(error).__name__}). Start the system with "
                        "`millstream up`, or name its address with --url."
                    ) from error
            await asyncio.sleep(_AGAIN_AFTER)

    async def stock(self, deliveries: Sequence[Delivery], before: Levels) -> None:
        """Announces deliveries, and waits until they are in stock and can be ordered.

        - `before`: the levels without them. Nobody orders these products yet.
        """
        await self.announce(deliveries)
        while True:
            levels = await self.levels()
            known = {row["product"] async for row in self._pages("/products", "products", "product")}
            if all(
                delivery.product in known
                and levels.get(delivery.product, (0, 0))[0]
                >= before.get(delivery.product, (0, 0))[0] + delivery.quantity
                for delivery in deliveries
            ):
                return
            await self._pause("the deliveries are not in stock")

    async def announce(self, deliveries: Sequence[Delivery]) -> None:
        """Announces deliveries, which are in stock soon after."""
        for batch in _in_groups(deliveries, _DELIVERIES_TOGETHER):
            self._announced += 1
            body = {"products": [delivery._asdict() for delivery in batch]}
            await self._ask("PUT", "/products", body, key=f"{self._run}:stock:{self._announced}")

    async def place(self, invoice: Invoice) -> httpx2.Response:
        """Sends one invoice, as an order or as a return."""
        path = "/returns" if invoice.kind == "return" else "/orders"
        return await self._ask("POST", path, invoice.body(), key=f"{self._run}:{invoice.number}", may_refuse=True)

    async def rows(self, path: str, ids: Iterable[str]) -> dict[str, OrderRow]:
        """What the read model says of these orders (`/orders`) or returns (`/returns`)."""
        found: dict[str, OrderRow] = {}
        for group in _in_groups(list(ids), _TOGETHER):
            answer = await self._ask("GET", path, params=[("id", one) for one in group] + [("limit", str(_TOGETHER))])
            rows = msgspec.json.decode(answer.content, type=dict[str, list[OrderRow]])[path.strip("/")]
            found |= {row.id: row for row in rows}
        return found

    async def levels(self) -> Levels:
        """On hand and reserved of each product."""
        stock = self._pages("/stock", "stock", "product")
        return {row["product"]: (row["on_hand"], row["reserved"]) async for row in stock}

    async def payments(self) -> Payments:
        """The gateway's own list."""
        return msgspec.json.decode((await self._ask("GET", "/payments")).content, type=Payments)

    async def mails(self, about: Container[str]) -> list[Mail]:
        """Every mail that was delivered about these orders and returns."""
        found: list[Mail] = []
        for after in count(0, _PAGE):
            answer = await self._ask("GET", "/mails", params={"after": str(after), "limit": str(_PAGE)})
            page = msgspec.json.decode(answer.content, type=list[Mail])
            found += [mail for mail in page if mail.about in about]
            if len(page) < _PAGE:
                break
        return found

    async def shipments(self) -> Counter[str]:
        """How often each order was shipped, by the read model's history."""
        shipped: Counter[str] = Counter()
        async for row in self._pages("/events", "events", "seq", type="ShipmentScheduled"):
            shipped[row["about"]] += 1
        return shipped

    async def _pages(self, path: str, name: str, key: str, **params: str) -> AsyncIterator[dict[str, Any]]:
        after: dict[str, str] = {}
        while True:
            page = (await self._ask("GET", path, params=params | after | {"limit": str(_PAGE)})).json()[name]
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            after = {"after": str(page[-1][key])}

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        key: str | None = None,
        params: Any = None,
        may_refuse: bool = False,
    ) -> httpx2.Response:
        headers = {"Idempotency-Key": key} if key else None
        while True:
            try:
                answer = await self._client.request(method, path, json=body, params=params, headers=headers)
                trouble = f"{method} {path} was answered {answer.status_code}: {answer.text[:300]}"
                if answer.is_success or (may_refuse and answer.status_code == httpx2.codes.UNPROCESSABLE_ENTITY):
                    return answer
                if answer.status_code not in (429, 502, 503, 504):
                    raise GaveUp(trouble)
            except httpx2.TransportError as error:
                trouble = f"{method} {self._client.base_url}{path}: {type(error).__name__}: {error}"
            await self._pause(trouble)

    async def _pause(self, trouble: str) -> None:
        if time.monotonic() > self._deadline:
            raise GaveUp(f"{trouble} (and the time is up)")
        await asyncio.sleep(_AGAIN_AFTER)


def _in_groups(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]
