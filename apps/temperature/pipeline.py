"""The pipeline: one service that keeps each valid reading in an analytics table, at least once and idempotently."""

from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, DateTime, Float, Integer, MetaData, String, Table

from millstream import Envelope, Service
from millstream.runtime.sql.tables import insert_into
from temperature.contracts import TemperatureReported
from temperature.validation import validate

metadata = MetaData()

readings = Table(
    "readings",
    metadata,
    # Where the reading came from: a redelivery meets its own row.
    Column("partition", Integer, primary_key=True),
    Column("offset", Integer, primary_key=True),
    Column("device_id", String(40), nullable=False, index=True),
    Column("at", DateTime(timezone=True), nullable=False),
    Column("celsius", Float, nullable=False),
    Column("fahrenheit", Float, nullable=False),
)

analytics = Service("analytics", delivery="at_least_once", group="analytics-group", tables=metadata)


@analytics.on(TemperatureReported)
def record(report: TemperatureReported, envelope: Envelope, db: Connection) -> None:
    """Keeps one measurement; a malformed report becomes a dead letter with its reason."""
    measurement = validate(report)
    db.execute(
        _insert(db.dialect.name),
        {
            "partition": envelope.partition,
            "offset": envelope.offset,
            "device_id": measurement.device_id,
            "at": measurement.at,
            "celsius": float(measurement.celsius),
            "fahrenheit": float(measurement.fahrenheit),
        },
    )


@cache
def _insert(dialect: str) -> Any:
    return insert_into(readings, dialect).on_conflict_do_nothing()
