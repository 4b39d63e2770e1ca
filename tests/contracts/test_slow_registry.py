"""A worker under load whose registry is slow, then down, then talks nonsense, then is back: nothing is lost."""

import io
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fastavro
import httpx
import pytest
from tests.contracts.conftest import answer
from tests.runtime.rig import Rig

from millstream.contracts import Contracts, Registry, avro_schema, subject_for
from millstream.contracts.framing import framing
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

SECONDS_PER_ANSWER = 2.0
NONSENSE = [
    answer(200, "<html>Please log in</html>"),
    answer(200, '{"schema": "{'),
    answer(200, "[]"),
    answer(200, '{"schema": 7}'),
    answer(502, "bad gateway"),
    answer(200, "\x00" * 100),
]


class Proxy:
    """In front of a registry. It answers as `mood` says, and counts how often it was asked in each."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._nonsense = itertools.cycle(NONSENSE)
        self.stopped = threading.Event()
        self.asked: Counter[str] = Counter()
        self.mood: Callable[[BaseHTTPRequestHandler], None] = self.well

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked[self.mood.__name__] += 1
        self.mood(handler)

    def well(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        said = httpx.request(
            handler.command,
            self._registry + handler.path,
            content=body,
            headers={"Content-Type": handler.headers["Content-Type"]},
            timeout=10,
        )
        answer(said.status_code, said.content)(handler)

    def slow(self, handler: BaseHTTPRequestHandler) -> None:
        self.stopped.wait(SECONDS_PER_ANSWER)
        self.well(handler)

    def down(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True

    def mad(self, handler: BaseHTTPRequestHandler) -> None:
        next(self._nonsense)(handler)


@pytest.fixture
def proxy(shared_kafka: LocalKafka) -> Iterator[tuple[Proxy, str]]:
    made = Proxy(shared_kafka.registry)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def do_POST(self) -> None:
            made.answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield made, f"http://127.0.0.1:{server.server_address[1]}"
        made.stopped.set()
        server.shutdown()
        serving.join(5)


class Sender:
    """Who pays: in the version of today, whose schema the service knows, and in others, which it never met."""

    def __init__(self, kafka: LocalKafka, name: str) -> None:
        self._rig = Rig(kafka.bootstrap, kafka.registry, name)
        self._registry = Registry(kafka.registry)
        self.topic = self._rig.parcels.payments
        self.sent: Counter[str] = Counter()

    def pay(self, *orders: str) -> None:
        self._rig.pay(*((order, 1) for order in orders))
        self.sent.update(orders)

    def pay_newly(self, order: str, field: str) -> None:
        """With a schema that has one more field."""
        schema = avro_schema(self._rig.parcels.Paid)
        schema["fields"].append({"name": field, "type": "string", "default": ""})
        schema_id = self._registry.register(subject_for(self.topic, "test.Paid"), json.dumps(schema))
        payload = io.BytesIO()
        fastavro.schemaless_writer(payload, fastavro.parse_schema(schema), {"order_id": order, "grams": 1, field: "x"})
        self.send_raw(framing(schema_id) + payload.getvalue(), order)
        self.sent[order] += 1

    def send_raw(self, value: bytes, order: str) -> None:
        self._rig.send_raw(self.topic, value, order.encode())

    def close(self) -> None:
        self._rig.close()


@contextmanager
def paying_on_and_on(sender: Sender) -> Iterator[None]:
    stop = threading.Event()

    def pay() -> None:
        while not stop.wait(0.02):
            sender.pay(*(f"load-{i}" for i in range(10)))

    paying = threading.Thread(target=pay)
    paying.start()
    try:
        yield
    finally:
        stop.set()
        paying.join(10)


@pytest.mark.slow
def test_a_registry_that_is_slow_then_down_then_mad_loses_nothing_and_holds_up_only_what_it_must(
    shared_kafka: LocalKafka, proxy: tuple[Proxy, str]
):
    registry, url = proxy
    rig = Rig(shared_kafka.bootstrap, url)
    rig.contracts = Contracts(Registry(url, timeout=4.0))
    rig.make_topics()
    sender, load = (Sender(shared_kafka, rig.name) for _ in range(2))
    handled: Counter[str] = Counter()
    rig.parcels.trouble = lambda paid: handled.update([paid.order_id])

    def handles(*orders: str) -> None:
        wait_until(lambda: all(handled[order] for order in orders), seconds=60, what=f"{orders} to be handled")

    def is_asked(mood: str, times: int) -> None:
        wait_until(lambda: registry.asked[mood] >= times, seconds=60, what=f"the registry to be asked while {mood}")

    with rig.running(), paying_on_and_on(load):
        handles("load-0")

        registry.mood = registry.slow
        sender.pay("known-slow")
        handles("known-slow")
        assert not registry.asked["slow"], "who asks for what it knows?"
        sender.pay_newly("new-slow", "one_more")
        handles("new-slow")

        registry.mood = registry.down
        sender.pay("known-down")
        handles("known-down")
        assert not registry.asked["down"], "who asks for what it knows?"
        sender.pay_newly("new-down", "two_more")
        is_asked("down", 3)
        sender.pay("behind")

        registry.mood = registry.mad
        is_asked("mad", len(NONSENSE))
        assert not handled["new-down"]

        registry.mood = registry.well
        handles("new-down", "behind")
        assert rig.dead_letters() == []
        sender.send_raw(framing(2_000_000_000) + b"\x02x\x02", "bad")
        sender.send_raw(b"no event", "bad")
    with rig.running():
        rig.wait_until_caught_up()

    sent = sender.sent + load.sent
    assert rig.shipped() == {order: list(range(1, count + 1)) for order, count in sent.items()}
    reasons = [dict(letter.headers() or ())["millstream-dlq-reason"] for letter in rig.dead_letters()]
    assert sorted(reasons) == [b"not_framed", b"unknown_schema"]
    assert 1 <= registry.asked["slow"] <= 5, "once, or again after a time-out; not for each record"
    for each in (rig, sender, load):
        each.close()
