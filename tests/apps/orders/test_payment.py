"""The payment effects against a real gateway over HTTP, which declines, stumbles, stays silent and is killed."""

import asyncio
from collections.abc import Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx
import httpx2
import pytest

from millstream import Unsettled
from millstream.declare import Kind
from millstream.settings import Settings
from millstream.testing.child import wait_until
from orders.contracts import (
    OrderCancelled,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentUnresolved,
    RefundReturn,
    ReturnRefunded,
    ReturnRefundRefused,
    StockReserved,
)
from orders.email.service import SEND_WITHIN, email
from orders.payment.gateway import ANSWER_WITHIN, Charged, Gateway, connect
from orders.payment.service import charge, payment, refund, settle, void
from orders.sandbox.gateway import Behaviour, application

T = TypeVar("T")
Serve = Callable[[Any], str]
MONEY = Decimal("19.8000")
RESERVED = StockReserved(order_id="o-1", total=MONEY)
CANCELLED = OrderCancelled(order_id="o-1", reason="cancelled by customer")


def ask(url: str, what: Callable[[Gateway], Coroutine[Any, Any, T]], timeout: float = 5.0) -> T:
    async def asked() -> T:
        async with httpx2.AsyncClient(base_url=url, timeout=timeout) as client:
            return await what(Gateway(client))

    return asyncio.run(asked())


def payments(url: str) -> dict[str, list[dict[str, str]]]:
    return httpx.get(f"{url}/payments").json()


async def babble(scope: Any, receive: Any, send: Any) -> None:
    """A server whose answers make no sense."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": {"/refunds": b"no JSON"}.get(scope["path"], b'{"state": "odd"}')})


@pytest.fixture
def url(serve: Serve, tmp_path: Path) -> str:
    return serve(application(tmp_path / "gateway.db"))


def test_a_charge_is_made_once(url: str):
    for _ in range(3):
        assert ask(url, lambda gateway: charge(RESERVED, gateway)) == PaymentCompleted(order_id="o-1", amount=MONEY)
    assert payments(url)["charges"] == [{"key": "o-1", "amount": "19.8000", "state": "charged", "reason": None}]


def test_a_decline_stays_one(url: str):
    httpx.post(f"{url}/behaviour", json={"decline_above": "10"}).raise_for_status()
    declined = PaymentDeclined(order_id="o-1", reason="limit exceeded")
    assert ask(url, lambda gateway: charge(RESERVED, gateway)) == declined
    httpx.post(f"{url}/behaviour", json={}).raise_for_status()
    assert ask(url, lambda gateway: charge(RESERVED, gateway)) == declined


def test_silence_after_charging_is_unresolved_and_then_settled(url: str):
    httpx.post(f"{url}/behaviour", json={"silent_ratio": 1, "silence": 2}).raise_for_status()
    unresolved = ask(url, lambda gateway: charge(RESERVED, gateway), timeout=0.2)
    assert unresolved == PaymentUnresolved(order_id="o-1", amount=MONEY)
    assert ask(url, lambda gateway: settle(unresolved, gateway)) == PaymentCompleted(order_id="o-1", amount=MONEY)
    assert len(payments(url)["charges"]) == 1


def test_a_charge_that_never_arrived_is_made_when_it_is_settled(url: str):
    httpx.post(f"{url}/behaviour", json={"error_ratio": 1}).raise_for_status()
    unresolved = ask(url, lambda gateway: charge(RESERVED, gateway))
    assert isinstance(unresolved, PaymentUnresolved)
    assert payments(url)["charges"] == []
    assert ask(url, lambda gateway: settle(unresolved, gateway)) == PaymentCompleted(order_id="o-1", amount=MONEY)


def check_unsettled(url: str, unresolved: PaymentUnresolved) -> None:
    """Every effect but a charge asks again."""
    for effect in (
        lambda gateway: settle(unresolved, gateway),
        lambda gateway: void(CANCELLED, gateway),
        lambda gateway: refund(RefundReturn(return_id="r-1", refund=MONEY), gateway),
    ):
        with pytest.raises(Unsettled):
            ask(url, effect)


def test_a_gateway_that_is_gone_leaves_payments_unresolved():
    nowhere = "http://127.0.0.1:1"
    unresolved = ask(nowhere, lambda gateway: charge(RESERVED, gateway))
    assert unresolved == PaymentUnresolved(order_id="o-1", amount=MONEY)
    check_unsettled(nowhere, unresolved)


def test_an_answer_that_makes_no_sense_leaves_payments_unresolved_and_is_asked_for_again(serve: Serve):
    url = serve(babble)
    unresolved = ask(url, lambda gateway: charge(RESERVED, gateway))
    assert unresolved == PaymentUnresolved(order_id="o-1", amount=MONEY)
    check_unsettled(url, unresolved)


def test_calls_that_are_cancelled_leave_no_place_in_the_pool_taken(url: str):
    """What effects that time out do to their client, under load and after a pause."""

    async def cancel_many() -> list[object]:
        limits = httpx2.Limits(max_connections=4)
        async with httpx2.AsyncClient(base_url=url, timeout=5, limits=limits) as client:
            gateway = Gateway(client)
            for cancelled in range(6):
                calls = [asyncio.create_task(gateway.charge(f"{cancelled}-{n}", MONEY)) for n in range(40)]
                for _ in range(cancelled):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
            return [await gateway.charge("after", MONEY)]

    assert asyncio.run(cancel_many()) == [Charged(MONEY)]


def test_idle_connections_are_closed_though_no_request_comes(url: str):
    async def closed_in_time() -> None:
        provided = connect(Settings(addresses={"gateway": url}))
        gateway = await anext(provided)
        try:
            await asyncio.gather(*(gateway.charge(f"o-{number}", MONEY) for number in range(8)))
            assert sockets(url)
            await asyncio.to_thread(wait_until, lambda: not sockets(url), seconds=60, what="all to be closed")
        finally:
            await provided.aclose()  # type: ignore[attr-defined] # connect is a generator

    asyncio.run(closed_in_time())


def sockets(url: str) -> list[str]:
    """The states of this machine's sockets to the server at `url`, but for those that are closed on this side."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # FIN_WAIT1, FIN_WAIT2, TIME_WAIT and LAST_ACK are no longer ours to close.
    return [row[3] for row in rows if row[2].endswith(port) and row[3] not in ("04", "05", "06", "09")]


@pytest.mark.parametrize("handler", [*payment.of_kind(Kind.EFFECT), *email.of_kind(Kind.EFFECT)], ids=lambda h: h.name)
def test_clients_give_up_before_their_effects_and_effects_are_tried_for_a_day(handler: Any):
    longest = SEND_WITHIN if handler.name == "send" else 2 * ANSWER_WITHIN
    assert longest < handler.timeout.total_seconds()
    assert handler.retry.attempts is None
    assert handler.retry.within.total_seconds() >= 24 * 3600


def test_a_cancel_gives_a_charge_back_and_says_so_each_time(url: str):
    ask(url, lambda gateway: charge(RESERVED, gateway))
    for _ in range(2):
        assert ask(url, lambda gateway: void(CANCELLED, gateway)) == PaymentRefunded(order_id="o-1", amount=MONEY)
    assert [entry["state"] for entry in payments(url)["charges"]] == ["refunded"]


def test_a_charge_that_comes_after_its_cancel_is_declined(url: str):
    assert ask(url, lambda gateway: void(CANCELLED, gateway)) is None
    late = ask(url, lambda gateway: charge(RESERVED, gateway))
    assert late == PaymentDeclined(order_id="o-1", reason="voided")
    assert ask(url, lambda gateway: void(CANCELLED, gateway)) is None


def test_a_return_is_refunded_once(url: str):
    command = RefundReturn(return_id="r-1", refund=MONEY)
    for _ in range(2):
        assert ask(url, lambda gateway: refund(command, gateway)) == ReturnRefunded(return_id="r-1", amount=MONEY)
    assert payments(url)["refunds"] == [{"key": "r-1", "amount": "19.8000", "state": "refunded", "reason": None}]


def test_a_refused_refund_stays_refused(url: str):
    httpx.post(f"{url}/behaviour", json={"refuse_refunds_above": "19.79"}).raise_for_status()
    command = RefundReturn(return_id="r-1", refund=MONEY)
    refused = ReturnRefundRefused(return_id="r-1", reason="refund limit exceeded")
    assert ask(url, lambda gateway: refund(command, gateway)) == refused
    httpx.post(f"{url}/behaviour", json={}).raise_for_status()
    assert ask(url, lambda gateway: refund(command, gateway)) == refused
    assert payments(url)["refunds"] == []


def test_a_new_process_knows_what_the_last_one_did(serve: Serve, tmp_path: Path):
    first, second = (serve(application(tmp_path / "gateway.db")) for _ in range(2))
    ask(first, lambda gateway: charge(RESERVED, gateway))
    assert ask(second, lambda gateway: void(CANCELLED, gateway)) == PaymentRefunded(order_id="o-1", amount=MONEY)


@pytest.mark.parametrize(
    ("headers", "body"),
    [({}, '{"amount": "1"}'), *(({"Idempotency-Key": "k"}, body) for body in ("", "{}", '{"amount": "-1"}', "[1]"))],
)
def test_the_gateway_refuses_what_makes_no_sense(url: str, headers: dict[str, str], body: str):
    assert httpx.post(f"{url}/charges", content=body, headers=headers).status_code == 400
    assert payments(url)["charges"] == []


def test_which_charges_are_struck_depends_on_the_seed_alone():
    struck = [key for key in map(str, range(1000)) if Behaviour(seed=7).strikes("decline", key, 0.1)]
    assert 60 < len(struck) < 140
    assert struck == [key for key in map(str, range(1000)) if Behaviour(seed=7).strikes("decline", key, 0.1)]
    assert struck != [key for key in map(str, range(1000)) if Behaviour(seed=8).strikes("decline", key, 0.1)]
