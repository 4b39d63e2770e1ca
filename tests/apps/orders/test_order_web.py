"""The order service's HTTP interface: what it writes, and that bad requests write nothing."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from millstream.contracts import Contracts, Registry
from millstream.http import Web
from millstream.kafka import Kafka, connect
from millstream.operate.assembly import topics_of
from millstream.runtime.sql.database import open_database
from millstream.settings import Settings
from millstream.telemetry import Health, Tracer
from millstream.testing.local import LocalKafka
from orders.contracts import CancelOrder, MailDue, OrderCreated, OrderLine, ProductStocked, RequestReturn, StockProduct
from orders.order import catalogue
from orders.order.service import order
from orders.order.web import app as make_app

TOPICS = ("orders.events", "orders.commands", "outbox.events", "inventory.commands")


@dataclass
class Shop:
    """The application at a URL, and what it has written."""

    url: str
    kafka: Kafka
    contracts: Contracts
    engine: Any

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes | str) else json.dumps(body)
        return httpx.post(self.url + path, content=content, headers={"Content-Type": "application/json"} | headers)

    def written(self) -> list[Any]:
        """Every committed event and command, topic by topic."""
        decoder = self.contracts.decoder(
            [OrderCreated.__home__, CancelOrder.__home__, MailDue.__home__, StockProduct.__home__]
        )
        return [
            decoder.decode(message.value())
            for topic in TOPICS
            for batch in self.kafka.read_to_end(topic, timeout=10)
            for message in batch
        ]

    def about(self, id: str) -> list[Any]:
        return [
            event for event in self.written() if id in (getattr(event, name, None) for name in event.__struct_fields__)
        ]


@pytest.fixture
def shop(shared_kafka: LocalKafka, serve: Callable[[Any], str], tmp_path: Path) -> Iterator[Shop]:
    settings = Settings(bootstrap_servers=shared_kafka.bootstrap, registry_url=shared_kafka.registry, data_dir=tmp_path)
    kafka = connect(settings, "test")
    admin = kafka.admin()
    admin.ensure_topics(topics_of(order), timeout=30)
    admin.close()
    contracts = Contracts(Registry(settings.registry_url))
    contracts.register(order.produced())
    engine = open_database(order, settings)
    with engine.begin() as db:
        for product in ("22465", "85123A"):
            catalogue.keep(ProductStocked(product=product, name="?", quantity=1, on_hand=1), db)
    web = Web(order, settings, contracts, kafka, engine=lambda: engine, health=Health(), tracer=Tracer())
    app = make_app(web)
    stop = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in web.workers]
    for thread in threads:
        thread.start()
    try:
        yield Shop(serve(app), kafka, contracts, engine)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
        engine.dispose()


def new_order(**changes: Any) -> dict[str, Any]:
    line = {"product": "22465", "quantity": 12, "unit_price": "1.65"}
    return {"customer": "17850", "country": "France", "reference": "536365", "lines": [line]} | changes


def with_line(**changes: Any) -> dict[str, Any]:
    return new_order(lines=[new_order()["lines"][0] | changes])


def test_an_order_is_written_with_its_mail(shop: Shop):
    body = new_order(lines=[*new_order()["lines"], {"product": "85123A", "quantity": 3, "unit_price": 0.1}])
    answer = shop.post("/orders", body)
    assert answer.status_code == 202
    order_id = answer.json()["id"]
    assert answer.headers["location"] == f"/orders/{order_id}"
    assert Decimal(answer.json()["total"]) == Decimal("20.10")
    created, mail = sorted(shop.about(order_id), key=lambda event: type(event).__name__, reverse=True)
    assert created == OrderCreated(
        order_id=order_id,
        customer_id="17850",
        country="France",
        reference="536365",
        lines=(
            OrderLine(product="22465", quantity=12, unit_price=Decimal("1.6500")),
            OrderLine(product="85123A", quantity=3, unit_price=Decimal("0.1000")),
        ),
        total=Decimal("20.1000"),
    )
    assert (mail.about, mail.kind, mail.amount) == (order_id, "created", Decimal("20.1000"))


def test_a_guest_may_order(shop: Shop):
    body = new_order()
    del body["customer"], body["country"], body["reference"]
    assert shop.post("/orders", body).status_code == 202


def test_a_key_is_one_order_and_holds_to_its_body(shop: Shop):
    key = uuid4().hex
    first, again = (shop.post("/orders", new_order(), **{"Idempotency-Key": key}) for _ in range(2))
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json() and first.headers["location"] == again.headers["location"]
    assert len(shop.about(first.json()["id"])) == 2
    other = shop.post("/orders", with_line(quantity=13), **{"Idempotency-Key": key})
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    assert len(shop.about(first.json()["id"])) == 2


def test_a_cancel_and_a_return_become_commands(shop: Shop):
    order_id = str(uuid4())
    assert shop.post(f"/orders/{order_id}/cancel", b"").status_code == 202
    assert shop.about(order_id) == [CancelOrder(order_id=order_id)]
    answer = shop.post("/returns", new_order())
    assert answer.headers["location"] == f"/returns/{answer.json()['id']}"
    [command] = shop.about(answer.json()["id"])
    assert isinstance(command, RequestReturn) and command.refund == Decimal("19.8000")


def test_a_delivery_becomes_a_command_for_each_product(shop: Shop):
    products = [{"product": product, "name": "Lantern", "quantity": 100} for product in ("A", "B")]
    answer = httpx.put(f"{shop.url}/products", json={"products": products})
    assert answer.status_code == 202
    assert sorted(event.product for event in shop.about(answer.json()["id"])) == ["A", "B"]


def test_the_catalogue_is_listed_in_pages(shop: Shop):
    page = httpx.get(f"{shop.url}/products", params={"limit": 1}).json()["products"]
    assert [row["product"] for row in page] == ["22465"]
    page = httpx.get(f"{shop.url}/products", params={"after": "22465"}).json()["products"]
    assert [row["product"] for row in page] == ["85123A"]


BAD_ORDERS: list[tuple[Any, int, str]] = [
    ("{not json", 400, ""),
    (b"\xff\xfe", 400, ""),
    ([], 422, "#"),
    (new_order(discount=1), 422, "#/discount"),
    (with_line(colour="red"), 422, "#/lines/0/colour"),
    (new_order(lines=[]), 422, "#/lines"),
    (new_order(lines=new_order()["lines"] * 2001), 422, "#/lines"),
    *((with_line(quantity=quantity), 422, "#/lines/0/quantity") for quantity in (0, -1, 10**7, "3", 1.5, True, None)),
    *(
        (with_line(unit_price=price), 422, "#/lines/0/unit_price")
        for price in ("-0.01", "0.00001", "1000000.01", "NaN", "Infinity", True, None, "x", [])
    ),
    ('{"lines": [{"product": "22465", "quantity": 1, "unit_price": NaN}]}', 422, "#/lines/0/unit_price"),
    (with_line(product="unheard-of"), 422, "#/lines/0/product"),
    (with_line(product=""), 422, "#/lines/0/product"),
    (with_line(product="2246\u00005"), 422, "#/lines/0/product"),
    (with_line(product=22465), 422, "#/lines/0/product"),
    (with_line(quantity=100_000, unit_price="1000000"), 422, "#/lines"),
    (new_order(customer=""), 422, "#/customer"),
    (new_order(customer=17850), 422, "#/customer"),
    (new_order(reference="x" * 101), 422, "#/reference"),
    (new_order(customer="\ud800"), 422, "#/customer"),
    (b'{"customer": "' + b"x" * 10_000_000 + b'"}', 413, ""),
]


@pytest.mark.slow
def test_bad_requests_are_explained_and_nothing_is_written(shop: Shop):
    before = len(shop.written())
    for path in ("/orders", "/returns"):
        for body, status, pointer in BAD_ORDERS:
            shown = repr(body)[:80]
            answer = shop.post(path, body, **{"Idempotency-Key": uuid4().hex})
            assert answer.status_code == status, (shown, answer.text)
            assert answer.headers["content-type"] == "application/problem+json", shown
            problem = answer.json()
            assert problem["status"] == status and problem["title"], shown
            if pointer:
                assert pointer in [error["pointer"] for error in problem["errors"]], (shown, problem)
    assert shop.post("/orders/not-an-id/cancel", b"").status_code == 422
    assert shop.post("/orders", new_order(), **{"Idempotency-Key": "x" * 256}).status_code == 422
    assert len(shop.written()) == before


def test_a_key_of_a_bad_request_can_be_used_for_the_right_one(shop: Shop):
    key = uuid4().hex
    assert shop.post("/orders", with_line(quantity=0), **{"Idempotency-Key": key}).status_code == 422
    assert shop.post("/orders", new_order(), **{"Idempotency-Key": key}).status_code == 202


def test_a_product_can_be_ordered_as_soon_as_the_catalogue_has_it(shop: Shop):
    assert shop.post("/orders", with_line(product="NEW")).status_code == 422
    with shop.engine.begin() as db:
        catalogue.keep(ProductStocked(product="NEW", name="?", quantity=1, on_hand=1), db)
    assert shop.post("/orders", with_line(product="NEW")).status_code == 202
