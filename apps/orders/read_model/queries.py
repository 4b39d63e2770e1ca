"""The rows in the read model's database: kept by the view's sink, asked for by the web."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Engine, Index, String, Table, Text, select

from millstream.runtime.sql.database import READ_ONLY
from orders.read_model.history import metadata
from orders.read_model.rows import OrderRow

# What is asked by has a column; the whole row is kept as it is answered.
rows = Table(
    "order_rows",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("status", String(10), nullable=False),
    Column("customer", String(100)),
    Column("row", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Index("order_rows_by_status", "kind", "status", "id"),
    Index("order_rows_by_customer", "kind", "customer", "id"),
)


def columns(row: OrderRow) -> Mapping[str, Any]:
    """The columns that a row of the view goes into."""
    return {
        "kind": row.kind,
        "status": row.status,
        "customer": row.customer,
        "row": msgspec.json.encode(row).decode(),
    }


class Rows:
    """The rows as queries see them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**READ_ONLY)

    def find(self, id: str) -> dict[str, Any] | None:
        """One row, with its version, which grows with every change."""
        with self._engine.connect() as db:
            found = db.execute(select(rows.c.row, rows.c.version).where(rows.c.id == id)).first()
        return None if found is None else msgspec.json.decode(found.row) | {"version": found.version}

    def page(
        self,
        kind: str,
        *,
        ids: Sequence[str] = (),
        customer: str | None = None,
        status: str | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[msgspec.Raw]:
        """Up to `limit` rows as JSON, the newest first, those after the id `after`; each condition narrows them."""
        asked = select(rows.c.row, rows.c.version).where(rows.c.kind == kind)
        if ids:
            asked = asked.where(rows.c.id.in_(ids))
        if customer is not None:
            asked = asked.where(rows.c.customer == customer)
        if status is not None:
            asked = asked.where(rows.c.status == status)
        if after is not None:
            asked = asked.where(rows.c.id < after)
        # Ids are UUIDs of version 7: their order is that of time.
        with self._engine.connect() as db:
            found = db.execute(asked.order_by(rows.c.id.desc()).limit(limit)).all()
        return [_raw(row, version) for row, version in found]


def _raw(row: str, version: int) -> msgspec.Raw:
    # Pages are large: a row goes out as it is kept, with its version as one more member.
    return msgspec.Raw(f'{row[:-1]},"version":{version}}}'.encode())
