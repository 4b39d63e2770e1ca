"""Lines as the Sensor.Community archive publishes them: fields parted by semicolons, header lines in between."""

import gzip
from collections.abc import Iterator
from pathlib import Path

from temperature.contracts import TemperatureReported
from temperature.validation import TEMPERATURE_AT

_TIMESTAMP_AT = 5


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, gzipped or not, without their ends. Undecodable bytes are replaced, and stay dirt."""
    with gzip.open(path, "rt", errors="replace") if path.suffix == ".gz" else path.open(errors="replace") as file:
        for line in file:
            yield line.rstrip("\r\n")


def report_of(line: str) -> TemperatureReported:
    """What a device reported in one line, taken apart but not judged.

    >>> report_of("5332;DHT22;2675;;;2019-05-24T00:00:10;17.40;71.30").temperature
    '17.40'
    """
    fields = line.split(";")

    def field(number: int | None) -> str:
        return fields[number] if number is not None and number < len(fields) else ""

    return TemperatureReported(
        device_id=field(0),
        sensor_type=field(1),
        timestamp=field(_TIMESTAMP_AT),
        temperature=field(TEMPERATURE_AT.get(field(1))),
        fields=len(fields),
    )
