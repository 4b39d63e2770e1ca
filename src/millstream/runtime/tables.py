"""Millstream's own tables in a service's database."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

own_tables = MetaData()

positions_table = Table(
    "millstream_positions",
    own_tables,
    Column("group_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
)

outbox_table = Table(
    "millstream_outbox",
    own_tables,
    # SQLite counts an INTEGER key up by itself, and AUTOINCREMENT is what never reuses one.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("service", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
    sqlite_autoincrement=True,
)

kept_table = Table(
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
    Column("id", Text, primary_key=True),
    Column("until", Float, nullable=False),
    Index("millstream_inbox_until", "group_id", "until"),
)

identity_table = Table(
    "millstream_identity",
    own_tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
)
