"""The system's public API as the replay uses it: every request is repeated until it is answered."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import httpx2

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

    async def stock(self, deliveries: Sequence[Delivery]) -> None:
        """Announces deliveries, and waits until they are in stock and can be ordered."""
        before = await self.levels()
        for number, batch in enumerate(_in_groups(deliveries, _DELIVERIES_TOGETHER)):
            body = {"products": [delivery._asdict() for delivery in batch]}
            await self._ask("PUT", "/products", body, key=f"{self._run}:stock:{number}")
        while True:
            levels = await self.levels()
            known = {row["product"] for row in await self._pages("/products", "products", "product")}
            if all(
                delivery.product in known
                and levels.get(delivery.product, (0, 0))[0]
                >= before.get(delivery.product, (0, 0))[0] + delivery.quantity
                for delivery in deliveries
            ):
                return
            await self._pause("the deliveries are not in stock")

    async def place(self, invoice: Invoice) -> httpx2.Response:
        """Sends one invoice, as an order or as a return."""
        path = "/returns" if invoice.kind == "return" else "/orders"
        return await self._ask("POST", path, invoice.body(), key=f"{self._run}:{invoice.number}", may_refuse=True)

    async def rows(self, path: str, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What the read model says of these orders (`/orders`) or returns (`/returns`)."""
        found: dict[str, dict[str, Any]] = {}
        for group in _in_groups(list(ids), _TOGETHER):
            answer = await self._ask("GET", path, params=[("id", one) for one in group] + [("limit", str(_TOGETHER))])
            found |= {row["id"]: row for row in answer.json()[path.strip("/")]}
        return found

    async def levels(self) -> dict[str, tuple[int, int]]:
        """On hand and reserved of each product."""
        stock = await self._pages("/stock", "stock", "product")
        return {row["product"]: (row["on_hand"], row["reserved"]) for row in stock}

    async def payments(self) -> dict[str, list[dict[str, Any]]]:
        """The gateway's own list."""
        return (await self._ask("GET", "/payments")).json()

    async def mails(self) -> list[dict[str, Any]]:
        """Every mail that was delivered."""
        return (await self._ask("GET", "/mails")).json()

    async def events(self, type: str) -> list[dict[str, Any]]:
        """Every event of one type in the read model's history."""
        return await self._pages("/events", "events", "seq", type=type)

    async def _pages(self, path: str, name: str, key: str, **params: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            after = {"after": str(rows[-1][key])} if rows else {}
            page = (await self._ask("GET", path, params=params | after | {"limit": str(_PAGE)})).json()[name]
            rows += page
            if len(page) < _PAGE:
                return rows

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
