"""The registry's client: what it remembers, and what it makes of a registry that misbehaves."""

import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO

import pytest
from tests.contracts.conftest import Scripted, answer

from millstream.contracts import Registry, schema_text, subject_for
from millstream.contracts.registry import MAX_BYTES, _read, _Unanswered
from millstream.declare import Value
from millstream.errors import ConfigurationError, ContractError, DecodeError, IncompatibleSchema, RegistryUnavailable


class Stock(Value, namespace="registry"):
    product: str


def stock(fields: list[dict[str, object]]) -> str:
    return json.dumps({"type": "record", "name": "Stock", "namespace": "registry", "fields": fields})


def test_registered_schemas_are_found_and_remembered(registry_url: str) -> None:
    registry = Registry(registry_url)
    subject = subject_for("registry.stock", "registry.Stock")
    schema_id = registry.register(subject, schema_text(Stock))
    assert registry.register(subject, schema_text(Stock)) == schema_id
    assert Registry(registry_url).register(subject, schema_text(Stock)) == schema_id
    assert registry.schema(schema_id) == json.loads(schema_text(Stock))
    assert registry.schema(99_999) is None
    assert registry.schema(-1) is None
    assert subject in registry.subjects()


def test_an_incompatible_schema_is_refused_with_the_registrys_words(registry_url: str) -> None:
    registry = Registry(registry_url)
    registry.register("refused-registry.Stock", stock([{"name": "a", "type": "string"}]))
    with pytest.raises(IncompatibleSchema, match=r"refused-registry\.Stock.*(?s:.)*give new fields a default"):
        registry.register("refused-registry.Stock", stock([{"name": "b", "type": "string"}]))


def test_a_schema_that_is_none(registry_url: str) -> None:
    with pytest.raises(ContractError, match="422"):
        Registry(registry_url).register("broken-registry.Stock", '{"type": "nonsense"}')


def test_answers_are_remembered(scripted: Scripted) -> None:
    scripted.answers = [answer(200, '{"id": 4}'), answer(200, '{"schema": "\\"string\\""}'), answer(500, "")]
    registry = Registry(scripted.url)
    for _ in range(3):
        assert registry.register("s", '"string"') == 4
        assert registry.schema(7) == "string"
    assert scripted.requests == ["POST /subjects/s/versions", "GET /schemas/ids/7"]


def test_a_passing_trouble_is_waited_out(scripted: Scripted) -> None:
    scripted.answers = [answer(500, "oh"), answer(429, "{}"), answer(200, "<html>"), answer(200, '{"id": 4}')]
    assert Registry(scripted.url).register("s", '"string"') == 4
    assert len(scripted.requests) == 4


@pytest.mark.parametrize("body", ["<html>", "[]", '{"id": "4"}', '{"ids": 4}', "[" * 100_000, b"\xff\xfe", ""])
def test_nonsense_means_unavailable(scripted: Scripted, body: str | bytes) -> None:
    scripted.answers = [answer(200, body)]
    with pytest.raises(RegistryUnavailable, match="nonsense"):
        Registry(scripted.url, timeout=1.0).register("s", '"string"')


def test_nobody_there() -> None:
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=r"no answer from .* 127\.0\.0\.1:1 within 0\.3 s"):
        Registry("http://127.0.0.1:1", timeout=0.3).schema(1)
    assert time.monotonic() - began < 30


def test_a_second_address_steps_in(scripted: Scripted) -> None:
    scripted.answers = [answer(200, '{"id": 4}')]
    assert Registry(f"http://127.0.0.1:1, {scripted.url}").register("s", '"string"') == 4


def test_drop_by_drop_is_bounded(scripted: Scripted) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(1000):
            if scripted.stopped.wait(0.05):
                break
            try:
                handler.wfile.write(b" ")
            except OSError:
                break

    scripted.answers = [drip]
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="takes too long"):
        Registry(scripted.url, request_timeout=1.0, timeout=0.6).schema(1)
    assert time.monotonic() - began < 30


def test_an_endless_answer_is_bounded(scripted: Scripted) -> None:
    sent = 0

    def flood(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        with suppress(OSError):
            while not scripted.stopped.is_set():
                sent += handler.wfile.write(b" " * (1 << 20))

    # Its size alone cuts it off: the time is generous, and the second answer is reached long before it is over.
    scripted.answers = [flood, answer(200, '{"schema": "\\"string\\""}')]
    began = time.monotonic()
    assert Registry(scripted.url, request_timeout=60.0, timeout=60.0).schema(1) == "string"
    assert time.monotonic() - began < 30
    assert MAX_BYTES <= sent < 4 * MAX_BYTES


def test_an_answer_that_is_too_long_says_so() -> None:
    with pytest.raises(_Unanswered, match="more than 8 MB"):
        _read(BytesIO(b" " * (MAX_BYTES + 1)), time.monotonic() + 60)
    assert len(_read(BytesIO(b" " * MAX_BYTES), time.monotonic() + 60)) == MAX_BYTES


def test_no_permission(scripted: Scripted) -> None:
    scripted.answers = [answer(401, '{"message": "who?"}')]
    with pytest.raises(ConfigurationError, match="user:password@") as raised:
        Registry(scripted.url.replace("//", "//ann:secret@")).schema(1)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "ftp://127.0.0.1", "http://", ""])
def test_no_url(url: str) -> None:
    with pytest.raises(ConfigurationError, match="http://host:8081"):
        Registry(url)


@pytest.mark.parametrize(
    "found",
    [
        {"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"},
        {"schema": '"string"', "references": [{"name": "a", "subject": "a", "version": 1}]},
        {"schema": "{"},
        {"schema": "[" * 100_000},
    ],
)
def test_schemas_of_another_kind(scripted: Scripted, found: dict[str, object]) -> None:
    scripted.answers = [answer(200, json.dumps(found))]
    with pytest.raises(DecodeError) as raised:
        Registry(scripted.url).schema(1)
    assert raised.value.reason == "unreadable_schema"
