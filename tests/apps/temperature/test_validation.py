"""What a reading is, by the rules of the sensors' truth file."""

from decimal import Decimal

import pytest

from millstream import Rejected
from temperature.contracts import TemperatureReported
from temperature.validation import validate

GOOD = {
    "device_id": "5332",
    "sensor_type": "DHT22",
    "timestamp": "2019-05-24T00:00:10",
    "temperature": "21.50",
    "fields": 8,
}


def report(**changes: object) -> TemperatureReported:
    return TemperatureReported(**(GOOD | changes))  # pyright: ignore[reportArgumentType] fields by name


def test_a_good_reading_is_converted_exactly():
    measurement = validate(report())
    assert measurement.celsius == Decimal("21.50")
    assert measurement.fahrenheit == Decimal("70.70")
    assert measurement.at.isoformat() == "2019-05-24T00:00:10+00:00"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device_id": "sensor_id"}, "header_line"),
        ({"device_id": "x1"}, "wrong_field_count"),
        ({"fields": 7}, "wrong_field_count"),
        ({"sensor_type": "PMS5003"}, "wrong_field_count"),
        ({"sensor_type": "SDS011", "fields": 12}, "no_temperature_in_this_sensor_type"),
        ({"timestamp": "2019-02-30T00:00:00"}, "bad_timestamp"),
        ({"timestamp": "yesterday"}, "bad_timestamp"),
        ({"temperature": ""}, "temperature_missing"),
        ({"temperature": "NA"}, "temperature_missing"),
        ({"temperature": "NaN"}, "temperature_not_a_number"),
        ({"temperature": "1e999999999"}, "temperature_not_a_number"),
        ({"temperature": "85.01"}, "temperature_out_of_range"),
        ({"temperature": "-40.1"}, "temperature_out_of_range"),
        # The first rule that it breaks counts.
        ({"timestamp": "", "temperature": ""}, "bad_timestamp"),
    ],
)
def test_a_malformed_reading_is_rejected_with_its_reason(changes: dict[str, object], reason: str):
    with pytest.raises(Rejected) as rejected:
        validate(report(**changes))
    assert rejected.value.reason == reason
