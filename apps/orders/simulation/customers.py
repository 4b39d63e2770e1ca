"""Customers and suppliers of a world, and the web processes that write down what they ask for.

They do not give up: what was not answered is asked for again, under the same id.
"""

import asyncio
import threading
from decimal import Decimal
from random import Random
from typing import NamedTuple
from uuid import UUID

from millstream.declare import Contract, Service
from millstream.errors import Fenced, MillstreamError
from millstream.http.publisher import Publisher
from millstream.testing.simulation import Services, World
from orders.contracts import CancelOrder, MailDue, OrderCreated, OrderLine, RequestReturn, StockProduct

PRODUCTS = 20
DELIVERED = 0.8
"""Of each product at the beginning, for each order: not enough for everybody, and enough that the goods of a return
that is refused can be withdrawn again; else it waits for a person, and does not end."""
SECONDS = 2.0
"""In which all that is wanted is asked for."""


class Request(NamedTuple):
    """What is asked for at that second, under an id."""

    at: float
    id: str
    events: tuple[Contract, ...]


class Customers:
    """What all of them ask for, and which requests were answered. `orders` is how many orders they place."""

    def __init__(self, world: World, services: Services, web: Service, orders: int, delivered: float) -> None:
        self._world, self._services, self._web = world, services, web
        self.requests = planned(world.random, orders, delivered)
        self._open = {request.id: request for request in self.requests}

    @property
    def done(self) -> bool:
        """Whether everything was written down."""
        return not self._open

    def serve(self) -> None:
        """The main function of a web process."""
        settings = self._services.settings()
        kafka = self._world.kafka(settings, "web")
        publisher = Publisher(self._web, self._services.contracts, kafka, settings)
        threading.Thread(target=publisher.run, args=(threading.Event(),), name="publisher").start()
        asyncio.run(self._ask_for_all(publisher))

    async def _ask_for_all(self, publisher: Publisher) -> None:
        async with asyncio.TaskGroup() as group:
            for request in list(self._open.values()):
                group.create_task(self._ask(publisher, request))

    async def _ask(self, publisher: Publisher, request: Request) -> None:
        await asyncio.sleep(max(0.0, request.at - self._world.now / 1_000_000))
        while True:
            try:
                await publisher.publish(*request.events, id=request.id)
            except Fenced:
                raise
            except MillstreamError:
                await asyncio.sleep(0.5)
            else:
                del self._open[request.id]
                return


def planned(random: Random, orders: int, delivered: float) -> list[Request]:
    """Everything that will be asked for."""
    requests = [_delivery(random, number, int(delivered * orders)) for number in range(PRODUCTS)]
    for _ in range(orders):
        order = _order(random)
        requests.append(order)
        if random.random() < 0.15:
            cancel = CancelOrder(order_id=order.id)
            requests.append(Request(order.at + random.uniform(0, 3), _id(random), (cancel,)))
    requests += [_return(random) for _ in range(orders // 10)]
    return requests


def _delivery(random: Random, number: int, quantity: int) -> Request:
    delivery_id, product = _id(random), f"p-{number}"
    delivery = StockProduct(product=product, name=product, quantity=quantity, delivery_id=delivery_id)
    return Request(0.0, delivery_id, (delivery,))


def _order(random: Random) -> Request:
    id, lines, customer = _id(random), _lines(random), f"c-{random.randrange(50)}"
    total = _total(lines)
    country = "Atlantis" if random.random() < 0.05 else "Norway"
    created = OrderCreated(order_id=id, customer_id=customer, country=country, lines=lines, total=total)
    mail = MailDue(about=id, kind="created", customer_id=customer, amount=total)
    return Request(random.uniform(0.5, SECONDS), id, (created, mail))


def _return(random: Random) -> Request:
    id, lines = _id(random), _lines(random)
    command = RequestReturn(return_id=id, customer_id=f"c-{random.randrange(50)}", lines=lines, refund=_total(lines))
    return Request(random.uniform(0.5, SECONDS), id, (command,))


def _lines(random: Random) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(
            product=f"p-{random.randrange(PRODUCTS)}",
            quantity=random.randint(1, 10),
            unit_price=Decimal(random.randint(1, 10_000)).scaleb(-2),
        )
        for _ in range(random.randint(1, 4))
    )


def _total(lines: tuple[OrderLine, ...]) -> Decimal:
    return sum((line.quantity * line.unit_price for line in lines), Decimal("0.0000"))


def _id(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
