"""The same load on brokers of different size: 1 and 1,000 partitions, 1 MB of log and far more of it."""

import shutil
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.broker.sides import Local, work
from bench.measure import Bound, Comparison
from bench.memory import resident

MESSAGES = 1_000_000
SECONDS = 3.0
MB = 1_000_000
LONG = 256 * MB
FULL = 5_000 * MB
_SPARE = 1_000 * MB
_RECORD = 1_000
_TOPIC = "sized"
_SHOWN = {
    "produce": "msg/s", "consume": "msg/s", "p50": "ms", "p99": "ms",
    "start": "ms", "start after kill -9": "ms", "memory": "MB", "memory after the load": "MB",
}  # fmt: skip


class Size:
    """A broker of this many partitions and bytes in `folder`, and what was measured of it, one figure a round."""

    def __init__(self, name: str, folder: Path, partitions: int = 1, log_bytes: int = MB) -> None:
        self.name = name
        self.found: dict[str, list[float]] = defaultdict(list)
        self._folder = folder
        self._partitions = partitions
        self._log_bytes = log_bytes

    def measure(self) -> None:
        """One round. A log of 1 MB is made anew for it, for the load makes more of it; a long one stays long."""
        if self._log_bytes == MB:
            shutil.rmtree(self._folder, ignore_errors=True)
        if not self._folder.exists():
            self._fill()
        with Local(self._folder) as broker:
            self._note("start", broker.started_in)
            self._note("memory", resident(broker.pid))
            self._note("produce", work(broker, "produce", topic=_TOPIC, messages=MESSAGES)["rate"])
            self._note("consume", work(broker, "consume", topic=_TOPIC, messages=MESSAGES)["rate"])
            taken = work(broker, "latency", topic=_TOPIC, per_second=1000, seconds=SECONDS)
            self._note("p50", taken["p50"])
            self._note("p99", taken["p99"])
            self._note("memory after the load", resident(broker.pid))
            broker.kill()
        with Local(self._folder) as broker:
            self._note("start after kill -9", broker.started_in)

    def median(self, what: str) -> float:
        return statistics.median(self.found[what])

    def _fill(self) -> None:
        with Local(self._folder) as broker:
            work(broker, "create", topic=_TOPIC, partitions=self._partitions)
            work(broker, "produce", topic=_TOPIC, messages=self._log_bytes // _RECORD, size=_RECORD)

    def _note(self, what: str, figure: float) -> None:
        self.found[what].append(figure)


def sizes(console: Console, rounds: int, *, full: bool) -> list[Comparison | Bound]:
    """Raises OSError where the disk has no room for the long log."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        data, long = Path(folder), FULL if full else LONG
        free = shutil.disk_usage(data).free
        if free < long + _SPARE:
            raise OSError(f"{folder} has {free / MB:,.0f} MB free; the long log needs {(long + _SPARE) / MB:,.0f} MB")
        small = Size("1 partition, 1 MB", data / "small")
        others = [
            Size("1,000 partitions", data / "wide", partitions=1000),
            Size(f"{long / MB / 1000:g} GB of log", data / "long", log_bytes=long),
        ]
        for number in range(rounds):
            for size in (small, *others):
                size.measure()
                figures = ", ".join(f"{what} {size.found[what][-1]:,.4g}" for what in _SHOWN)
                console.print(f"  {size.name}, round {number + 1}: {figures}")
    console.print(_side_by_side([small, *others]))
    return [verdict for other in others for verdict in _verdicts(other, small)]


def _verdicts(other: Size, small: Size) -> list[Comparison | Bound]:
    rates: list[Comparison | Bound] = [
        Comparison(f"{what}, {other.name}", "msg/s", other.found[what], small.found[what], 0.8)
        for what in ("produce", "consume")
    ]
    bounds = {"p99": 3.0, "start": 200.0, "start after kill -9": 200.0, "memory": 45.0}
    return rates + [
        Bound(f"{what}, {other.name}", _SHOWN[what], other.median(what), most) for what, most in bounds.items()
    ]


def _side_by_side(sizes: list[Size]) -> Table:
    shown = Table(title="The same load on brokers of different size (medians)", title_justify="left")
    for column in ("", *(size.name for size in sizes)):
        shown.add_column(column, justify="right" if column else "left")
    for what, unit in _SHOWN.items():
        digits = 0 if unit == "msg/s" else 2 if what in ("p50", "p99") else 1
        shown.add_row(what, *(f"{size.median(what):,.{digits}f} {unit}" for size in sizes))
    return shown
