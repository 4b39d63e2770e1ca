"""What every service of the order system holds in memory after a few hundred orders of many lines."""

import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from bench.measure import Bound
from bench.system import OrderSystem, stock

ORDERS = 600
LINES = 20
MAX_MB = 90.0
_PRODUCTS = [f"{22000 + number}" for number in range(200)]
_PATIENCE = 120.0


def run(console: Console, rounds: int) -> list[Bound]:
    """Resident memory of each service, once; of the platform and the sandbox, which are not services, it only tells."""
    with OrderSystem() as system:
        services = system.services
        stock(system.url, _PRODUCTS)
        _order_and_wait(system.url)
        held = {name: resident(pid) for name, pid in system.pids.items()}
    for name, megabytes in sorted(held.items(), key=lambda item: -item[1]):
        console.print(f"  {name:12} {megabytes:6.1f} MB{'' if name in services else '  (no service)'}")
    return [Bound(f"memory of {name}", "MB", held[name], MAX_MB) for name in services]


def resident(pid: int) -> float:
    """MB (of 1,024 kB, as `ps` and `top` count) of a process that are in memory now, shared libraries included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ProcessLookupError(f"process {pid} holds no memory")


def _order_and_wait(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(ORDERS):
            client.post("/orders", json=_body(number)).raise_for_status()
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            found = client.get("/orders", params={"limit": 1_000}).raise_for_status().json()["orders"]
            if sum(row["status"] in ("completed", "cancelled") for row in found) == ORDERS:
                return
            time.sleep(0.5)  # between two looks at what the read model knows
    raise TimeoutError(f"{ORDERS} orders did not end within {_PATIENCE:g} s")


def _body(number: int) -> dict[str, Any]:
    lines = [
        {"product": _PRODUCTS[(number * 7 + line) % len(_PRODUCTS)], "quantity": 1 + line, "unit_price": "0.85"}
        for line in range(LINES)
    ]
    return {"customer": f"c-{number:05d}", "country": "United Kingdom", "lines": lines}
