"""Headers that the client library cannot decode are asked for once, and never again."""

from typing import Any

import pytest
from tests.kafka.unreadable import Undecodable

from millstream.errors import DecodeError
from millstream.kafka import Message
from millstream.kafka.unreadable import has_unreadable_headers, headers_of, with_safe_headers
from millstream.operate.cli.tail import describe
from millstream.runtime.records.dead_letter import dead_letter
from millstream.runtime.task.parked import park
from millstream.testing.simulation.cluster.records import SimulatedMessage


def record(key: bytes = b"k", headers: list[tuple[str, bytes | None]] | None = None) -> SimulatedMessage:
    return SimulatedMessage("orders.events", 1, 42, (1, 1_000), key, b"value", headers or [])


def as_message(stand_in: Any) -> Message:
    return stand_in


def test_each_record_is_asked_once_and_those_that_can_be_read_stay_as_they_are():
    good, bad = record(headers=[("a", None)]), Undecodable(record())
    first, second = with_safe_headers([good, as_message(bad)])
    assert first is good
    assert bad.asked == 1
    for _ in range(2):
        with pytest.raises(DecodeError) as raised:
            second.headers()
        assert raised.value.reason == "headers_unreadable"
        assert "redrive" in str(raised.value)
        assert "secret" not in str(raised.value)
    assert bad.asked == 1
    assert (second.topic(), second.partition(), second.offset(), second.key(), second.value(), second.timestamp()) == (
        "orders.events", 1, 42, b"k", b"value", (1, 1_000),
    )  # fmt: skip
    assert (headers_of(first), headers_of(second)) == ([("a", None)], [])
    assert (has_unreadable_headers(first), has_unreadable_headers(second)) == (False, True)


def test_its_dead_letter_has_what_can_be_kept_and_says_what_is_not():
    (message,) = with_safe_headers([as_message(Undecodable(record()))])
    with pytest.raises(DecodeError) as raised:
        message.headers()
    _, key, value, headers = dead_letter(message, service="s", handler=None, error=raised.value, attempts=0)
    assert (key, value) == (b"k", b"value")
    told = dict(headers)
    assert told["millstream-dlq-reason"] == b"headers_unreadable"
    assert told["millstream-dlq-headers"] == b"unreadable"


def test_parked_it_is_still_one_whose_headers_cannot_be_read():
    (message,) = with_safe_headers([as_message(Undecodable(record()))])
    parked = park(message)
    assert parked.raw_headers is None
    with pytest.raises(DecodeError, match="headers_unreadable"):
        parked.headers()
    assert park(record(headers=[("nothing", None)])).headers() == [("nothing", None)]


def test_tail_shows_it():
    class Nothing:
        def decode_any(self, topic: str, value: bytes) -> str:
            return value.decode()

    (message,) = with_safe_headers([as_message(Undecodable(record()))])
    told = describe(message, Nothing())  # type: ignore[arg-type] # the registry is of no concern here
    assert (told["key"], told["value"], told["headers_unreadable"]) == ("k", "value", True)


def test_a_simulated_record_with_a_name_that_is_no_text_is_one_too():
    class NoText(bytes):
        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            raise UnicodeDecodeError("utf-8", b"", 0, 1, "stand-in")

    message = record().with_headers([NoText(b"name")], [b"1"])
    assert has_unreadable_headers(message)
    assert record().with_headers([b"name"], [None]).headers() == [("name", None)]
