"""The payment gateway and the mail server of a world: what they did lasts, whatever becomes of those who asked."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from email.message import EmailMessage
from typing import NamedTuple, TypeVar

from millstream import Unsettled
from millstream.settings import Settings
from millstream.testing.simulation import Crashed, World
from orders.payment.gateway import ANSWER_WITHIN, Charged, Declined, Refunded, Refused, Unknown
from orders.sandbox.ledger import Charge

T = TypeVar("T")

LATEST = 12.0
"""Seconds that a request may be on its way: longer than anybody waits for it."""


class Manners(NamedTuple):
    """How those outside answer: the chance of each outcome of a request; `unanswered` is carried out all the same."""

    lost: float = 0.0
    unanswered: float = 0.0
    refused: float = 0.0
    late: float = 0.0
    twice: float = 0.0


ROUGH = Manners(lost=0.02, unanswered=0.05, refused=0.03, late=0.03, twice=0.03)
GOOD = Manners()


class NoAnswer(Exception):
    """Nobody knows what became of a request."""


class Outside:
    """The way to those outside, and back.

    - `manners`: may be set anew at any time.
    """

    def __init__(self, world: World) -> None:
        self.manners = ROUGH
        self._world = world

    async def ask(self, what: str, carry_out: Callable[[], T]) -> T:
        """What comes of `carry_out` where that is done. Raises `NoAnswer`, after a while or at once."""
        world, manners, dice = self._world, self.manners, self._world.random.random()
        process = world.incarnation
        if process.dead:
            raise Crashed
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def arrive(*, answered: bool) -> None:
            result = carry_out()
            world.record("outside", what)
            if answered:
                process.after(self._way(), lambda: _answer(answer, result))

        for outcome, chance in zip(Manners._fields, manners, strict=True):
            dice -= chance
            if dice < 0:
                world.record(process.name, f"{what}: {outcome}")
                break
        else:
            outcome = "answered"
        if outcome == "refused":
            raise NoAnswer("refused, try again")
        if outcome != "lost":
            way = world.random.uniform(1, LATEST) if outcome == "late" else self._way()
            world.after(way, lambda: arrive(answered=outcome != "unanswered"), world.network)
        if outcome == "twice":
            world.after(world.random.uniform(0, LATEST), lambda: arrive(answered=False), world.network)
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                return await answer
        except TimeoutError:
            raise NoAnswer("no answer in time") from None

    def _way(self) -> float:
        return self._world.random.uniform(0.001, 0.05)


class SimulatedGateway:
    """In the place of `orders.payment.gateway.Gateway`, with the money that it has moved.

    - `garbled`: the chance of a refund that the first answer to it cannot be read, so that nobody asks again but the
      timer of the return.
    """

    def __init__(self, world: World, outside: Outside, garbled: float) -> None:
        self.charges: dict[str, Charge] = {}
        self.refunds: dict[str, Decimal] = {}
        self.garbled: set[str] = set()
        self._asked: set[str] = set()
        self._world, self._outside, self._chance = world, outside, garbled

    async def provide(self, settings: Settings) -> AsyncIterator["SimulatedGateway"]:
        """For the payment service."""
        yield self

    async def charge(self, key: str, amount: Decimal) -> Charged | Declined | Unknown:
        def carry_out() -> Charge:
            # A sixteenth of the cards is declined.
            declined = key.endswith("7")
            state, reason = ("declined", "card declined") if declined else ("charged", None)
            return self.charges.setdefault(key, Charge(key, str(amount), state, reason))

        try:
            return _outcome(await self._outside.ask(f"charge {key}", carry_out))
        except NoAnswer as nothing:
            return Unknown(str(nothing))

    async def outcome(self, key: str) -> Charged | Declined | Unknown | None:
        try:
            found = await self._outside.ask(f"look for charge {key}", lambda: self.charges.get(key))
        except NoAnswer as nothing:
            return Unknown(str(nothing))
        return None if found is None else _outcome(found)

    async def void(self, key: str) -> Decimal:
        def carry_out() -> Decimal:
            known = self.charges.setdefault(key, Charge(key, "0", "voided", "voided"))
            if known.state == "charged":
                self.charges[key] = known._replace(state="refunded", reason="voided")
            return Decimal(known.amount) if known.state in ("charged", "refunded") else Decimal(0)

        return await self._settled(f"void {key}", carry_out)

    async def refund(self, key: str, amount: Decimal) -> Refunded | Refused:
        def carry_out() -> Refunded | Refused | None:
            first = key not in self._asked
            self._asked.add(key)
            if first and self._world.random.random() < self._chance:
                self.garbled.add(key)
                return None
            # An eighth of the refunds is refused.
            if key.endswith(("3", "7")):
                return Refused("refund limit exceeded")
            return Refunded(self.refunds.setdefault(key, amount))

        if (answer := await self._settled(f"refund {key}", carry_out)) is None:
            raise ValueError(f"the answer to refund {key} is no JSON")
        return answer

    async def _settled(self, what: str, carry_out: Callable[[], T]) -> T:
        try:
            return await self._outside.ask(what, carry_out)
        except NoAnswer as nothing:
            raise Unsettled(f"{what}: {nothing}") from nothing


class SimulatedMailer:
    """In the place of `orders.email.service.Mailer`, with how often each mail came, by its `Message-ID`."""

    def __init__(self, outside: Outside) -> None:
        self.mails: Counter[str] = Counter()
        self._outside = outside

    async def provide(self, settings: Settings) -> AsyncIterator["SimulatedMailer"]:
        """For the email service."""
        yield self

    async def send(self, mail: EmailMessage) -> None:
        try:
            await self._outside.ask(f"mail {mail['X-Kind']} {mail['X-About']}", lambda: self._deliver(mail))
        except NoAnswer as nothing:
            raise Unsettled(str(nothing)) from nothing

    def _deliver(self, mail: EmailMessage) -> None:
        self.mails[mail["Message-ID"]] += 1


def _outcome(charge: Charge) -> Charged | Declined:
    return Charged(Decimal(charge.amount)) if charge.state == "charged" else Declined(charge.reason or charge.state)


def _answer(answer: "asyncio.Future[T]", result: T) -> None:
    loop = answer.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(lambda: None if answer.done() else answer.set_result(result))
