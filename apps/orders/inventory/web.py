"""What there is: for whoever reconciles or refills."""

from typing import Annotated

from fastapi import FastAPI, Query, Response
from sqlalchemy import select

from millstream.http import Web, install_problems
from millstream.runtime.sql.database import READ_ONLY
from orders.answers import as_json
from orders.inventory.stock import products


def app(web: Web) -> FastAPI:
    """The stock, read-only."""
    app = FastAPI(title="Orders: stock", version="1")
    install_problems(app)
    engine = web.engine.execution_options(**READ_ONLY)

    @app.get("/stock")
    def stock(
        after: Annotated[str, Query(max_length=40)] = "", limit: Annotated[int, Query(ge=1, le=5_000)] = 1_000
    ) -> Response:
        """Products in pages: pass the last one as `after`. `reserved` is the part of `on_hand` that is promised."""
        page = select(products).where(products.c.product > after).order_by(products.c.product).limit(limit)
        with engine.connect() as db:
            found = [dict(row) for row in db.execute(page).mappings()]
        return as_json({"stock": found})

    return app
