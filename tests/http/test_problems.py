"""What a client is told when a request fails, over real sockets."""

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import create_engine, text
from starlette.types import ASGIApp

from millstream.errors import CommitUnknown, EncodeError, Unavailable
from millstream.http.problem import Problem
from millstream.http.problems import install_problems

Serve = Callable[[ASGIApp], str]


class Line(BaseModel):
    model_config = ConfigDict(extra="forbid")
    product: str
    quantity: Annotated[int, Field(gt=0, le=1_000_000, strict=True)]


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lines: list[Line]


def application() -> FastAPI:
    app = FastAPI()
    install_problems(app)

    @app.post("/orders")
    async def place(order: Order) -> int:
        return len(order.lines)

    @app.get("/orders")
    async def find(limit: Annotated[int, Query(le=100)] = 10) -> int:
        return limit

    @app.get("/fail/{how}")
    async def fail(how: str) -> None:
        raise {
            "problem": Problem(409, "used already", key="k-1"),
            "unknown": CommitUnknown("commit of txn order.publisher.0 at 10.0.0.7:9092"),
            "kafka": Unavailable("10.0.0.7:9092 does not answer"),
            "encode": EncodeError("OrderCreated.total: too many digits"),
            "bug": RuntimeError("password=hunter2"),
        }[how]

    @app.get("/look/{where}")
    async def look(where: str) -> None:
        url = {"away": "postgresql+psycopg://me@127.0.0.1:1/away", "here": "sqlite://"}[where]
        with create_engine(url).connect() as connection:
            connection.execute(text("SELECT secret FROM nowhere"))

    return app


@pytest.fixture
def client(serve: Serve) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serve(application()), timeout=60) as client:
        yield client


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert (response.status_code, told["status"]) == (status, status)
    assert told["type"]
    assert told["title"]
    return told


@pytest.mark.parametrize(
    ("line", "pointer"),
    [
        ({"product": "22465", "quantity": 0}, "#/lines/0/quantity"),
        ({"product": "22465", "quantity": -1}, "#/lines/0/quantity"),
        ({"product": "22465", "quantity": 10**7}, "#/lines/0/quantity"),
        ({"product": "22465", "quantity": "3"}, "#/lines/0/quantity"),
        ({"quantity": 3}, "#/lines/0/product"),
        ({"product": "22465", "quantity": 3, "colour/~": "red"}, "#/lines/0/colour~1~0"),
    ],
)
def test_a_bad_field_is_named_and_not_echoed(client: httpx.Client, line: dict[str, Any], pointer: str):
    told = problem(client.post("/orders", json={"lines": [line]}), 422)
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    assert pointer in told["detail"]
    assert set(told["errors"][0]) == {"pointer", "detail"}


def test_a_bad_parameter_is_named(client: httpx.Client):
    assert problem(client.get("/orders?limit=1000"), 422)["errors"][0]["parameter"] == "limit"


@pytest.mark.parametrize("body", [b"{", b"", b'{"lines": [}', b"\xff\xfe{", b"[" * 100_000, b"1" * 10_000])
def test_malformed_json_is_a_bad_request(client: httpx.Client, body: bytes):
    response = client.post("/orders", content=body, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    problem(response, response.status_code)


def test_very_many_bad_fields_get_a_short_answer(client: httpx.Client):
    told = problem(client.post("/orders", json={"lines": [{}] * 10_000}), 422)
    assert len(told["errors"]) == 100


def test_unknown_routes_and_methods(client: httpx.Client):
    problem(client.get("/nothing"), 404)
    response = client.delete("/orders")
    assert "DELETE" in problem(response, 405)["detail"]
    assert response.headers["allow"]


@pytest.mark.parametrize("size", [2 * 1024 * 1024, 10 * 1024 * 1024])
def test_a_large_body_is_refused(client: httpx.Client, size: int):
    assert "1048576 bytes" in problem(client.post("/orders", content=b"x" * size), 413)["detail"]
    assert client.get("/orders").status_code == 200


def test_a_large_body_in_chunks_is_refused(client: httpx.Client):
    problem(client.post("/orders", content=(b"x" * 65536 for _ in range(160))), 413)


def test_a_small_body_in_chunks_is_taken(client: httpx.Client):
    response = client.post(
        "/orders", content=iter([b'{"li', b'nes": []}']), headers={"content-type": "application/json"}
    )
    assert response.json() == 0


def test_a_client_that_asks_first_sends_nothing(serve: Serve):
    connection = http.client.HTTPConnection(urlsplit(serve(application())).netloc, timeout=5)
    connection.putrequest("POST", "/orders")
    connection.putheader("Content-Length", str(10**10))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["status"]) == (413, 413)
    connection.close()


def test_errors_of_ours_say_what_to_do_and_nothing_of_our_inside(client: httpx.Client):
    told = problem(client.get("/fail/problem"), 409)
    assert (told["title"], told["key"]) == ("Conflict", "k-1")
    for how in ("unknown", "kafka"):
        response = client.get(f"/fail/{how}")
        assert "10.0.0.7" not in problem(response, 503)["detail"]
        assert response.headers["retry-after"] == "1"
    assert "total" in problem(client.get("/fail/encode"), 422)["detail"]


def test_a_bug_leaks_nothing(serve: Serve):
    response = httpx.get(serve(application()) + "/fail/bug")
    problem(response, 500)
    assert "hunter2" not in response.text


def test_a_database_that_is_away_is_no_fault_of_the_request(serve: Serve):
    url = serve(application())
    response = httpx.get(url + "/look/away")
    assert "Idempotency-Key" in problem(response, 503)["detail"]
    assert response.headers["retry-after"]
    assert "127.0.0.1" not in response.text
    response = httpx.get(url + "/look/here")
    problem(response, 500)
    assert "nowhere" not in response.text


def test_the_api_document_tells_of_problems(client: httpx.Client):
    responses = client.get("/openapi.json").json()["paths"]["/orders"]["post"]["responses"]
    assert list(responses["422"]["content"]) == ["application/problem+json"]
