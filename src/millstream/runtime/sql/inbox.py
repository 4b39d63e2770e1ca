"""The inbox of SQL handlers: ids that were handled, in the transaction that handled them."""

import time
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, tuple_

from millstream.runtime.records.inbound import EventMetadata
from millstream.runtime.sql.tables import inbox_table, insert_into
from millstream.runtime.task.invoke import HandlerContext, Invoker, digest_of, done_within
from millstream.runtime.task.metrics import WorkerMetrics

TIDY_ROWS = 1_000
"""Ids that are deleted at once."""

_DIGEST = select(inbox_table.c.digest).where(
    inbox_table.c.group_id == bindparam("of_group"),
    inbox_table.c.handler == bindparam("of_handler"),
    inbox_table.c.identity == bindparam("of_identity"),
)


def once(call: Invoker, group: str, handler: str, window: float, metrics: WorkerMetrics) -> Invoker:
    """Return an invoker that calls once for each id within `window` seconds; of two at once one waits for the other."""

    def first(event: Any, meta: EventMetadata, context: HandlerContext) -> Any:
        now, identity, digest = time.time(), meta.inbox_key(), digest_of(meta.message.value())
        new = insert_into(inbox_table, context.connection.dialect.name).values(
            group_id=group, handler=handler, identity=identity, digest=digest, until=now + window
        )
        keys = [column.name for column in inbox_table.primary_key]
        taken = new.on_conflict_do_update(
            index_elements=keys,
            set_={"until": new.excluded.until, "digest": new.excluded.digest},
            where=inbox_table.c.until <= now,
        ).returning(inbox_table.c.identity)
        if context.connection.execute(taken).first() is None:
            before = context.connection.scalar(
                _DIGEST, {"of_group": group, "of_handler": handler, "of_identity": identity}
            )
            metrics.duplicate(handler, meta.message, same=before == digest)
            return None
        return done_within(call(event, meta, context))

    return first


def forget_old_ids(connection: Connection, group: str) -> bool:
    """Delete some of the ids whose window has passed. Return whether there may be more."""
    row = inbox_table.c
    keys = (row.group_id, row.handler, row.identity)
    old = select(*keys).where(and_(row.group_id == group, row.until <= time.time())).limit(TIDY_ROWS)
    return connection.execute(inbox_table.delete().where(tuple_(*keys).in_(old))).rowcount == TIDY_ROWS
