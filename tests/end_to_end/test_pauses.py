"""A payment service that is stopped in the midst of its calls, and its gateway: SIGSTOP, or the lid of a laptop."""

import os
import signal
import time

import httpx
import pytest
from tests.end_to_end.leftovers import hold_that_nothing_is_left
from tests.end_to_end.running import Running, eventually
from tests.end_to_end.shop import place, stock, wait_for

PAUSE = 12.0
"""Longer than an effect of the payment service may take."""
ORDERS = 25
"""Each time, so that all pauses together meet more calls than its client has connections."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_payments_go_on_after_pauses_of_the_service_and_of_its_gateway(fresh: Running):
    stock(fresh.url, {"LANTERN": 10_000})
    placed: list[str] = []
    for paused in ("payment", "gateway", "payment", "payment"):
        behave(fresh, {"delay": 1.0})
        before = made(fresh)
        placed += [place(fresh.url, [("LANTERN", 1, "4.50")]) for _ in range(ORDERS)]
        eventually(lambda before=before: made(fresh) > before, within=60)
        pid = fresh.pids()[paused]
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(PAUSE)  # the fault is the time that it takes
        finally:
            os.kill(pid, signal.SIGCONT)
        behave(fresh, {})
    for order_id in placed:
        wait_for(fresh.url, order_id, "completed", within=120)
    assert made(fresh) == len(placed)
    assert httpx.get(f"{fresh.address('payment')}/health", timeout=10).is_success
    hold_that_nothing_is_left(fresh)


def behave(running: Running, behaviour: dict[str, float]) -> None:
    httpx.post(f"{running.address('gateway')}/behaviour", json=behaviour, timeout=20).raise_for_status()


def made(running: Running) -> int:
    """Charges that the gateway has made."""
    return len(httpx.get(f"{running.address('gateway')}/payments", timeout=20).json()["charges"])
