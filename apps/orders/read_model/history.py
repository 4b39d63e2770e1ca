"""The history: every event about an order or return, once, as it came."""

from functools import cache
from typing import Any

import msgspec
from sqlalchemy import Column, Connection, Engine, Index, Integer, MetaData, String, Table, Text, select

from millstream import Envelope
from millstream.runtime.sql.database import READ_ONLY
from millstream.runtime.sql.tables import insert_into
from orders.contracts import OrderEvent, ReturnEvent

metadata = MetaData()

history = Table(
    "history",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    # A request that is repeated after an unknown outcome writes the same event twice, under one id.
    Column("event_id", String(64), nullable=False, unique=True),
    Column("about", String(64), nullable=False),
    Column("type", String(80), nullable=False),
    Column("topic", String(80), nullable=False),
    Column("at", String(40), nullable=False),  # ISO 8601 in UTC, so that its order is that of time
    Column("body", Text, nullable=False),
    Index("history_by_order", "about", "seq"),
    Index("history_by_type", "type", "seq"),
)


@cache
def _insert(dialect: str) -> Any:
    return insert_into(history, dialect).on_conflict_do_nothing(index_elements=["event_id"])


def keep(event: OrderEvent | ReturnEvent, envelope: Envelope, db: Connection) -> None:
    """Adds one event."""
    db.execute(
        _insert(db.dialect.name),
        {
            "event_id": envelope.id,
            "about": event.order_id if isinstance(event, OrderEvent) else event.return_id,
            "type": type(event).__name__,
            "topic": envelope.topic,
            "at": envelope.time.isoformat(timespec="microseconds"),
            "body": msgspec.json.encode(event).decode(),
        },
    )


class History:
    """The history as queries see it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**READ_ONLY)

    def of(self, about: str) -> list[dict[str, Any]]:
        """Every event about one order or return, the oldest first, with its content."""
        columns = history.c
        asked = (
            select(columns.seq, columns.event_id, columns.type, columns.topic, columns.at, columns.body)
            .where(columns.about == about)
            .order_by(columns.at, columns.seq)
        )
        with self._engine.connect() as db:
            return [dict(row) | {"body": msgspec.Raw(row["body"].encode())} for row in db.execute(asked).mappings()]

    def of_type(self, type: str, after: int, limit: int) -> list[dict[str, Any]]:
        """Events of one type in the order in which they were kept, those after `after`, without their content."""
        columns = history.c
        asked = (
            select(columns.seq, columns.event_id, columns.about, columns.at)
            .where(columns.type == type, columns.seq > after)
            .order_by(columns.seq)
            .limit(limit)
        )
        with self._engine.connect() as db:
            return [dict(row) for row in db.execute(asked).mappings()]
