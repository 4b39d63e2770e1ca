"""The log of a real run, held to the invariants of the order system."""

import json

import httpx
import pytest
from tests.end_to_end.running import Running, eventually
from tests.end_to_end.shop import place, stock, wait_for

pytestmark = pytest.mark.slow


def test_after_real_orders_there_is_nothing_to_report(fresh: Running):
    stock(fresh.url, {"book": 5, "pen": 100})
    for _ in range(3):
        wait_for(fresh.url, place(fresh.url, [("pen", 2, "1.50"), ("book", 1, "20.00")]), "completed")
    wait_for(fresh.url, place(fresh.url, [("book", 9, "20.00")]), "cancelled")
    wait_for(fresh.url, place(fresh.url, [("pen", 1, "1.50")], country="Atlantis"), "cancelled")
    lines = [{"product": "pen", "quantity": 1, "unit_price": "1.50"}]
    returned = httpx.post(f"{fresh.url}/returns", json={"lines": lines}, timeout=10).raise_for_status().json()["id"]
    eventually(lambda: httpx.get(f"{fresh.url}/returns/{returned}", timeout=5).json().get("status") == "completed")

    def report() -> dict[str, object]:
        return json.loads(fresh.run("millstream", "verify", "--json").stdout)

    # An end shows before the last refund and the last mail are written down.
    found = eventually(lambda: (told := report())["violations"] == [] and told, within=60)
    assert (found["undecodable"], found["missing_topics"], found["under_way"]) == ({}, [], 0)
    assert found["events"] > 40
