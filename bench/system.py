"""The whole order system in its own processes, as `millstream up` starts it, for as long as a benchmark looks at it."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import httpx

from orders.system import system

READY_WITHIN = 90.0
STOP_WITHIN = 20.0


class OrderSystem:
    """Local broker, registry, services and sandbox, on free ports and a folder that goes with it. A context manager.

    with OrderSystem() as system:
        stock(system.url, ["22423"])
    """

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="millstream-bench-")
        data = Path(self._folder.name)
        command = [Path(sys.executable).with_name("millstream"), "up", "--data", self._folder.name]
        self._told = (data / "up.log").open("wb")
        self._process = subprocess.Popen(
            [*command, "--port", "0", "--kafka-port", "0", "--registry-port", "0", "--json"],
            stdout=self._told,
            stderr=subprocess.STDOUT,
        )
        try:
            self.state = self._until_up(data)
        except BaseException:
            self.__exit__()
            raise
        self.url: str = self.state["public"]
        return self

    @property
    def services(self) -> tuple[str, ...]:
        """The processes that run our runtime, rather than what stands around them."""
        return system.names

    @property
    def pids(self) -> dict[str, int]:
        """The processes, by name."""
        return {name: process["pid"] for name, process in self.state["processes"].items()}

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._told.close()
        self._folder.cleanup()

    def _until_up(self, data: Path) -> dict[str, Any]:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                state = json.loads((data / "up.json").read_text())
            except FileNotFoundError:
                state = {"up": False}
            if state["up"]:
                return state
            time.sleep(0.05)  # between two looks at what comes up
        raise RuntimeError(
            f"the order system did not come up:\n{(data / 'up.log').read_text(errors='replace')[-2000:]}"
        )


def stock(url: str, products: list[str], quantity: int = 1_000_000) -> None:
    """Fills the warehouse, and returns when the products can be ordered and reserved."""
    deliveries = [{"product": product, "name": f"Product {product}", "quantity": quantity} for product in products]
    with httpx.Client(base_url=url, timeout=10) as client:
        client.put("/products", json={"products": deliveries}).raise_for_status()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            known = {row["product"] for row in client.get("/products").raise_for_status().json()["products"]}
            if known.issuperset(products):
                return
            time.sleep(0.05)  # between two looks at the catalogue
    raise TimeoutError("the products did not arrive in the catalogue within 30 s")


def order(product: str, number: int) -> dict[str, Any]:
    """The body of an order of three pieces for a customer of its own, so that keys spread over partitions."""
    return {
        "customer": f"bench-{number}",
        "country": "United Kingdom",
        "lines": [{"product": product, "quantity": 3, "unit_price": "2.55"}],
    }
