"""Mails: what they say, and that they arrive by SMTP."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from millstream import Envelope, Unsettled
from millstream.settings import Settings
from orders.contracts import MailDue
from orders.email.service import mailer, render, send
from orders.sandbox.mailbox import application

Serve = Callable[[Any], str]
ENVELOPE = Envelope(
    id="e-1",
    type="orders.MailDue",
    source="order",
    time=datetime(2026, 1, 1, tzinfo=UTC),
    key="o-1",
    topic="outbox.events",
    partition=0,
    offset=0,
    correlation_id="e-1",
)


def due(**changes: Any) -> MailDue:
    return MailDue(**({"about": "o-1", "kind": "created", "customer_id": "17850", "amount": Decimal("19.8")} | changes))


async def deliver(addresses: dict[str, str], *mails: MailDue) -> None:
    connection = mailer(Settings(addresses=addresses))
    sender = await anext(connection)
    try:
        for mail in mails:
            await send(mail, ENVELOPE, sender)
    finally:
        await connection.aclose()  # type: ignore[attr-defined] # it is an async generator


@pytest.mark.parametrize("kind", ["created", "completed", "cancelled", "returned", "return_refused"])
def test_every_kind_of_mail_says_what_it_is_about(kind: str):
    mail = render(due(kind=kind, reason="out of stock: 22465"), ENVELOPE)
    assert "19.80 GBP" in mail.get_content() and "o-1" in mail.get_content()
    assert mail["To"] == "customer-17850@customers.example"
    assert mail["Message-ID"] == "<e-1@orders.shop.example>"
    assert ("out of stock" in mail.get_content()) == (kind in ("cancelled", "return_refused"))


def test_a_mail_that_is_refused_for_now_is_unsettled_and_taken_later(serve: Serve, tmp_path: Path):
    url = serve(application(tmp_path / "mails.jsonl", "127.0.0.1"))
    httpx.post(f"{url}/behaviour", json={"refuse_ratio": 1}).raise_for_status()
    with pytest.raises(Unsettled, match="451"):
        asyncio.run(deliver({"mailbox": url}, due()))
    httpx.post(f"{url}/behaviour", json={}).raise_for_status()
    asyncio.run(deliver({"mailbox": url}, due()))
    assert len(httpx.get(f"{url}/mails").json()) == 1


def test_guests_and_odd_customers_have_addresses_too():
    assert render(due(customer_id=None), ENVELOPE)["To"] == "guest@customers.example"
    assert render(due(customer_id="a b@c\u00e9"), ENVELOPE)["To"] == "customer-a-b-c-@customers.example"


def test_a_reference_cannot_add_headers():
    mail = render(due(reference="1\u2028Bcc: all@example.org\nX: y"), ENVELOPE)
    assert mail["Bcc"] is None and mail["X"] is None


@pytest.mark.slow
def test_mails_arrive_in_the_mailbox_and_outlive_it(serve: Serve, tmp_path: Path):
    path = tmp_path / "mails.jsonl"
    url = serve(application(path, "127.0.0.1"))
    asyncio.run(deliver({"mailbox": url}, due(), due(kind="completed"), due(about="o-2")))
    mails = httpx.get(f"{url}/mails", params={"about": "o-1"}).json()
    assert [(mail["kind"], mail["to"]) for mail in mails] == [
        ("created", "customer-17850@customers.example"),
        ("completed", "customer-17850@customers.example"),
    ]
    assert "Your order o-2 has arrived" in httpx.get(url).text
    with path.open("ab") as file:
        file.write(b'{"message_id": "cut off by kill -9')
    again = serve(application(path, "127.0.0.1"))
    everything = httpx.get(f"{again}/mails").json()
    assert len(everything) == 3
    pages = [httpx.get(f"{again}/mails", params={"after": after, "limit": 2}).json() for after in (0, 2, 4)]
    assert pages == [everything[:2], everything[2:], []]
    assert httpx.get(f"{again}/mails", params={"after": "x"}).status_code == 422


def test_a_mail_is_taken_without_a_line_in_the_log(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        url = serve(application(tmp_path / "mails.jsonl", "127.0.0.1"))
        asyncio.run(deliver({"mailbox": url}, due()))
    assert httpx.get(f"{url}/mails").json()
    assert [record for record in caplog.records if record.name == "mail.log"] == []


def test_a_mail_that_nobody_takes_is_tried_again():
    with pytest.raises(Unsettled):
        asyncio.run(deliver({"smtp": "smtp://127.0.0.1:1"}, due()))
