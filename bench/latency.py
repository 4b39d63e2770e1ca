"""How long an order takes, from `POST /orders` to `completed` in the read model, while nothing else is going on.

One order at a time over the public address. The end is what a customer who follows the progress stream (server-sent
events) sees: the stream is opened as soon as the read model knows the order, and nothing is polled after that.
"""

import json
import statistics
import time

import httpx
from rich.console import Console

from bench.measure import Bound
from bench.system import OrderSystem, order, stock

WARM_UP = 30
ORDERS = 250
P50_MS = 100.0
P99_MS = 300.0
_PRODUCT = "85123A"
_PATIENCE = 30.0


def run(console: Console, rounds: int) -> list[Bound]:
    """Places its orders once, however many rounds are asked for: there is nothing to alternate with."""
    with OrderSystem() as system, httpx.Client(base_url=system.url, timeout=_PATIENCE) as client:
        stock(system.url, [_PRODUCT])
        for number in range(WARM_UP):
            completed_in(client, number)
        taken = [completed_in(client, number) for number in range(WARM_UP, WARM_UP + ORDERS)]
    cuts = statistics.quantiles((seconds * 1000 for seconds in taken), n=100, method="inclusive")
    console.print(f"  {ORDERS} orders: p50 {cuts[49]:.1f}, p90 {cuts[89]:.1f}, p99 {cuts[98]:.1f} ms")
    return [
        Bound("order latency, idle, p50", "ms", round(cuts[49], 1), P50_MS),
        Bound("order latency, idle, p99", "ms", round(cuts[98], 1), P99_MS),
    ]


def completed_in(client: httpx.Client, number: int) -> float:
    """Seconds from sending one order until its progress stream says that it is completed."""
    began = time.perf_counter()
    placed = client.post("/orders", json=order(_PRODUCT, number))
    placed.raise_for_status()
    where = f"{placed.headers['location']}/progress"
    while time.perf_counter() - began < _PATIENCE:
        with client.stream("GET", where) as stream:
            if stream.status_code == httpx.codes.NOT_FOUND:
                time.sleep(0.005)  # the read model has not heard of it yet
                continue
            stream.raise_for_status()
            for line in stream.iter_lines():
                if line.startswith("data: ") and json.loads(line[6:])["status"] == "completed":
                    return time.perf_counter() - began
    raise TimeoutError(f"{where} did not say completed within {_PATIENCE:g} s")
