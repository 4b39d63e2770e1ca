"""The outbox: records that commit with a database transaction and are published after it, in the order of commits."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, bindparam, func, literal, select, text

from millstream.kafka.port import Headers
from millstream.runtime.records.dead_letter import Record
from millstream.runtime.sql.tables import identity_table, insert_into, outbox_refused_table, outbox_table

OUTBOX_LOCK = 0x6D696C6C_00000002
"""PostgreSQL advisory lock from a transaction's first outbox row to its commit."""

_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode

_row = outbox_table.c
_HEADERS = {
    "ce_id": _row.id,
    "correlationid": _row.correlationid,
    "ce_type": _row.type,
    "ce_source": _row.source,
    "ce_specversion": _row.specversion,
    "content-type": _row.contenttype,
    "ce_time": _row.time,
    "causationid": _row.causationid,
    "traceparent": _row.traceparent,
}
"""The headers of an event, in the order that they are written, and their columns."""
_OPTIONAL = ("causationid", "traceparent")
_EVENTS = {
    tuple(name for name in _HEADERS if name not in left_out)
    for left_out in ((), ("causationid",), ("traceparent",), _OPTIONAL)
}
# Made once: an idle relay asks this twenty times a second.
_ROWS = (
    select(_row.seq, _row.aggregatetype, _row.aggregateid, _row.payload, _row.headers, *_HEADERS.values())
    .where(_row.seq >= bindparam("first"), _row.service == bindparam("of_service"))
    .order_by(_row.seq)
    .limit(bindparam("most"))
)
_NEWEST = {
    "sqlite": text("SELECT seq FROM sqlite_sequence WHERE name = 'millstream_outbox'"),
    "postgresql": text("SELECT pg_sequence_last_value(pg_get_serial_sequence('millstream_outbox', 'seq')::regclass)"),
}


class OutboxRow(NamedTuple):
    """A record that waits to be published. `headers` is None where the row's cannot be decoded."""

    seq: int
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers | None


class Outbox:
    """The rows of one service in the outbox of its database.

    with engine.begin() as connection:
        outbox.append(connection, [("orders.events", b"o-1", b"...", [])])
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._mine = outbox_table.c.service == service

    def append(self, connection: Connection, records: Sequence[Record]) -> None:
        """Add records; call it last, right before the commit.

        On PostgreSQL numbers are drawn before the commit, so a transaction with lower ones could become visible after
        one with higher ones was published, and would be skipped. Writers therefore hold one lock from here to their
        commit. It is taken after every other lock: held briefly, and never part of a deadlock.
        """
        if not records:
            return
        self._lock(connection)
        now = time.time()
        connection.execute(
            outbox_table.insert(),
            [
                {
                    "service": self._service,
                    "aggregatetype": topic,
                    "aggregateid": key,
                    "payload": value,
                    "created_at": now,
                    **_columns(topic, headers or []),
                }
                for topic, key, value, headers in records
            ],
        )

    def rows_from(self, connection: Connection, first: int, limit: int) -> list[OutboxRow]:
        """Return up to `limit` rows from number `first` on, in the order of commits."""
        found = connection.execute(_ROWS, {"first": first, "of_service": self._service, "most": limit})
        rows: list[tuple[Any, ...]] = [tuple(row) for row in found]
        return [
            OutboxRow(seq, topic, key, value, _headers(headers, named))
            for seq, topic, key, value, headers, *named in rows
        ]

    def waiting(self, connection: Connection, first: int) -> tuple[int, float]:
        """Return the number of rows from number `first` on, and the seconds that the oldest of them has waited."""
        count, oldest = connection.execute(
            select(func.count(), func.min(outbox_table.c.created_at)).where(outbox_table.c.seq >= first, self._mine)
        ).one()
        return count, max(0.0, time.time() - oldest) if oldest is not None else 0.0

    def newest(self, connection: Connection) -> int:
        """Return the highest number that any row of this table ever had, of whichever service; 0 for none."""
        return connection.execute(_NEWEST[connection.dialect.name]).scalar() or 0

    def refuse(self, connection: Connection, seq: int, reason: str) -> None:
        """Copy a row that cannot be published, with all of its columns, to the table of refused rows."""
        self._forget_refused(connection, outbox_refused_table.c.seq == seq)
        columns = [column.name for column in outbox_table.c]
        row = select(*outbox_table.c, literal(reason)).where(outbox_table.c.seq == seq, self._mine)
        connection.execute(outbox_refused_table.insert().from_select([*columns, "reason"], row))

    def refused(self, connection: Connection) -> int:
        """Return how many rows are refused."""
        mine = outbox_refused_table.c.service == self._service
        return connection.execute(select(func.count()).select_from(outbox_refused_table).where(mine)).scalar_one()

    def put_back(self, connection: Connection, before: int) -> int:
        """Append the refused rows to the outbox again, and return how many; call it right before the commit.

        - `before`: the first number that is not published; refused rows from there on are still in the outbox.
        """
        self._forget_refused(connection, outbox_refused_table.c.seq >= before)
        mine = outbox_refused_table.c.service == self._service
        found = select(outbox_refused_table.c.seq).where(mine).order_by(outbox_refused_table.c.seq)
        seqs = list(connection.execute(found).scalars())
        if not seqs:
            return 0
        self._lock(connection)
        columns = [column.name for column in outbox_table.c if column.name != "seq"]
        for seq in seqs:
            row = select(*(outbox_refused_table.c[name] for name in columns)).where(outbox_refused_table.c.seq == seq)
            connection.execute(outbox_table.insert().from_select(columns, row, include_defaults=False))
        self._forget_refused(connection, outbox_refused_table.c.seq.in_(seqs))
        return len(seqs)

    def _forget_refused(self, connection: Connection, which: ColumnElement[bool]) -> None:
        connection.execute(outbox_refused_table.delete().where(which, outbox_refused_table.c.service == self._service))

    def _lock(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": OUTBOX_LOCK})

    def delete_before(self, connection: Connection, first: int) -> int:
        """Delete the rows with numbers below `first`, which are published, and return how many."""
        return connection.execute(outbox_table.delete().where(outbox_table.c.seq < first, self._mine)).rowcount


def _columns(topic: str, headers: Headers) -> dict[str, str | bytes | None]:
    """The headers of a record as columns; in one blob where they are not those of an event."""
    empty = dict.fromkeys((column.name for column in _HEADERS.values()), None)
    if tuple(name for name, _ in headers) in _EVENTS:
        # A header without a value cannot be told from one that is not there by a column.
        values = [value for _, value in headers if value is not None and value.isascii()]
        if len(values) == len(headers):
            texts = {_HEADERS[name].name: value.decode() for (name, _), value in zip(headers, values, strict=True)}
            return {**empty, **texts, "headers": None}
    found = dict(headers)
    return {
        **empty,
        "id": _text(found.get("ce_id")) or str(uuid4()),
        "type": _text(found.get("ce_type")) or topic,
        "headers": _encode_headers(headers),
    }


def _headers(blob: bytes | None, named: Sequence[str | None]) -> Headers | None:
    if blob is not None:
        try:
            return _decode_headers(blob)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # the relay refuses the row, and logs it
            return None
    return [(name, value.encode()) for name, value in zip(_HEADERS, named, strict=True) if value is not None]


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace").replace("\0", "")


def identity(engine: Engine) -> str:
    """Return what tells this database from a new one in its place, whose outbox counts from 1 again."""
    first = insert_into(identity_table, engine.dialect.name).values(id=1, identity=uuid4().hex)
    with engine.begin() as connection:
        connection.execute(first.on_conflict_do_nothing())
        return connection.execute(select(identity_table.c.identity)).scalar_one()
