"""The payment gateway as this system uses it: its HTTP interface behind four calls."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import httpx2

from millstream import Unsettled
from millstream.settings import Settings
from orders.pool import SweptTransport

ANSWER_WITHIN = 4.0
"""Seconds for one call, from its place in the pool to the end of its answer: an effect makes two of them at most, and
both fit into its own time-out."""
EFFECT_WITHIN = 10.0
"""Seconds that an effect may take."""

CONCURRENCY = 64
"""Keys that each of the effects serves at once."""
EFFECTS = 4
"""Effects that share the connections: none waits for a place in the pool that another one has."""


class Charged(NamedTuple):
    """The gateway has the money."""

    amount: Decimal


class Declined(NamedTuple):
    """The gateway has not taken the money, and will not under this key."""

    reason: str


class Refunded(NamedTuple):
    """The customer has the money."""

    amount: Decimal


class Refused(NamedTuple):
    """The gateway has not given the money, and will not under this key."""

    reason: str


class Unknown(NamedTuple):
    """No answer, or none that says what happened."""

    detail: str


class Gateway:
    """Every call carries an idempotency key: made again, it finds what was done before."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def charge(self, key: str, amount: Decimal) -> Charged | Declined | Unknown:
        """Takes `amount`, once for each key."""
        try:
            return _outcome(await self._ask("POST", "/charges", key, {"amount": str(amount)}))
        except Unsettled as error:
            return Unknown(str(error))

    async def outcome(self, key: str) -> Charged | Declined | Unknown | None:
        """What became of a charge; `None` where the gateway never heard of it."""
        try:
            answer = await self._ask("GET", f"/charges/{key}")
        except Unsettled as error:
            return Unknown(str(error))
        return None if answer.status_code == httpx2.codes.NOT_FOUND else _outcome(answer)

    async def void(self, key: str) -> Decimal:
        """Gives a charge back, or makes sure that none is ever taken under this key; returns what was given back.

        Raises `Unsettled` where the gateway does not say so.
        """
        return _amount(_settled(await self._ask("POST", f"/charges/{key}/void", key)), "refunded")

    async def refund(self, key: str, amount: Decimal) -> Refunded | Refused:
        """Gives `amount` to a customer, once for each key. Raises `Unsettled` where the gateway says neither."""
        answer = _settled(await self._ask("POST", "/refunds", key, {"amount": str(amount)}))
        if answer.get("state") == "refunded":
            return Refunded(_amount(answer, "amount"))
        return Refused(str(answer.get("reason", "")))

    async def _ask(
        self, method: str, path: str, key: str | None = None, body: dict[str, str] | None = None
    ) -> httpx2.Response:
        """Whatever is answered. Raises `Unsettled` where nothing is, or not in time."""
        headers = {"Idempotency-Key": key} if key else None
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await self._client.request(method, path, json=body, headers=headers)
        except (httpx2.HTTPError, TimeoutError) as error:
            raise Unsettled(f"{method} {path}: {type(error).__name__}: {error}") from error


async def connect(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway at the address called `gateway`."""
    transport = SweptTransport(connections=EFFECTS * CONCURRENCY, idle=CONCURRENCY)
    url = settings.address("gateway")
    async with (
        httpx2.AsyncClient(base_url=url, timeout=ANSWER_WITHIN, transport=transport) as client,
        transport.swept(),
    ):
        yield Gateway(client)


def _outcome(answer: httpx2.Response) -> Charged | Declined | Unknown:
    """What an answer about a charge says. One that makes no sense says nothing: the charge may have been made."""
    if answer.status_code not in (httpx2.codes.OK, httpx2.codes.CREATED, httpx2.codes.PAYMENT_REQUIRED):
        return Unknown(f"the gateway answered {answer.status_code}")
    try:
        charge = _read(answer)
        if charge.get("state") == "charged":
            return Charged(_amount(charge, "amount"))
    except Unsettled as error:
        return Unknown(str(error))
    if charge.get("state") in ("declined", "voided", "refunded"):
        return Declined(str(charge.get("reason")))
    return Unknown(f"the gateway answered {answer.status_code} with an unknown state")


def _settled(answer: httpx2.Response) -> dict[str, Any]:
    if not answer.is_success and answer.status_code != httpx2.codes.PAYMENT_REQUIRED:
        raise Unsettled(f"{answer.request.method} {answer.url.path}: the gateway answered {answer.status_code}")
    return _read(answer)


def _read(answer: httpx2.Response) -> dict[str, Any]:
    try:
        read = answer.json()
    except ValueError as error:
        raise Unsettled(f"{answer.request.method} {answer.url.path}: the answer is no JSON") from error
    if not isinstance(read, dict):
        raise Unsettled(f"{answer.request.method} {answer.url.path}: the answer is no object")
    return read


def _amount(answer: dict[str, Any], name: str) -> Decimal:
    try:
        return Decimal(answer[name])
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise Unsettled(f"the gateway's answer has no amount in {name!r}") from error
