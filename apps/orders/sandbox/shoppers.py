"""Customers, so that there is something to see: a few orders a second, a cancel or a return now and then."""

import asyncio
import random
import signal
import time
from typing import Any

import httpx2

from millstream.settings import Settings
from millstream.telemetry.health import Health
from millstream.telemetry.serve import ObservabilityServer

PAUSE = 0.4
"""Seconds between two orders, on average."""

REFILL_EVERY = 200
"""Orders between two deliveries to the warehouse."""

_CATALOGUE = [
    ("DEMO-1", "Hanging metal star lantern", "4.50"),
    ("DEMO-2", "Jumbo bag, red dots", "1.95"),
    ("DEMO-3", "Rabbit night light", "2.08"),
    ("DEMO-4", "Popcorn holder", "0.85"),
    ("DEMO-5", "Paper chain kit", "2.95"),
    ("DEMO-6", "Victorian glass t-light", "1.25"),
    ("DEMO-7", "Slate heart chalkboard", "3.75"),
    ("DEMO-8", "Mirrored wall art", "0.75"),
]
_COUNTRIES = ["United Kingdom", "France", "Germany", "EIRE", "Norway", "Japan", "Atlantis"]


class Shoppers:
    """Customers of the shop at one public URL."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url
        self._dice = random.Random()  # noqa: S311 a game of dice

    async def shop(self) -> None:
        """Stocks the shop, shows how the first order goes, and orders until cancelled."""
        await self._refill()
        await self._first()
        placed = 1
        while True:
            await asyncio.sleep(self._dice.uniform(0, 2 * PAUSE))
            if placed % REFILL_EVERY == 0:
                await self._refill()
            await self._one_more()
            placed += 1

    async def _refill(self) -> None:
        products = [{"product": product, "name": name, "quantity": 5_000} for product, name, _ in _CATALOGUE]
        await self._ask("PUT", "/products", {"products": products})

    async def _first(self) -> None:
        order_id, began = None, time.monotonic()
        while order_id is None:
            began = time.monotonic()
            answer = await self._ask("POST", "/orders", _basket(self._dice, country="United Kingdom"))
            order_id = answer.get("id")
            if order_id is None:
                await asyncio.sleep(0.1)  # the catalogue has yet to hear of the delivery
        while True:
            if (await self._ask("GET", f"/orders/{order_id}")).get("status") == "completed":
                break
            await asyncio.sleep(0.02)
        took = time.monotonic() - began
        print(f"first order completed after {took:.1f} s: {self._url}/orders/{order_id}", flush=True)

    async def _one_more(self) -> None:
        basket = _basket(self._dice, country=self._dice.choices(_COUNTRIES, weights=[60, 10, 10, 8, 5, 5, 2])[0])
        mood = self._dice.random()
        if mood < 0.04:
            await self._ask("POST", "/returns", basket)
            return
        placed = await self._ask("POST", "/orders", basket)
        if mood > 0.96 and "id" in placed:
            await self._ask("POST", f"/orders/{placed['id']}/cancel")

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request, repeated until the system answers; what it answers, also when that is a problem."""
        pause = 0.05
        while True:
            try:
                answer = await self._client.request(method, path, json=body)
                if answer.status_code < 500:
                    return answer.json()
            except httpx2.TransportError:
                pass
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)


def main(settings: Settings) -> None:
    """The process."""
    server = ObservabilityServer(settings.listen, Health())
    try:
        asyncio.run(_until_stopped(settings.address("edge")))
    finally:
        server.close()


async def _until_stopped(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
        shopping = asyncio.create_task(Shoppers(client, url).shop())
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, shopping.cancel)
        try:
            await shopping
        except asyncio.CancelledError:
            return


def _basket(dice: random.Random, country: str) -> dict[str, Any]:
    wanted = dice.sample(_CATALOGUE, dice.randint(1, 4))
    return {
        "customer": str(dice.randint(17_000, 17_060)),
        "country": country,
        "lines": [
            {"product": product, "quantity": dice.randint(1, 12), "unit_price": price} for product, _, price in wanted
        ],
    }
