"""Notes on how to read a field of others whose schema does not say what its numbers or texts mean."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["days", "seconds", "milliseconds", "microseconds", "nanoseconds"]


@dataclass(frozen=True, slots=True)
class FromNumber:
    """The field may be a plain number: so many units since 1970 (`datetime`, `date`), since midnight (`time`), or in
    all (`timedelta`).

    It says how records of others are read. What we write ourselves stays as it is without it. A number that the
    writer's schema explains is read as that schema says. Nanoseconds are cut to microseconds.

    >>> from datetime import datetime, timedelta
    >>> from typing import Annotated
    >>> SentAt = Annotated[datetime, EpochMillis]
    >>> Took = Annotated[timedelta, FromNumber("seconds")]
    """

    unit: Unit


EpochSeconds = FromNumber("seconds")
"""`Annotated[datetime, EpochSeconds]`: a plain number is in seconds since 1970."""
EpochMillis = FromNumber("milliseconds")
"""`Annotated[datetime, EpochMillis]`: a plain number is in milliseconds since 1970."""
EpochMicros = FromNumber("microseconds")
"""`Annotated[datetime, EpochMicros]`: a plain number is in microseconds since 1970."""


@dataclass(frozen=True, slots=True, repr=False)
class _FromText:
    def __repr__(self) -> str:
        return "FromText"


FromText = _FromText()
"""`Annotated[Decimal, Scale(18, 4), FromText]`: the field may be text in Avro or Protobuf: digits of a decimal, the
symbol of an enumeration, ISO 8601 of a `datetime`, `date`, `time` or `timedelta`."""


@dataclass(frozen=True, slots=True, repr=False)
class _LocalAsUtc:
    def __repr__(self) -> str:
        return "LocalAsUtc"


LocalAsUtc = _LocalAsUtc()
"""`Annotated[datetime, LocalAsUtc]`: a time without a zone, as in Avro's local timestamps, is in UTC."""

Foreign = FromNumber | _FromText | _LocalAsUtc
"""Any of these notes."""
