"""The local broker beside librdkafka's mock broker, and whether its cost stays flat as partitions and log grow."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.broker.sides import Local, Mock, Side, work
from bench.broker.sizes import sizes
from bench.measure import Bound, Comparison, alternate
from bench.memory import resident

MESSAGES = 1_500_000
READ = 3_000_000
SECONDS = 5.0
CONSUMERS = 10
_TOPIC = "bench"
_PARTITIONS = 4  # what the mock gives every topic


def run(console: Console, rounds: int, *, full: bool = False) -> list[Comparison | Bound]:
    """`full`: with a log of 5 GB, for which the disk must have room; else the long log has 256 MB."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-") as folder:
        bounds = _beginnings(Path(folder), console, rounds)
        with Local(Path(folder) / "speed") as ours, Mock() as mock:
            work(ours, "create", topic=_TOPIC, partitions=_PARTITIONS)
            beside = _beside(ours, mock, console, rounds)
            bounds += [_consuming(ours, console, rounds), *_latency(ours, mock, console, rounds), *_idle(ours, console)]
    return [*beside, *bounds, *sizes(console, rounds, full=full)]


def _beginnings(data: Path, console: Console, rounds: int) -> list[Bound]:
    """How long a start takes, and what a broker holds that nobody has spoken to."""
    started: list[float] = []
    held: list[float] = []
    for number in range(rounds):
        with Local(data / f"start-{number}") as broker:
            started.append(broker.started_in)
            held.append(resident(broker.pid))
        console.print(f"  start {started[-1]:.0f} ms, {held[-1]:.1f} MB")
    return [
        Bound("start to first reply", "ms", statistics.median(started), most=200),
        Bound("memory, idle", "MB", max(held), most=45),
    ]


def _beside(ours: Side, mock: Side, console: Console, rounds: int) -> list[Comparison]:
    loads: list[tuple[str, str, dict[str, Any]]] = [
        ("produce 100 B", "msg/s", {"load": "produce", "messages": MESSAGES}),
        ("transactions of 1 message", "txn/s", {"load": "transactions", "seconds": SECONDS}),
    ]

    def measure(side: Side, load: dict[str, Any]) -> float:
        found = work(side, topic=_TOPIC, **load)
        console.print(
            f"  {side.name:5} {found['rate']:12,.0f} a second, {found['share']:3.0f} % of a core in the broker"
        )
        return found["rate"]

    return [
        alternate(
            name,
            lambda load=load: measure(ours, load),
            lambda load=load: measure(mock, load),
            unit=unit,
            wanted=0.8,
            rounds=rounds,
            console=console,
        )
        for name, unit, load in loads
    ]


def _consuming(ours: Side, console: Console, rounds: int) -> Bound:
    """The mock keeps too little of a log to read it for long enough."""
    work(ours, "create", topic="read", partitions=_PARTITIONS)
    work(ours, "produce", topic="read", messages=READ)
    rates: list[float] = []
    for _ in range(rounds):
        rates.append(work(ours, "consume", topic="read", messages=READ)["rate"])
        console.print(f"  consumed {rates[-1]:,.0f} messages/s")
    return Bound("consume 100 B", "msg/s", statistics.median(rates), least=1_200_000)


def _latency(ours: Side, mock: Side, console: Console, rounds: int) -> list[Bound]:
    work(ours, "create", topic="latency", partitions=_PARTITIONS)
    found: dict[str, list[dict[str, float]]] = {"mock": [], "ours": []}
    for _ in range(rounds):
        for side in (mock, ours):
            taken = work(side, "latency", topic="latency", per_second=1000, seconds=SECONDS)
            found[side.name].append(taken)
            console.print(f"  end to end, {side.name}: p50 {taken['p50']:.2f}, p99 {taken['p99']:.2f} ms")
    return [
        Bound("end to end at 1,000/s, p50", "ms", statistics.median(one["p50"] for one in found["ours"])),
        Bound("end to end at 1,000/s, p99", "ms", statistics.median(one["p99"] for one in found["ours"]), most=3),
        Bound("the mock's p99", "ms", statistics.median(one["p99"] for one in found["mock"])),
    ]


def _idle(ours: Side, console: Console) -> list[Bound]:
    work(ours, "create", topic="idle", partitions=100)
    readers = f"{CONSUMERS} consumers × 100 partitions"
    shares: list[float] = []
    for per_second in (0, 10, 100):
        found = work(ours, "idle", topic="idle", consumers=CONSUMERS, seconds=SECONDS, per_second=per_second)
        shares.append(found["share"])
        console.print(f"  {readers}, {per_second} messages/s: {shares[-1]:.1f} % of a core")
    return [
        Bound(f"{readers}, idle", "% of a core", shares[0], most=15),
        Bound(f"{readers}, sent 10 messages/s", "% of a core", shares[1], most=15),
        Bound(f"{readers}, sent 100 messages/s", "% of a core", shares[2]),
    ]
