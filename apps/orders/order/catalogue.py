"""Which products can be ordered: a table of the order service's own, kept up by what inventory says."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, select

from millstream.runtime.sql.database import READ_ONLY
from millstream.runtime.sql.tables import insert_into
from orders.contracts import ProductStocked

metadata = MetaData()

catalogue = Table(
    "catalogue",
    metadata,
    Column("product", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
)


def keep(stocked: ProductStocked, db: Connection) -> None:
    """A product that is in stock for the first time, or under a new name."""
    db.execute(_upsert(db.dialect.name), {"product": stocked.product, "name": stocked.name})


class Known:
    """The catalogue as the web asks for it: what was seen once is remembered, and what is not known is looked up.

    No product is ever taken out of the catalogue, so what is remembered stays true.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**READ_ONLY)
        self._seen: set[str] = set()

    def unknown(self, wanted: Iterable[str]) -> set[str]:
        """Those that cannot be ordered. Reads the database where one was never seen."""
        missing = set(wanted) - self._seen
        if missing:
            with self._engine.connect() as db:
                found = db.scalars(select(catalogue.c.product).where(catalogue.c.product.in_(missing)))
                self._seen.update(found)
        return missing - self._seen

    def seen(self, wanted: Iterable[str]) -> bool:
        """Whether all can be ordered, as far as is known without the database."""
        return self._seen.issuperset(wanted)

    def listing(self, after: str, limit: int) -> list[dict[str, str]]:
        """Products and names, in the order of the product, those after `after`."""
        page = select(catalogue).where(catalogue.c.product > after).order_by(catalogue.c.product).limit(limit)
        with self._engine.connect() as db:
            return [{"product": row.product, "name": row.name} for row in db.execute(page)]


@cache
def _upsert(dialect: str) -> Any:
    insert = insert_into(catalogue, dialect)
    return insert.on_conflict_do_update(index_elements=["product"], set_={"name": insert.excluded.name})
