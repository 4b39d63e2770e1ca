"""From a reported line to a measurement, or to the reason why it is none."""

import re
from datetime import UTC, datetime
from decimal import Decimal

from millstream import Rejected, Value
from temperature.contracts import TemperatureReported

# The fields that each type of sensor sends, and which one is the temperature (counted from 0).
FIELDS = {"DHT22": 8, "BME280": 11, "SDS011": 12}
TEMPERATURE_AT = {"DHT22": 6, "BME280": 9}

_NUMBER = re.compile(r"-?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,3})?")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
# The range of the DHT22 and the BME280, in degrees Celsius.
_COLDEST, _HOTTEST = Decimal(-40), Decimal(85)


class Measurement(Value):
    """A temperature that can be believed."""

    device_id: str
    at: datetime
    celsius: Decimal

    @property
    def fahrenheit(self) -> Decimal:
        """The same in degrees Fahrenheit, exactly.

        >>> Measurement(device_id="5332", at=datetime(2019, 5, 24, tzinfo=UTC), celsius=Decimal("21.5")).fahrenheit
        Decimal('70.70')
        """
        return self.celsius * Decimal("1.8") + 32


def validate(report: TemperatureReported) -> Measurement:
    """The measurement that a report contains.

    Raises `Rejected` with the first rule that it breaks: `header_line`, `wrong_field_count`,
    `no_temperature_in_this_sensor_type`, `bad_timestamp`, `temperature_missing`, `temperature_not_a_number` or
    `temperature_out_of_range`.
    """
    if report.device_id == "sensor_id":
        raise Rejected("header_line", "names of columns in the middle of the stream")
    if not report.device_id.isdigit() or report.fields != FIELDS.get(report.sensor_type):
        raise Rejected("wrong_field_count", f"{report.fields} fields of a {report.sensor_type[:20]!r}")
    if report.sensor_type not in TEMPERATURE_AT:
        raise Rejected("no_temperature_in_this_sensor_type", report.sensor_type)
    return Measurement(device_id=report.device_id, at=_moment(report.timestamp), celsius=_celsius(report.temperature))


def _moment(text: str) -> datetime:
    if not _TIMESTAMP.fullmatch(text):
        raise Rejected("bad_timestamp", repr(text[:40]))
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise Rejected("bad_timestamp", f"{text!r}: {error}") from error


def _celsius(text: str) -> Decimal:
    if text in ("", "NA"):
        raise Rejected("temperature_missing")
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        raise Rejected("temperature_not_a_number", repr(text[:40]))
    celsius = Decimal(text)
    if not _COLDEST <= celsius <= _HOTTEST:
        raise Rejected("temperature_out_of_range", f"{text} is outside {_COLDEST}..{_HOTTEST} °C")
    return celsius
