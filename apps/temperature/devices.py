"""Devices: a handful that measure as the day goes by, and now and then send nonsense."""

import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from temperature.contracts import TemperatureReported
from temperature.validation import FIELDS

_NONSENSE = ("NA", "", "fever", "412.5")


def measure(devices: int, *, malformed: float, seed: int | None = None) -> Iterator[TemperatureReported]:
    """Readings of `devices` devices in turn, without end; a share of `malformed` (0 to 1) is nonsense."""
    chance = random.Random(seed)  # noqa: S311 weather, not secrets
    while True:
        for device in range(1, devices + 1):
            now = datetime.now(UTC)
            hour = now.hour + now.minute / 60
            celsius = 15 + 7 * math.sin((hour - 9) * math.pi / 12) + chance.gauss(0, 0.4) + device * 0.3
            yield TemperatureReported(
                device_id=str(1000 + device),
                sensor_type="DHT22",
                timestamp=now.strftime("%Y-%m-%dT%H:%M:%S"),
                temperature=chance.choice(_NONSENSE) if chance.random() < malformed else f"{celsius:.2f}",
                fields=FIELDS["DHT22"],
            )


def paced(reports: Iterator[TemperatureReported], rate: float) -> Iterator[TemperatureReported]:
    """The same reports, `rate` a second."""
    due = time.monotonic()
    for report in reports:
        time.sleep(max(0.0, due - time.monotonic()))  # the pace of a simulation is its purpose
        yield report
        due += 1 / rate
