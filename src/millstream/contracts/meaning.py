"""The meaning of a value in a foreign schema, beyond its bytes, and how it becomes what a class has.

The same bytes are a number, a moment in milliseconds or a duration. Avro says which by logical types, Kafka Connect and
Debezium by `connect.name` (https://debezium.io/documentation/reference/stable/connectors/postgresql.html, "Temporal
types"), our own schemas by `unit`. A field whose class wants another meaning than the schema states is refused; one
without any stated meaning is read as the class's notes say (`FromNumber`, `FromText`, `LocalAsUtc`).
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from millstream.contracts.varint import EPOCH, EPOCH_DAY, read_long, time_of_day
from millstream.declare.foreign import FromNumber, FromText, LocalAsUtc
from millstream.declare.shape import Decimals, Scalar, Symbols

Convert = Callable[[Any], Any]


class Meaning(NamedTuple):
    """`of` is what it stands for; `per_second` counts its units of time, `scale` digits after a decimal's point.

    `raw` is what it is without `connect.name`, which is a hint and no part of the type: a class may have that, too.
    """

    of: str
    per_second: int = 0
    scale: int = 0
    raw: str = ""


PER_SECOND = {"seconds": 1, "milliseconds": 1000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}
_MILLIS, _MICROS, _NANOS = 1000, 1_000_000, 1_000_000_000
_LOGICAL = {
    ("int", "date"): Meaning("date"),
    ("int", "time-millis"): Meaning("time", _MILLIS),
    ("long", "time-micros"): Meaning("time", _MICROS),
    ("string", "uuid"): Meaning("uuid"),
    ("bytes", "big-decimal"): Meaning("big-decimal"),
    **{
        ("long", f"{local}timestamp-{unit}"): Meaning("local" if local else "moment", per_second)
        for local in ("", "local-")
        for unit, per_second in (("millis", _MILLIS), ("micros", _MICROS), ("nanos", _NANOS))
    },
}
_CONNECT = {
    ("int", "io.debezium.time.Date"): Meaning("date"),
    ("int", "io.debezium.time.Time"): Meaning("time", _MILLIS),
    ("long", "io.debezium.time.MicroTime"): Meaning("time", _MICROS),
    ("long", "io.debezium.time.NanoTime"): Meaning("time", _NANOS),
    ("long", "io.debezium.time.Timestamp"): Meaning("moment", _MILLIS),
    ("long", "io.debezium.time.MicroTimestamp"): Meaning("moment", _MICROS),
    ("long", "io.debezium.time.NanoTimestamp"): Meaning("moment", _NANOS),
    ("long", "io.debezium.time.MicroDuration"): Meaning("duration", _MICROS),
    ("long", "io.debezium.time.NanoDuration"): Meaning("duration", _NANOS),
    ("string", "io.debezium.time.ZonedTimestamp"): Meaning("moment text"),
    ("string", "io.debezium.data.Enum"): Meaning("symbol text"),
    ("string", "io.debezium.data.Uuid"): Meaning("uuid"),
    ("record", "io.debezium.data.VariableScaleDecimal"): Meaning("scaled decimal"),
    ("int", "org.apache.kafka.connect.data.Date"): Meaning("date"),
    ("int", "org.apache.kafka.connect.data.Time"): Meaning("time", _MILLIS),
    ("long", "org.apache.kafka.connect.data.Timestamp"): Meaning("moment", _MILLIS),
}
_PLAIN = {"int": "number", "long": "number", "float": "real", "double": "real", "string": "text", "fixed": "bytes"}


def meaning_of(kind: str, schema: Any) -> Meaning:
    """The meaning of values of an Avro type; `kind` is its type, `schema` the dict that it is declared with, if any.

    >>> meaning_of("long", {"type": "long", "connect.name": "io.debezium.time.Timestamp"})
    Meaning(of='moment', per_second=1000, scale=0, raw='number')
    >>> meaning_of("long", "long")
    Meaning(of='number', per_second=0, scale=0, raw='')
    """
    plain = Meaning(_PLAIN.get(kind, kind))
    if not isinstance(schema, dict):
        return plain
    logical, connect = str(schema.get("logicalType")), str(schema.get("connect.name"))
    if logical == "decimal" and kind in ("bytes", "fixed"):
        scale = schema.get("scale", 0)
        return Meaning("decimal", scale=scale) if type(scale) is int and abs(scale) < 10_000 else plain
    if logical == "uuid" and kind == "fixed" and schema.get("size") == 16:
        return Meaning("uuid bytes")
    if logical == "duration" and kind == "fixed" and schema.get("size") == 12:
        return Meaning("months, days and milliseconds")
    if connect == "org.apache.kafka.connect.data.Decimal" and kind == "bytes":
        parameters = schema.get("connect.parameters")
        scale = str(parameters.get("scale", "") if isinstance(parameters, dict) else "")
        if scale.removeprefix("-").isascii() and scale.removeprefix("-").isdigit() and len(scale) < 5:
            return Meaning("decimal", scale=int(scale), raw="bytes")
    if kind == "long" and schema.get("unit") == "microseconds":
        return Meaning("duration", _MICROS)
    if (known := _LOGICAL.get((kind, logical))) is not None:
        return known
    hinted = _CONNECT.get((kind, connect))
    return plain if hinted is None else hinted._replace(raw=plain.of)


def told(kind: str, meaning: Meaning) -> str:
    """In words, for errors.

    >>> told("long", Meaning("moment", per_second=1000))
    'a long (moment, 1000 a second)'
    """
    article = "an" if kind[0] in "aeiou" else "a"
    if _PLAIN.get(kind, kind) == meaning.of:
        return f"{article} {kind}"
    unit = f", {meaning.per_second} a second" if meaning.per_second else ""
    return f"{article} {kind} ({meaning.of}{unit})"


def _as_is(value: Any) -> Any:
    return value


def micros(count: int, per_second: int) -> int:
    """So many units as whole microseconds; finer ones are cut."""
    return count * 1_000_000 // per_second


def moment(count: int, per_second: int) -> datetime:
    return EPOCH + timedelta(0, 0, micros(count, per_second))


def _duration(count: int, per_second: int) -> timedelta:
    return timedelta(0, 0, micros(count, per_second))


def day(count: int) -> date:
    return date.fromordinal(count + EPOCH_DAY)


def _clock(count: int, per_second: int) -> time:
    return time_of_day(micros(count, per_second))


_COUNTED: dict[tuple[str, type], Callable[[int, int], Any]] = {
    ("moment", datetime): moment,
    ("time", time): _clock,
    ("duration", timedelta): _duration,
}


def conversion(meaning: Meaning, shape: Scalar | Decimals | Symbols) -> Convert | None:
    """From what Avro or Protobuf hold (a number, text, bytes) to what the class has; None where no rule leads there.

    The function raises `ValueError`, `ArithmeticError` or `LookupError` for a value that the class cannot hold.
    """
    match shape:
        case Decimals():
            return _to_decimal(meaning, shape)
        case Symbols(members=members, foreign=foreign):
            if meaning.of == "symbol text" or (meaning.of == "text" and FromText in foreign):
                return _symbol(members)
            return None
        case Scalar(python=python, foreign=foreign):
            found = _to_scalar(meaning, python) or _by_note(meaning, python, foreign)
            return found or (conversion(Meaning(meaning.raw), shape) if meaning.raw else None)


def _to_scalar(meaning: Meaning, python: type) -> Convert | None:
    of, per_second = meaning.of, meaning.per_second
    if (counted := _COUNTED.get((of, python))) is not None:
        return lambda count: counted(count, per_second)
    match of:
        case "number" if python is int:
            return _as_is
        case "number" | "real" if python is float:
            return float
        case "date" if python is date:
            return day
        case "moment text" if python is datetime:
            return _moment_text
        case "text" | "uuid" if python is UUID:
            return UUID
        case "text" | "uuid" if python is str:
            return _as_is
        case "text" if python is bytes:
            return str.encode
        case "bytes" if python is bytes:
            return _as_is
        case "bytes" if python is str:
            return bytes.decode
        case "uuid bytes" if python is UUID:
            return lambda raw: UUID(bytes=raw)
        case "boolean" if python is bool:
            return _as_is
        case _:
            return None


def _by_note(meaning: Meaning, python: type, foreign: tuple[Any, ...]) -> Convert | None:
    if meaning.of == "local" and LocalAsUtc in foreign and python is datetime:
        return lambda count: moment(count, meaning.per_second)
    if meaning.of == "text" and FromText in foreign:
        return from_text(python, local_as_utc=LocalAsUtc in foreign)
    if meaning.of == "number":
        return next((from_number(python, note) for note in foreign if isinstance(note, FromNumber)), None)
    return None


def from_number(python: type, note: FromNumber) -> Convert:
    """From a plain number, as the class's note says."""
    if python is date:
        return day
    if note.unit == "days":
        return lambda count: timedelta(count)
    per_second = PER_SECOND[note.unit]
    counted = next(convert for (_, wanted), convert in _COUNTED.items() if wanted is python)
    return lambda count: counted(count, per_second)


def from_text(python: type, *, local_as_utc: bool) -> Convert:
    """From ISO 8601."""

    def read(text: str) -> Any:
        try:
            value = msgspec.convert(text, python)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        if python is datetime:
            if value.tzinfo is not None:
                return value.astimezone(UTC)
            if not local_as_utc:
                raise ValueError("a time without a zone")
            return value.replace(tzinfo=UTC)
        if python is time and value.tzinfo is not None:
            raise ValueError("a time of day with a zone")
        return value

    return read


_moment_text = from_text(datetime, local_as_utc=False)


def _symbol(members: dict[str, Any]) -> Convert:
    def read(symbol: str) -> Any:
        try:
            return members[symbol]
        except KeyError:
            raise LookupError(f"{symbol[:80]!r} is none of {', '.join(members)[:500]}") from None

    return read


_LONGEST_DECIMAL = 1000


def _to_decimal(meaning: Meaning, shape: Decimals) -> Convert | None:
    context = Context(prec=shape.precision, traps=[Inexact, InvalidOperation])
    unit = Decimal(1).scaleb(-shape.scale)

    def fitting(value: Decimal) -> Decimal:
        if value.is_finite():
            try:
                return value.quantize(unit, context=context)
            except (Inexact, InvalidOperation):  # refused below, with the field's name
                pass
        raise ValueError(
            f"a decimal that has more than {shape.precision} digits, {shape.scale} of them after the point"
        )

    def of_text(text: str) -> Decimal:
        try:
            value = Decimal(text) if len(text) <= _LONGEST_DECIMAL else None
        except InvalidOperation:  # refused below, with the field's name
            value = None
        if value is None:
            raise ValueError("a text that is no decimal")
        return fitting(value)

    match meaning.of:
        case "decimal":
            return lambda raw: fitting(decimal_of(raw, meaning.scale))
        case "big-decimal":
            return lambda raw: fitting(big_decimal(raw))
        case "scaled decimal":
            return lambda record: fitting(scaled_decimal(record))
        case "text" if FromText in shape.foreign:
            return of_text
        case _:
            return None


_EXACT = Context(prec=4000, traps=[Inexact, InvalidOperation])


def decimal_of(raw: bytes, scale: int) -> Decimal:
    """All digits, however many the schema declares."""
    if len(raw) > _LONGEST_DECIMAL:
        raise ValueError(f"a decimal of {len(raw)} bytes")
    return Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale, _EXACT)


def big_decimal(raw: bytes) -> Decimal:
    """Avro's decimal that carries its scale: bytes in bytes, and an int."""
    try:
        size, at = read_long(raw, 0)
        scale, end = read_long(raw, at + size)
    except (IndexError, OverflowError):
        raise ValueError("no big-decimal") from None
    if size < 0 or end != len(raw):
        raise ValueError("no big-decimal")
    return scaled_decimal({"scale": scale, "value": raw[at : at + size]})


def scaled_decimal(record: Any) -> Decimal:
    """Debezium's, of a column without a scale."""
    scale = record["scale"]
    if abs(scale) > _LONGEST_DECIMAL:
        raise ValueError(f"a decimal of the scale {scale}")
    return decimal_of(record["value"], scale)


def untyped(meaning: Meaning) -> Convert | None:
    """Convert to what a class would most likely have, for readers without one; None where a value is left as it is."""
    of, per_second, scale = meaning.of, meaning.per_second, meaning.scale
    match of:
        case "moment":
            return lambda count: moment(count, per_second)
        case "local":
            return lambda count: moment(count, per_second).replace(tzinfo=None)
        case "time":
            return lambda count: _clock(count, per_second)
        case "date":
            return day
        case "moment text":
            return _moment_text
        case "uuid":
            return UUID
        case "uuid bytes":
            return lambda raw: UUID(bytes=raw)
        case "decimal":
            return lambda raw: decimal_of(raw, scale)
        case "big-decimal":
            return big_decimal
        case "scaled decimal":
            return scaled_decimal
        case _:
            return None
