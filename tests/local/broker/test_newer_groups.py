"""Clients that ask for a group protocol which is not spoken here are told so at once."""

import time
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, ShareConsumer

SECONDS = 5


def _settings(broker: Any) -> dict[str, Any]:
    return {"bootstrap.servers": broker.bootstrap, "group.id": "g", "log_level": 0}


def _fatal(poll: Any) -> KafkaError:
    """The fatal error that polling shows, by an exception or a message; the test fails if none comes in time."""
    give_up = time.monotonic() + SECONDS
    while time.monotonic() < give_up:
        try:
            message = poll(0.1)
        except KafkaException as raised:
            error = raised.args[0]
        else:
            error = message and message.error()
        if error and (error.fatal() or error.code() == KafkaError._FATAL):
            return error
    pytest.fail(f"no fatal error within {SECONDS} s")


@pytest.mark.parametrize("more", [{}, {"group.instance.id": "slot-0"}, {"group.remote.assignor": "uniform"}])
def test_a_consumer_of_the_newer_protocol_fails_at_once(broker: Any, more: dict[str, str]):
    broker.create("t")
    consumer = Consumer({**_settings(broker), "group.protocol": "consumer", **more})
    consumer.subscribe(["t"])
    assert "API version not supported" in _fatal(consumer.poll).str()
    consumer.close()


def test_a_share_consumer_fails_at_once(broker: Any):
    broker.create("t")
    consumer = ShareConsumer(_settings(broker))
    consumer.subscribe(["t"])
    assert _fatal(lambda _: (consumer.poll(0.1) or [None])[0]).code() == KafkaError.UNSUPPORTED_VERSION
    consumer.close()
