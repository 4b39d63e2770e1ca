"""The whole order system in its own processes: what customers do, and what goes wrong outside."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.end_to_end.running import Running, eventually
from tests.end_to_end.shop import place, stock, wait_for

LINES = [("E2E-1", 2, "4.50"), ("E2E-2", 1, "0.333")]
TOTAL = Decimal("9.333")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("shop")) as running:
        stock(running.url, {"E2E-1": 10_000, "E2E-2": 10_000})
        yield running
        assert running.stop() < 8, "Ctrl-C ends everything quickly"


def history(url: str, id: str, of: str = "orders") -> list[str]:
    answer = httpx.get(f"{url}/{of}/{id}/events", timeout=5)
    return [event["type"] for event in answer.raise_for_status().json()["events"]]


def has_happened(url: str, id: str, *types: str, of: str = "orders") -> None:
    eventually(lambda: set(types) <= set(history(url, id, of)))


def charge(running: Running, order_id: str) -> dict[str, Any] | None:
    charges = httpx.get(f"{running.url}/payments", timeout=5).json()["charges"]
    return next((charge for charge in charges if charge["key"] == order_id), None)


def behave(running: Running, **behaviour: Any) -> None:
    httpx.post(f"{running.address('gateway')}/behaviour", json=behaviour, timeout=5).raise_for_status()


def test_an_order_goes_all_the_way_and_its_customer_can_watch(running: Running):
    order_id = place(running.url, LINES, customer="c-watch", country="France")
    eventually(lambda: httpx.get(f"{running.url}/orders/{order_id}", timeout=5).status_code == 200)
    with httpx.stream("GET", f"{running.url}/orders/{order_id}/progress", timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line.startswith("data: ")]
    updates = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert updates[-1]["status"] == "completed", "the stream ends with the order"
    row = wait_for(running.url, order_id, "completed")
    assert Decimal(row["total"]) == TOTAL
    assert row["customer"] == "c-watch"
    has_happened(running.url, order_id, "OrderCreated", "StockReserved", "PaymentCompleted", "ShipmentScheduled")
    found = httpx.get(f"{running.url}/orders", params={"customer": "c-watch", "status": "completed"}, timeout=5)
    assert [found_row["id"] for found_row in found.json()["orders"]] == [order_id]
    mails = eventually(
        lambda: [mail["kind"] for mail in httpx.get(f"{running.url}/mails", params={"about": order_id}).json()][1:]
    )
    assert mails == ["completed"]


def test_a_return_restocks_and_refunds(running: Running):
    body = {"customer": "c-return", "lines": [{"product": "E2E-1", "quantity": 1, "unit_price": "4.50"}]}
    answer = httpx.post(f"{running.url}/returns", json=body, timeout=10)
    return_id = answer.raise_for_status().json()["id"]
    has_happened(running.url, return_id, "StockReturned", "ReturnRefunded", "ReturnCompleted", of="returns")
    row = eventually(lambda: _with_status(running.url, return_id, "completed"))
    assert Decimal(row["total"]) == Decimal(row["refunded"]) == Decimal("4.50")
    assert httpx.get(f"{running.url}/orders/{return_id}", timeout=5).status_code == 404


def test_a_refused_refund_takes_the_goods_off_sale_again(running: Running):
    behave(running, refuse_refunds_above="4.49")
    try:
        body = {"lines": [{"product": "E2E-R", "quantity": 3, "unit_price": "1.50"}]}
        stock(running.url, {"E2E-R": 10})
        answer = httpx.post(f"{running.url}/returns", json=body, timeout=10)
        return_id = answer.raise_for_status().json()["id"]
        has_happened(running.url, return_id, "StockReturned", "StockWithdrawn", "ReturnRefused", of="returns")
    finally:
        behave(running)
    row = eventually(lambda: _with_status(running.url, return_id, "refused"))
    assert (row["stock"], row["payment"], row["reason"]) == ("withdrawn", "refused", "refund limit exceeded")
    levels = httpx.get(f"{running.url}/stock", params={"after": "E2E-Q"}, timeout=5).json()["stock"]
    assert [level["on_hand"] for level in levels if level["product"] == "E2E-R"] == [10]
    mails = eventually(lambda: httpx.get(f"{running.url}/mails", params={"about": return_id}, timeout=5).json())
    assert [mail["kind"] for mail in mails] == ["return_refused"]


def _with_status(url: str, return_id: str, status: str) -> dict[str, Any] | None:
    row = httpx.get(f"{url}/returns/{return_id}", timeout=5).json()
    return row if row["status"] == status else None


def test_what_the_carrier_does_not_take_is_undone(running: Running):
    order_id = place(running.url, LINES, country="Atlantis")
    row = wait_for(running.url, order_id, "cancelled")
    assert row["reason"] == "not deliverable: the carrier does not go to Atlantis"
    has_happened(running.url, order_id, "PaymentRefunded", "StockReservationCancelled")
    assert (charge(running, order_id) or {})["state"] == "refunded"


def test_what_is_not_there_is_not_sold(running: Running):
    order_id = place(running.url, [("E2E-1", 99_999, "1")])
    assert wait_for(running.url, order_id, "cancelled")["reason"].startswith("out of stock: E2E-1")
    assert "PaymentCompleted" not in history(running.url, order_id)


def test_a_declined_payment_releases_the_stock(running: Running):
    behave(running, decline_ratio=1)
    try:
        order_id = place(running.url, LINES)
        assert wait_for(running.url, order_id, "cancelled")["reason"] == "payment declined: card declined"
        has_happened(running.url, order_id, "StockReservationCancelled")
    finally:
        behave(running)


def test_a_gateway_that_charges_and_falls_silent_is_asked_until_it_answers(running: Running):
    behave(running, silent_ratio=1, silence=0.2)
    try:
        order_id = place(running.url, LINES)
        wait_for(running.url, order_id, "completed")
        has_happened(running.url, order_id, "PaymentUnresolved", "PaymentCompleted")
        assert (charge(running, order_id) or {})["state"] == "charged"
    finally:
        behave(running)


@pytest.mark.slow
def test_a_cancel_while_the_payment_is_on_its_way_costs_nothing(running: Running):
    # Longer than a cancel takes on a busy machine, and shorter than payment waits for the gateway.
    behave(running, delay=6.0)
    try:
        order_id = place(running.url, LINES)
        has_happened(running.url, order_id, "StockReserved")
        httpx.post(f"{running.url}/orders/{order_id}/cancel", timeout=10).raise_for_status()
        assert wait_for(running.url, order_id, "cancelled")["reason"] == "cancelled by customer"
        behave(running)
        has_happened(running.url, order_id, "StockReservationCancelled")
        eventually(lambda: (charge(running, order_id) or {}).get("state") in ("refunded", "voided"), within=60)
    finally:
        behave(running)


def test_a_cancel_after_the_payment_is_refused(running: Running):
    order_id = place(running.url, LINES)
    wait_for(running.url, order_id, "completed")
    httpx.post(f"{running.url}/orders/{order_id}/cancel", timeout=10).raise_for_status()
    has_happened(running.url, order_id, "OrderCancelRefused")
    eventually(lambda: wait_for(running.url, order_id, "completed")["cancel_refused"])


def test_unknown_things_are_not_found(running: Running):
    for path in ("/orders/none", "/orders/none/events", "/orders/none/progress", "/returns/none", "/nothing"):
        answer = httpx.get(running.url + path, timeout=5)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path


def test_orders_come_in_pages_the_newest_first(running: Running):
    ids = [place(running.url, LINES, customer="c-pages") for _ in range(3)]
    for order_id in ids:
        wait_for(running.url, order_id, "completed")
    seen: list[str] = []
    while True:
        params = {"customer": "c-pages", "limit": "2"} | ({"after": seen[-1]} if seen else {})
        page = [row["id"] for row in httpx.get(f"{running.url}/orders", params=params, timeout=5).json()["orders"]]
        if not page:
            break
        seen += page
    assert seen == ids[::-1]


def test_the_public_address_describes_itself(running: Running):
    for path in ("/", "/docs", "/mail"):
        page = httpx.get(running.url + path, timeout=10)
        assert page.status_code == 200 and page.text.startswith("<!doctype html>"), path
    commands, queries = (
        httpx.get(f"{running.url}/openapi/{of}.json", timeout=10).json() for of in ("commands", "queries")
    )
    assert {"/orders", "/orders/{order_id}/cancel", "/returns", "/products"} <= commands["paths"].keys()
    assert {"/orders", "/orders/{order_id}", "/orders/{order_id}/progress"} <= queries["paths"].keys()


HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def test_a_replay_agrees_with_its_file(running: Running, tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text(
        HEADER
        + "1,E2E-A,APPLE,3,2011-11-14,1.65,17850,United Kingdom\n1,E2E-B,BREAD,2,2011-11-14,0.5,17850,United Kingdom\n"
        + "C2,E2E-A,APPLE,-1,2011-11-14,1.65,,France\n3,E2E-B,damaged,-7,2011-11-14,0,,United Kingdom\n"
        + "A4,B,Adjust bad debt,1,2011-08-12,-11062.06,,United Kingdom\n"
    )
    done = running.run("orders", "replay", str(path), "--url", running.url, "--json", timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert [outcome[name] for name in ("invoices", "completed", "returned", "refused", "mails")] == [4, 1, 1, 2, 3]
    assert (outcome["revenue"], outcome["refunds"], outcome["differences"]) == ("5.950", "1.650", [])


@pytest.mark.slow
def test_a_replay_stops_sending_when_its_time_is_up(running: Running, tmp_path: Path):
    row = "{},E2E-R,APPLE,1,2011-11-14 08:10:00,1.65,17850,United Kingdom\n"
    path = tmp_path / "orders.csv"
    path.write_text(HEADER + "".join(row.format(number) for number in range(500)))
    slowly = ["--rate", "1", "--timeout", "20", "--json"]
    done = running.run("orders", "replay", str(path), "--url", running.url, *slowly, timeout=120)
    assert done.returncode == 1, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert 0 < outcome["completed"] + outcome["open"] < 500
    assert any("the time was up when" in difference for difference in outcome["differences"])
