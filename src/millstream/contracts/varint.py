"""Avro's numbers: zigzag varints, and days and microseconds since 1970 or midnight."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
MICROSECOND = timedelta(microseconds=1)


def long_bytes(number: int) -> bytes:
    """A whole number as Avro writes it. Raises `OverflowError` beyond 64 bits.

    >>> long_bytes(-65).hex()
    '8101'
    """
    if not -0x8000000000000000 <= number <= 0x7FFFFFFFFFFFFFFF:
        raise OverflowError(f"{number} does not fit 64 bits")
    rest = (number << 1) ^ (number >> 63)
    if 1 << 35 <= rest < 1 << 42:  # six bytes: most times in milliseconds
        return bytes(
            (
                rest & 127 | 128,
                rest >> 7 & 127 | 128,
                rest >> 14 & 127 | 128,
                rest >> 21 & 127 | 128,
                rest >> 28 & 127 | 128,
                rest >> 35,
            )
        )
    written = bytearray()
    while rest > 127:
        written.append(rest & 127 | 128)
        rest >>= 7
    written.append(rest)
    return bytes(written)


def read_long(data: Sequence[int], at: int) -> tuple[int, int]:
    """The number at `at` and where it ends. Raises `IndexError` at the end, `OverflowError` beyond 64 bits."""
    rest = data[at]
    at += 1
    if rest > 127:
        rest &= 127
        shift = 7
        while True:
            byte = data[at]
            at += 1
            rest |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise OverflowError("a number longer than 64 bits")
        if rest >> 64:
            raise OverflowError("a number longer than 64 bits")
    return (rest >> 1) ^ -(rest & 1), at


def micros_since_epoch(moment: datetime) -> int:
    """Raises `TypeError` for a datetime without a time zone."""
    return (moment - EPOCH) // MICROSECOND


def days_since_epoch(day: date) -> int:
    """Days since 1970-01-01; negative before."""
    return day.toordinal() - EPOCH_DAY


def micros_in(duration: timedelta) -> int:
    """All microseconds of a duration."""
    return duration // MICROSECOND


def micros_of_day(moment: time) -> int:
    """Microseconds since midnight. Raises `TypeError` for a time with a time zone."""
    if moment.tzinfo is not None:
        raise TypeError(f"{moment!r} has a time zone")
    return ((moment.hour * 60 + moment.minute) * 60 + moment.second) * 1_000_000 + moment.microsecond


def time_of_day(micros: int) -> time:
    """The time of so many microseconds since midnight. Raises `ValueError` beyond a day."""
    seconds, micros = divmod(micros, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return time(hour, minute, second, micros)
