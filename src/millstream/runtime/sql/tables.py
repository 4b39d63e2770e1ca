"""Millstream's own tables in a service's database."""

from importlib import import_module
from typing import Any

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

own_tables = MetaData()

positions_table = Table(
    "millstream_positions",
    own_tables,
    Column("group_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    # Kafka's: a topic that was deleted and created again has another. Empty for what is no topic of Kafka's.
    Column("topic_id", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

outbox_table = Table(
    "millstream_outbox",
    own_tables,
    # SQLite counts an INTEGER key up by itself, and AUTOINCREMENT is what never reuses one.
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    # The names that Debezium's outbox event router expects, so that it can take the relay's place.
    Column("id", Text, nullable=False),
    Column("aggregatetype", Text, nullable=False),
    Column("aggregateid", LargeBinary),
    Column("type", Text, nullable=False),
    Column("payload", LargeBinary),
    # An event's other headers, a column each: the router makes headers of columns.
    Column("correlationid", Text),
    Column("source", Text),
    Column("specversion", Text),
    Column("contenttype", Text),
    Column("time", Text),
    Column("causationid", Text),
    Column("traceparent", Text),
    # All headers of a record whose are not those of an event, such as a dead letter's.
    Column("headers", LargeBinary),
    Column("service", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    sqlite_autoincrement=True,
)

outbox_refused_table = Table(
    "millstream_outbox_refused",
    own_tables,
    # A row of the outbox as it was, and why it could not be published.
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    *(Column(column.name, column.type, nullable=column.nullable) for column in outbox_table.c if column.name != "seq"),
    Column("reason", Text, nullable=False),
)

internal_stores_table = Table(
    "millstream_kept",
    own_tables,
    Column("group_id", Text, primary_key=True),
    Column("store", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

inbox_table = Table(
    "millstream_inbox",
    own_tables,
    Column("group_id", Text, primary_key=True),
    Column("handler", Text, primary_key=True),
    # The source and the id of the event, or what its topic declares.
    Column("identity", Text, primary_key=True),
    # Of the record that was handled: another one of that identity is worth a warning.
    Column("digest", LargeBinary, nullable=False),
    Column("until", Float, nullable=False),
    Index("millstream_inbox_until", "group_id", "until"),
)

identity_table = Table(
    "millstream_identity",
    own_tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
)


def insert_into(table: Table, dialect: str) -> Any:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`.

    - `dialect`: `"sqlite"` or `"postgresql"`, the `dialect.name` of an engine or connection. Only this one is loaded,
      because each takes 2 MB.

    >>> from sqlalchemy import Column, Integer, MetaData
    >>> seats = Table("seats", MetaData(), Column("number", Integer, primary_key=True))
    >>> print(insert_into(seats, "sqlite").on_conflict_do_nothing())
    INSERT INTO seats (number) VALUES (?) ON CONFLICT DO NOTHING
    """
    return import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
