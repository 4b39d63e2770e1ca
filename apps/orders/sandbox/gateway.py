"""The payment gateway: a process outside the system, which can be slow, decline, or charge and then stay silent."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from millstream.settings import Settings
from orders.sandbox.ledger import Charge, Ledger
from orders.sandbox.serving import serve

Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Behaviour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the gateway behaves. Which charges a ratio strikes depends on `seed` and the charge's key alone.

    - `decline_above`: charges of more than this are declined.
    - `refuse_refunds_above`: refunds of more than this are refused for good.
    - `decline_ratio`, `error_ratio`: so many are declined, or answered 503 without being looked at the first time.
    - `silent_ratio`, `silence`: so many are charged, and then there is no answer for so many seconds (a 504 at last).
    - `delay`: seconds before each answer.
    """

    decline_above: Decimal | None = None
    refuse_refunds_above: Decimal | None = None
    decline_ratio: Ratio = 0.0
    error_ratio: Ratio = 0.0
    silent_ratio: Ratio = 0.0
    silence: Annotated[float, msgspec.Meta(ge=0, le=60)] = 6.0
    delay: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    seed: int = 0

    def strikes(self, what: str, key: str, ratio: float) -> bool:
        """Whether `key` is among the `ratio` of keys that `what` happens to."""
        return ratio > 0 and random.Random(f"{self.seed}/{what}/{key}").random() < ratio  # noqa: S311 a game of dice

    def declines(self, key: str, amount: Decimal) -> str | None:
        """Why a charge is declined."""
        if self.decline_above is not None and amount > self.decline_above:
            return "limit exceeded"
        return "card declined" if self.strikes("decline", key, self.decline_ratio) else None

    def refuses(self, amount: Decimal) -> str | None:
        """Why a refund is refused."""
        above = self.refuse_refunds_above
        return "refund limit exceeded" if above is not None and amount > above else None


class Gateway:
    """The routes of one gateway."""

    def __init__(self, ledger: Ledger, behaviour: Behaviour) -> None:
        self._ledger = ledger
        self._behaviour = behaviour
        self._stumbled: set[str] = set()

    async def charge(self, request: Request) -> Response:
        """`POST /charges`: takes an amount, once for each `Idempotency-Key`."""
        key, amount = await _asked(request)
        if key is None or amount is None:
            return _bad_request()
        behaviour = self._behaviour
        await asyncio.sleep(behaviour.delay)
        if key not in self._stumbled and behaviour.strikes("error", key, behaviour.error_ratio):
            self._stumbled.add(key)
            return JSONResponse({"error": "try again"}, 503)
        charge, new = await asyncio.to_thread(self._ledger.charge, key, amount, behaviour.declines(key, amount))
        if new and charge.state == "charged" and behaviour.strikes("silent", key, behaviour.silent_ratio):
            await asyncio.sleep(behaviour.silence)
            return JSONResponse({"error": "no answer in time"}, 504)
        return _shown(charge)

    async def outcome(self, request: Request) -> Response:
        """`GET /charges/{key}`: what became of a charge."""
        await asyncio.sleep(self._behaviour.delay)
        charge = await asyncio.to_thread(self._ledger.find, request.path_params["key"])
        return _shown(charge) if charge else JSONResponse({"error": "no such charge"}, 404)

    async def void(self, request: Request) -> Response:
        """`POST /charges/{key}/void`: gives a charge back, also one that has yet to come."""
        await asyncio.sleep(self._behaviour.delay)
        refunded = await asyncio.to_thread(self._ledger.void, request.path_params["key"])
        return JSONResponse({"key": request.path_params["key"], "refunded": str(refunded)})

    async def refund(self, request: Request) -> Response:
        """`POST /refunds`: gives an amount, once for each `Idempotency-Key`."""
        key, amount = await _asked(request)
        if key is None or amount is None:
            return _bad_request()
        await asyncio.sleep(self._behaviour.delay)
        refund = await asyncio.to_thread(self._ledger.refund, key, amount, self._behaviour.refuses(amount))
        return JSONResponse(refund._asdict(), 200 if refund.state == "refunded" else 402)

    async def listing(self, request: Request) -> Response:
        """`GET /payments`: all charges and refunds, for reconciliation."""
        charges = await asyncio.to_thread(self._ledger.charges)
        refunds = await asyncio.to_thread(self._ledger.refunds)
        return JSONResponse(
            {"charges": [charge._asdict() for charge in charges], "refunds": [refund._asdict() for refund in refunds]}
        )

    async def behave(self, request: Request) -> Response:
        """`GET /behaviour`, and `POST` to change it."""
        if request.method == "POST":
            try:
                self._behaviour = msgspec.json.decode(await request.body(), type=Behaviour)
            except msgspec.DecodeError as error:
                return JSONResponse({"error": str(error)}, 422)
        return Response(msgspec.json.encode(self._behaviour), media_type="application/json")


def application(path: Path, behaviour: Behaviour | None = None) -> Starlette:
    """The gateway with its ledger at `path`."""
    ledger = Ledger(path)
    gateway = Gateway(ledger, behaviour or Behaviour())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        ledger.close()

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/charges", gateway.charge, methods=["POST"]),
            Route("/charges/{key}", gateway.outcome),
            Route("/charges/{key}/void", gateway.void, methods=["POST"]),
            Route("/refunds", gateway.refund, methods=["POST"]),
            Route("/payments", gateway.listing),
            Route("/behaviour", gateway.behave, methods=["GET", "POST"]),
        ],
    )


def main(settings: Settings) -> None:
    """The process. `ORDERS_GATEWAY` may hold a `Behaviour` as JSON."""
    told = os.environ.get("ORDERS_GATEWAY")
    behaviour = msgspec.json.decode(told, type=Behaviour) if told else Behaviour()
    serve(application(settings.data_dir / "sandbox" / "gateway.db", behaviour), settings)


async def _asked(request: Request) -> tuple[str | None, Decimal | None]:
    key = request.headers.get("idempotency-key")
    try:
        amount = Decimal((await request.json())["amount"])
    except (ValueError, KeyError, TypeError, InvalidOperation):
        return key, None
    return key, amount if amount.is_finite() and amount >= 0 else None


def _bad_request() -> Response:
    return JSONResponse({"error": "send an Idempotency-Key and an amount of 0 or more"}, 400)


def _shown(charge: Charge) -> Response:
    return JSONResponse(charge._asdict(), 402 if charge.state in ("declined", "voided") else 200)
