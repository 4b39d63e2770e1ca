"""The order service's HTTP interface: what customers ask for becomes events and commands, or a problem."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import FastAPI, Header, Query, Request, Response

from millstream.contracts import edge_id
from millstream.http import Conflict, Problem, Repeat, Web, body_hash, install_problems, json_pointer
from orders.answers import as_json
from orders.contracts import CancelOrder, MailDue, OrderCreated, OrderLine, RequestReturn, StockProduct
from orders.order.catalogue import Known
from orders.order.requests import MAX_MONEY, Accepted, Deliveries, Goods, NewOrder, NewReturn

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Repeat the request with the same key, and it is carried out once",
    ),
]
Publish = Callable[[str], Awaitable[Any]]

MAX_NAMED: Final = 20
"""How many unknown products one answer names."""


def app(web: Web) -> FastAPI:
    """Orders, cancels, returns and deliveries."""
    app = FastAPI(title="Orders: commands", version="1", description="Every 202 is written down before it is answered.")
    install_problems(app)
    publisher, keys, known = web.publisher, web.idempotency, Known(web.engine)

    async def once(request: Request, key: str | None, publish: Publish) -> str:
        """Publishes under a new id, or under the one that this key got before; answers the id."""
        if key is None:
            made = edge_id()
            await publish(made)
            return made
        match await keys.reserve(key, body_hash(request.url.path, await request.body()), edge_id):
            case Conflict():
                raise Problem(409, "This Idempotency-Key was used with another body: take a new key.")
            case Repeat(id=made, done=True):
                return made
            case reserved:
                made = reserved.id
        await publish(made)
        keys.done(key)
        return made

    async def check(goods: Goods) -> None:
        if goods.total > MAX_MONEY:
            raise _invalid([("lines",)], f"All lines together may cost {MAX_MONEY} at most")
        wanted = {line.product for line in goods.lines}
        if known.seen(wanted) or not (unknown := await asyncio.to_thread(known.unknown, wanted)):
            return
        places = [("lines", at, "product") for at, line in enumerate(goods.lines) if line.product in unknown]
        raise _invalid(places, "There is no such product")

    @app.post("/orders", status_code=202)
    async def create_order(
        order: NewOrder, request: Request, response: Response, idempotency_key: IdempotencyKey = None
    ) -> Accepted:
        """Places an order. Whether it can be delivered shows at its `Location`."""
        await check(order)
        total = order.total

        async def publish(order_id: str) -> None:
            created = OrderCreated(
                order_id=order_id,
                customer_id=order.customer,
                country=order.country,
                reference=order.reference,
                lines=_lines(order),
                total=total,
            )
            mail = MailDue(
                about=order_id, kind="created", customer_id=order.customer, reference=order.reference, amount=total
            )
            await publisher.publish(created, mail, id=order_id)

        order_id = await once(request, idempotency_key, publish)
        response.headers["Location"] = f"/orders/{order_id}"
        return Accepted(id=order_id, total=total)

    @app.post("/orders/{order_id}/cancel", status_code=202)
    async def cancel_order(order_id: UUID, response: Response) -> dict[str, str]:
        """Asks for an order to be cancelled. Refused once it is paid: look at its `Location`."""
        await publisher.publish(CancelOrder(order_id=str(order_id)))
        response.headers["Location"] = f"/orders/{order_id}"
        return {"id": str(order_id)}

    @app.post("/returns", status_code=202)
    async def request_return(
        goods: NewReturn, request: Request, response: Response, idempotency_key: IdempotencyKey = None
    ) -> Accepted:
        """Sends goods back and asks for their price. Accepted as goodwill: no order has to be named."""
        await check(goods)
        total = goods.total

        async def publish(return_id: str) -> None:
            command = RequestReturn(
                return_id=return_id,
                customer_id=goods.customer,
                reference=goods.reference,
                lines=_lines(goods),
                refund=total,
            )
            await publisher.publish(command, id=return_id)

        return_id = await once(request, idempotency_key, publish)
        response.headers["Location"] = f"/returns/{return_id}"
        return Accepted(id=return_id, total=total)

    @app.put("/products", status_code=202)
    async def stock_products(
        deliveries: Deliveries, request: Request, idempotency_key: IdempotencyKey = None
    ) -> dict[str, str]:
        """Goods arrived in the warehouse. A product that is new can be ordered a moment later."""

        async def publish(delivery_id: str) -> None:
            first, *more = (
                StockProduct(product=goods.product, name=goods.name, quantity=goods.quantity, delivery_id=delivery_id)
                for goods in deliveries.products
            )
            await publisher.publish(first, *more, id=delivery_id)

        return {"id": await once(request, idempotency_key, publish)}

    @app.get("/products")
    def products(
        after: Annotated[str, Query(max_length=40)] = "", limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000
    ) -> Response:
        """What can be ordered, in pages: pass the last product as `after` to get the next one."""
        return as_json({"products": known.listing(after, limit)})

    return app


def _lines(goods: Goods) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(product=line.product, quantity=line.quantity, unit_price=line.unit_price) for line in goods.lines
    )


def _invalid(places: list[tuple[str | int, ...]], detail: str) -> Problem:
    pointers = [json_pointer(place) for place in places[:MAX_NAMED]]
    more = f" and {len(places) - MAX_NAMED} more" if len(places) > MAX_NAMED else ""
    return Problem(
        422,
        f"The request does not fit: see {', '.join(pointers)}{more}.",
        title="Invalid request",
        errors=[{"pointer": pointer, "detail": detail} for pointer in pointers],
    )
