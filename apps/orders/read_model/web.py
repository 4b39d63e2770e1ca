"""Queries over HTTP: rows, histories, and one order's progress as it happens."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response

from millstream.http import Problem, Update, Web, install_problems
from orders.answers import as_json
from orders.read_model.history import History
from orders.read_model.queries import Rows
from orders.read_model.service import orders_view

ENDED = ("completed", "cancelled")

Id = Annotated[str, Query(max_length=64)]
Ids = Annotated[list[Id], Query(alias="id", max_length=1_000, description="Only these")]
Customer = Annotated[str | None, Query(max_length=100)]
Status = Literal["open", "confirmed", "completed", "cancelled", "refused"] | None
After = Annotated[str | None, Query(max_length=64, description="The last id of the page before")]
Limit = Annotated[int, Query(ge=1, le=1_000)]


def app(web: Web) -> FastAPI:
    """Orders, returns and their histories."""
    app = FastAPI(title="Orders: queries", version="1", description="Answers lag the commands by some milliseconds.")
    install_problems(app)
    rows, history = Rows(web.engine), History(web.engine)
    orders_view.listen(lambda changed: web.progress.notify([row.key for row in changed]))

    def found(kind: str, id: str) -> dict[str, Any]:
        row = rows.find(id)
        if row is None or row["kind"] != kind:
            raise Problem(404, f"There is no such {kind}. If you have just made it, ask again in a moment.")
        return row

    async def since(id: str, version: int) -> Sequence[Update]:
        row = await asyncio.to_thread(rows.find, id)
        if row is None or row["version"] <= version:
            return ()
        return [Update(row["version"], row, last=row["status"] in ENDED)]

    @app.get("/orders")
    def orders(
        ids: Ids = [],  # noqa: B006 FastAPI copies it
        customer: Customer = None,
        status: Status = None,
        after: After = None,
        limit: Limit = 50,
    ) -> Response:
        """Orders, the newest first."""
        found = rows.page("order", ids=ids, customer=customer, status=status, after=after, limit=limit)
        return as_json({"orders": found})

    @app.get("/orders/{order_id}")
    def order(order_id: str) -> dict[str, Any]:
        """One order as far as it has come."""
        return found("order", order_id)

    @app.get("/orders/{order_id}/events")
    def order_events(order_id: str) -> Response:
        """Everything that happened to an order, with the content of each event."""
        found("order", order_id)
        return as_json({"events": history.of(order_id)})

    @app.get("/orders/{order_id}/progress")
    async def progress(order_id: str, request: Request) -> Response:
        """Server-sent events: the order at each change, until it has ended."""
        await asyncio.to_thread(found, "order", order_id)
        return await web.progress.stream(request, order_id, lambda version: since(order_id, version))

    @app.get("/returns")
    def returns(
        ids: Ids = [],  # noqa: B006 FastAPI copies it
        customer: Customer = None,
        status: Status = None,
        after: After = None,
        limit: Limit = 50,
    ) -> Response:
        """Returns, the newest first."""
        found = rows.page("return", ids=ids, customer=customer, status=status, after=after, limit=limit)
        return as_json({"returns": found})

    @app.get("/returns/{return_id}")
    def return_(return_id: str) -> dict[str, Any]:
        """One return as far as it has come."""
        return found("return", return_id)

    @app.get("/returns/{return_id}/events")
    def return_events(return_id: str) -> Response:
        """Everything that happened to a return, with the content of each event."""
        found("return", return_id)
        return as_json({"events": history.of(return_id)})

    @app.get("/events")
    def events_of_type(
        type: Annotated[str, Query(max_length=80)],
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000,
    ) -> Response:
        """All events of one type, the oldest first: pass the last `seq` as `after` to get the next page."""
        return as_json({"events": history.of_type(type, after, limit)})

    return app
