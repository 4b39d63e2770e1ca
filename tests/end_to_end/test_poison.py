"""Bytes that are no event, on every topic that a service reads: set aside intact, and the next event goes on."""

import os
from collections import defaultdict
from collections.abc import Iterable

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.end_to_end.running import Running, eventually
from tests.end_to_end.shop import place, stock, wait_for

from millstream.kafka import connect
from millstream.settings import load_settings

pytestmark = pytest.mark.slow

TOPICS = {
    "orders.events": {"order", "inventory", "payment", "shipping", "read-model"},
    "orders.commands": {"order"},
    "inventory.commands": {"inventory"},
    "inventory.events": {"order", "payment", "read-model"},
    "payments.events": {"order", "payment", "read-model"},
    "shipping.events": {"order", "read-model"},
    "outbox.events": {"email"},
}


def poisons(sound: bytes, foreign: bytes) -> dict[str, bytes]:
    """By the reason that the dead letters must give; `foreign` is an event that the topic's readers do not know."""
    return {
        "unexpected_type": foreign,
        "not_framed": b"\xff" + os.urandom(40),
        "truncated": sound[: len(sound) // 2],
        "unknown_schema": b"\x00\x7f\xff\xff\xff" + sound[5:],
    }


def one_value(bootstrap: str, topic: str) -> bytes:
    """An event that lies on a topic."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "poison-reader", "auto.offset.reset": "earliest"})
    try:
        reader.assign([TopicPartition(topic, partition, 0) for partition in range(6)])
        (message,) = reader.consume(1, 10)
        assert message.error() is None
        return message.value()
    finally:
        reader.close()


Letter = tuple[str, str, bytes, dict[str, bytes]]
"""Service, reason, value and headers."""


def dead_letters(bootstrap: str, topic: str) -> dict[bytes, list[Letter]]:
    """All dead letters of a topic by key."""
    kafka = connect(load_settings(bootstrap_servers=bootstrap), "poison-reader")
    found: dict[bytes, list[Letter]] = defaultdict(list)
    for batch in kafka.read_to_end(f"{topic}.dlq"):
        for message in batch:
            headers = dict(message.headers() or [])
            service, reason = (headers[f"millstream-dlq-{name}"].decode() for name in ("service", "reason"))
            found[message.key() or b""].append((service, reason, message.value() or b"", headers))
    return found


@pytest.mark.scenario(24)
def test_poison_on_every_topic_is_set_aside_intact(orders: Running):
    bootstrap = orders.state["bootstrap_servers"]
    stock(orders.url, {"poison-1": 50})
    first = place(orders.url, [("poison-1", 1, "2.00")])
    wait_for(orders.url, first, "completed")
    httpx.post(f"{orders.url}/orders/{first}/cancel", timeout=10).raise_for_status()
    producer = Producer({"bootstrap.servers": bootstrap})
    sent: dict[tuple[str, bytes], tuple[str, bytes]] = {}
    sounds = {topic: one_value(bootstrap, topic) for topic in TOPICS}
    for topic, sound in sounds.items():
        foreign = sounds["outbox.events" if topic != "outbox.events" else "orders.commands"]
        for reason, value in poisons(sound, foreign).items():
            key = f"poison-{topic}-{reason}".encode()
            producer.produce(topic, value, key, headers=[("mark", key)])
            sent[topic, key] = (reason, value)
    assert producer.flush(10) == 0

    order_id = place(orders.url, [("poison-1", 1, "2.00")])
    wait_for(orders.url, order_id, "completed", within=60)

    for topic, services in TOPICS.items():
        mine = {key: told for (where, key), told in sent.items() if where == topic}

        def all_told(
            topic: str = topic, keys: Iterable[bytes] = mine, services: set[str] = services
        ) -> dict[bytes, list[Letter]] | None:
            letters = dead_letters(bootstrap, topic)
            return letters if all({letter[0] for letter in letters[key]} >= services for key in keys) else None

        letters = eventually(all_told)
        for key, (reason, value) in mine.items():
            for _, why, kept, headers in letters[key]:
                assert (why, kept) == (reason, value), (topic, key)
                assert headers["mark"] == key
                assert headers["millstream-dlq-topic"] == topic.encode()


@pytest.mark.parametrize(
    ("body", "status", "names"),
    [
        (b'{"lines": [', 400, ""),
        (b'{"lines": [], "surprise": 1}', 422, "/surprise"),
        (b'{"lines": [{"product": "nobody-knows", "quantity": 1, "unit_price": "1"}]}', 422, "/lines/0/product"),
        (b'{"lines": [{"product": "p", "quantity": 0, "unit_price": "1"}]}', 422, "/lines/0/quantity"),
        (b'{"lines": [{"product": "p", "quantity": -1, "unit_price": "1"}]}', 422, "/lines/0/quantity"),
        (b'{"lines": [{"product": "p", "quantity": 10000000, "unit_price": "1"}]}', 422, "/lines/0/quantity"),
        (b'{"lines": [{"product": "p", "quantity": "3", "unit_price": "1"}]}', 422, "/lines/0/quantity"),
        (b'{"lines": "' + b"x" * 10_000_000 + b'"}', 413, ""),
    ],
    ids=["malformed", "unknown-field", "unknown-product", "zero", "minus-one", "ten-million", "text", "ten-megabytes"],
)
def test_bad_requests_are_refused_by_field_and_write_nothing(orders: Running, body: bytes, status: int, names: str):
    def written() -> int:
        reader = Consumer({"bootstrap.servers": orders.state["bootstrap_servers"], "group.id": "counter"})
        try:
            partitions = [TopicPartition("orders.events", partition) for partition in range(6)]
            return sum(reader.get_watermark_offsets(partition, timeout=5)[1] for partition in partitions)
        finally:
            reader.close()

    stock(orders.url, {"p": 1})
    before = written()
    answer = httpx.post(f"{orders.url}/orders", content=body, headers={"content-type": "application/json"}, timeout=10)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert names in answer.text
    assert written() == before


def test_a_repeated_key_with_another_body_is_refused(orders: Running):
    stock(orders.url, {"twice": 9})
    headers = {"idempotency-key": "the-same-key"}
    body = {"lines": [{"product": "twice", "quantity": 1, "unit_price": "1.00"}]}
    first = httpx.post(f"{orders.url}/orders", json=body, headers=headers, timeout=10)
    again = httpx.post(f"{orders.url}/orders", json=body, headers=headers, timeout=10)
    other = httpx.post(f"{orders.url}/orders", json={**body, "customer": "c"}, headers=headers, timeout=10)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
