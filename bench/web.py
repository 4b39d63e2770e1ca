"""`POST /orders` of the order service beside the same application whose publisher publishes nothing."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from bench.measure import Comparison, alternate
from bench.web_server import PRODUCTS
from millstream.testing.local import LocalKafka

SECONDS = 4.0
WARM_UP_SECONDS = 2.0
CONNECTIONS = 64


def run(console: Console, rounds: int) -> Comparison:
    """Requests a second; every one must be accepted. The load comes from a process of its own."""
    bodies = "\n".join(json.dumps(_body(number)) for number in range(500))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-bench-")))
        local = stack.enter_context(LocalKafka(folder / "kafka"))
        ours = stack.enter_context(_serving("bench.web_server", local, folder / "ours"))
        baseline = stack.enter_context(_serving("bench.baselines.web_without_publishing", local, folder / "baseline"))
        for url in (ours, baseline):
            _load(url, bodies, WARM_UP_SECONDS)
        return alternate(
            "POST /orders",
            lambda: _load(ours, bodies, SECONDS),
            lambda: _load(baseline, bodies, SECONDS),
            unit="requests/s",
            wanted=0.5,
            rounds=rounds,
            console=console,
        )


@contextmanager
def _serving(module: str, local: LocalKafka, data: Path) -> Iterator[str]:
    command = [sys.executable, "-m", module, local.bootstrap, local.registry, str(data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError(f"{module} did not start")
        yield url
    finally:
        process.kill()
        process.communicate()


def _load(url: str, bodies: str, seconds: float) -> float:
    address = urlsplit(url)
    command = [sys.executable, "-m", "bench.load", address.hostname, address.port, "/orders", seconds, CONNECTIONS]
    told = subprocess.run(
        [str(part) for part in command], input=bodies, capture_output=True, text=True, timeout=seconds + 30, check=True
    )
    result = json.loads(told.stdout)
    if set(result["statuses"]) != {"202"}:
        raise RuntimeError(f"not every order was accepted: {result['statuses']}")
    return result["per_second"]


def _body(number: int) -> dict[str, object]:
    return {
        "customer": f"c-{number:05d}",
        "country": "United Kingdom",
        "reference": f"{536365 + number}",
        "lines": [
            {"product": PRODUCTS[(number + line) % len(PRODUCTS)], "quantity": 1 + line, "unit_price": "2.55"}
            for line in range(3)
        ],
    }
