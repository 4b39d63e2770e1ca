"""The payment gateway as this system uses it: its HTTP interface behind four calls."""

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import NamedTuple

import httpx

from millstream import Unsettled
from millstream.settings import Settings

TIMEOUT = 5.0
"""Seconds after which an answer is not waited for any longer."""

CONNECTIONS = 64


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

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def charge(self, key: str, amount: Decimal) -> Charged | Declined | Unknown:
        """Takes `amount`, once for each key."""
        try:
            answer = await self._client.post("/charges", json={"amount": str(amount)}, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            return Unknown(f"{type(error).__name__}: {error}")
        return _outcome(answer)

    async def outcome(self, key: str) -> Charged | Declined | Unknown | None:
        """What became of a charge; `None` where the gateway never heard of it."""
        try:
            answer = await self._client.get(f"/charges/{key}")
        except httpx.TransportError as error:
            return Unknown(f"{type(error).__name__}: {error}")
        return None if answer.status_code == httpx.codes.NOT_FOUND else _outcome(answer)

    async def void(self, key: str) -> Decimal:
        """Gives a charge back, or makes sure that none is ever taken under this key; returns what was given back.

        Raises `Unsettled` where the gateway does not say so.
        """
        return Decimal((await self._settled("POST", f"/charges/{key}/void", None, key))["refunded"])

    async def refund(self, key: str, amount: Decimal) -> Refunded | Refused:
        """Gives `amount` to a customer, once for each key. Raises `Unsettled` where the gateway says neither."""
        answer = await self._settled("POST", "/refunds", {"amount": str(amount)}, key)
        return Refunded(Decimal(answer["amount"])) if answer["state"] == "refunded" else Refused(answer["reason"])

    async def _settled(self, method: str, path: str, body: dict[str, str] | None, key: str) -> dict[str, str]:
        try:
            answer = await self._client.request(method, path, json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            raise Unsettled(f"{method} {path}: {type(error).__name__}: {error}") from error
        if not answer.is_success and answer.status_code != httpx.codes.PAYMENT_REQUIRED:
            raise Unsettled(f"{method} {path}: the gateway answered {answer.status_code}")
        return answer.json()


async def connect(settings: Settings) -> AsyncIterator[Gateway]:
    """The gateway at the address called `gateway`."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    async with httpx.AsyncClient(base_url=settings.address("gateway"), timeout=TIMEOUT, limits=limits) as client:
        yield Gateway(client)


def _outcome(answer: httpx.Response) -> Charged | Declined | Unknown:
    if answer.status_code not in (httpx.codes.OK, httpx.codes.CREATED, httpx.codes.PAYMENT_REQUIRED):
        return Unknown(f"the gateway answered {answer.status_code}")
    charge = answer.json()
    if charge["state"] == "charged":
        return Charged(Decimal(charge["amount"]))
    return Declined(charge["reason"])
