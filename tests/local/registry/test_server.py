"""The HTTP server under friendly and unfriendly clients."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tests.local.registry.talk import ONE, refusal, registered

from millstream.local.http import MAX_BODY_BYTES
from millstream.local.registry import Limits, serve

Run = Callable[..., AbstractContextManager[httpx.Client]]


@pytest.fixture
def impatient(log: Any) -> Iterator[httpx.Client]:
    """A registry that waits half a second for a request and has room for five connections."""
    with start_blocking_portal() as portal:
        registry = portal.call(serve, log, "127.0.0.1", 0, Limits(request_seconds=0.5, connections=5))
        try:
            with httpx.Client(base_url=registry.url, timeout=60) as client:
                yield client
        finally:
            portal.call(registry.close)


def connected(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    found = b""
    while more := connection.recv(65_536):
        found += more
    return found


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/vnd.schemaregistry.v1+json"),
        ("application/vnd.schemaregistry.v1+json", "application/vnd.schemaregistry.v1+json"),
        ("application/vnd.schemaregistry+json", "application/vnd.schemaregistry+json"),
        ("application/json", "application/json"),
        (
            "application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json, application/json",
            "application/vnd.schemaregistry.v1+json",
        ),
        ("text/html;q=0.9, application/json;q=0.5", "application/json"),
    ],
)
def test_answers_are_called_what_the_client_asks_for(registry: httpx.Client, accept: str, media_type: str) -> None:
    """https://docs.confluent.io/platform/current/schema-registry/develop/api.html#content-types"""
    answer = registry.get("/subjects", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type


def test_what_cannot_be_written_is_not_acceptable(registry: httpx.Client) -> None:
    assert refusal(registry.get("/subjects", headers={"accept": "text/html"})) == (406, 406)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/vnd.schemaregistry.v1+json",
        "application/vnd.schemaregistry+json",
        "application/json",
        "application/json; charset=utf-8",
        "application/octet-stream",
        None,
    ],
)
def test_bodies_are_taken_under_every_name_that_confluent_takes(
    registry: httpx.Client, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    body = json.dumps({"schema": ONE}).encode()
    answer = registry.post("/subjects/s/versions", content=body, headers=headers)
    assert answer.status_code == 200, answer.text


def test_a_form_is_no_schema(registry: httpx.Client) -> None:
    assert refusal(registry.post("/subjects/s/versions", data={"schema": ONE})) == (415, 415)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (422, 422)),
        (b"{", (400, 400)),
        (b"\xff\xfe", (400, 400)),
        (b'"schema"', (400, 400)),
        (b"[" * 100_000, (400, 400)),
        (b'{"schema": "x", "references": 7}', (400, 400)),
        (b'{"schema": "x", "references": [{"name": "x"}]}', (400, 400)),
        (b'{"schema": "x", "id": "many"}', (400, 400)),
        (b'{"schema": "\\"string\\"", "ruleSet": {"domainRules": []}}', (422, 42210)),
        (b'{"schema": "\\"string\\"", "schemaTagsToAdd": [{}]}', (422, 422)),
        (b'{"schema": "\\"string\\"", "schemaType": "PROTOBUF"}', (422, 42201)),
        (b'{"schema": "\\"string\\"", "schemaType": "avro"}', (422, 42201)),
        (b'{"schema": "\\ud800"}', (400, 400)),
        (b'{"schema": "{\\"type\\": \\"string\\", \\"doc\\": \\"\\\\ud800\\"}"}', (422, 42201)),
    ],
    ids=range(14),
)
def test_bodies_that_are_none_are_refused_and_not_written(
    registry: httpx.Client, log: Any, body: bytes, expected: tuple[int, int]
) -> None:
    assert refusal(registry.post("/subjects/s/versions", content=body)) == expected
    assert log.topics["_schemas"] == []


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/schemas/ids/x", "/schemas/ids/99999999999", "/schemas/ids/-1", "/subjects/s/versions/1/what"],
)
def test_pages_that_are_not_there_are_not_found(registry: httpx.Client, path: str) -> None:
    assert refusal(registry.get(path)) == (404, 404)


def test_head_is_get_without_the_answer(registry: httpx.Client) -> None:
    registered(registry, "s", ONE)
    whole, head = registry.get("/subjects"), registry.head("/subjects")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert registry.get("/subjects").json() == ["s"], "the connection goes on"


def test_the_process_tells_its_health_and_metrics(registry: httpx.Client) -> None:
    assert registry.get("/health").json()["status"] == "healthy"
    assert registry.get("/metrics").headers["content-type"].startswith("text/plain")


def test_a_client_may_wait_to_be_told_to_go_on(registry: httpx.Client) -> None:
    body = json.dumps({"schema": ONE}).encode()
    with connected(registry) as client:
        client.sendall(
            b"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert client.recv(1_000).startswith(b"HTTP/1.1 100")
        client.sendall(body)
        assert everything(client).startswith(b"HTTP/1.1 200")


def test_a_body_may_come_in_pieces(registry: httpx.Client) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"schema": '
        yield json.dumps(ONE).encode()
        yield b"}"

    answer = registry.post("/subjects/s/versions", content=pieces(), headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text


def test_two_requests_at_once_are_answered_in_order(registry: httpx.Client) -> None:
    with connected(registry) as client:
        client.sendall(
            b"GET /contexts HTTP/1.1\r\nHost: x\r\n\r\n"
            b"GET /schemas/types HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = everything(client)
    assert answers.index(b'["."]') < answers.index(b'["AVRO"')


@pytest.mark.parametrize(
    "said",
    [b"", b"GET /subj", b"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"],
    ids=["silent", "half a line", "half a body"],
)
def test_a_client_that_says_nothing_is_hung_up_on(impatient: httpx.Client, said: bytes) -> None:
    with connected(impatient) as client:
        client.sendall(said)
        began = time.monotonic()
        assert everything(client) == b""
        assert 0.3 < time.monotonic() - began < 60


def test_a_client_that_dribbles_is_hung_up_on(impatient: httpx.Client) -> None:
    """A byte now and then is no request: the time is for the whole of it."""
    began = time.monotonic()

    def dribble(client: socket.socket) -> None:
        for byte in b"GET /subjects HTTP/1.1\r\nX-Slow: " + b"x" * 100:
            client.sendall(bytes([byte]))
            time.sleep(0.1)

    with connected(impatient) as client, pytest.raises(ConnectionError):
        dribble(client)
    assert time.monotonic() - began < 12


def test_more_connections_than_there_is_room_for_are_turned_away(impatient: httpx.Client) -> None:
    held = [connected(impatient) for _ in range(5)]
    try:
        with connected(impatient) as late:
            assert everything(late).startswith(b"HTTP/1.1 503")
    finally:
        for connection in held:
            everything(connection)
            connection.close()
    assert impatient.get("/subjects").json() == []


@pytest.mark.parametrize(
    "said",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    ],
    ids=["tls", "no http", "negative", "two lengths", "endless header"],
)
def test_what_is_no_http_is_refused_and_hung_up_on(registry: httpx.Client, said: bytes) -> None:
    with connected(registry) as client:
        try:
            client.sendall(said)
            answer = everything(client)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert registry.get("/subjects").json() == []


def test_an_endless_body_is_cut_off(registry: httpx.Client) -> None:
    with connected(registry) as client:
        client.sendall(
            b"POST /subjects/s/versions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        with pytest.raises(ConnectionError):
            client.sendall((b"10000\r\n" + b" " * 0x10000 + b"\r\n") * (10 * MAX_BODY_BYTES // 0x10000))


def test_a_log_that_fails_is_a_failure_of_the_store(log: Any, registry: httpx.Client) -> None:
    """Error 50001; with the log back, everything goes on."""
    registered(registry, "s", ONE)
    log.broken = OSError("the disk is full")
    assert refusal(registry.post("/subjects/t/versions", json={"schema": ONE})) == (500, 50001)
    assert "disk is full" in registry.get("/subjects").json()["message"]
    assert registry.get("/schemas/ids/1").json()["schema"], "what is known is answered without the log"
    log.broken = None
    assert registered(registry, "t", ONE) == 1


@pytest.mark.slow
def test_a_schema_of_a_megabyte_does_not_stop_the_others(registry: httpx.Client) -> None:
    fields = [{"name": f"f{i}", "type": ["null", "string"], "default": None} for i in range(12_000)]
    big = json.dumps({"type": "record", "name": "Big", "fields": fields})
    assert 700_000 < len(big) < 1_000_000
    began = time.monotonic()
    first = registered(registry, "s", big)
    assert registered(registry, "s", big) == first
    assert time.monotonic() - began < 20
    assert registry.post("/compatibility/subjects/s/versions", json={"schema": big}).json() == {"is_compatible": True}
