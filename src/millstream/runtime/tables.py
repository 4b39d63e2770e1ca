"""Millstream's own tables in a service's database."""

from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, Table, Text

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

identity_table = Table(
    "millstream_identity",
    own_tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("identity", Text, nullable=False),
)
