"""A registry that does not answer has one bound and one behaviour in every worker that reads."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY
from tests.silent_faults.house import House
from tests.silent_faults.test_workers import said

from millstream.operate.run import Exit
from millstream.runtime import outage
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

KINDS = {"kafka": "{}.kafka", "sql": "{}.sql", "effect": "{}.effect", "sink": "{}.rows.rows"}


class Front(ThreadingHTTPServer):
    """A gateway in front of the registry: while it is `down`, it answers 404 as gateways do."""

    daemon_threads = True

    def __init__(self, registry: str) -> None:
        self.down = False
        front = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer("GET", None)

            def do_POST(self) -> None:
                self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

            def _answer(self, method: str, body: bytes | None) -> None:
                if front.down:
                    status, answer = 404, b'{"message": "no Route matched with those values"}'
                else:
                    found = httpx.request(method, registry + self.path, content=body)
                    status, answer = found.status_code, found.content
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None: ...

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def front(shared_kafka: LocalKafka) -> Iterator[Front]:
    made = Front(shared_kafka.registry)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def in_outage(worker: str) -> float | None:
    return REGISTRY.get_sample_value("millstream_outage", {"worker": worker, "of": "registry"})


def start_waiting(house: House, worker: str, front: Front) -> None:
    """Let a record come that was written with a schema which only the registry knows."""
    front.down = True
    house.foreign("a")
    wait_until(lambda: in_outage(worker) == 1, seconds=60, what="it waits for the registry")


@pytest.mark.parametrize("kind", KINDS)
def test_it_waits_with_its_lag_and_signs_of_life_and_goes_on(
    shared_kafka: LocalKafka, front: Front, tmp_path: Path, kind: str
):
    house = House(kind, shared_kafka.bootstrap, front.url, tmp_path, behind=shared_kafka.registry)
    worker = KINDS[kind].format(house.name)
    with house.running():
        start_waiting(house, worker, front)
        check = house.health.status()["checks"][f"{worker}.registry"]
        assert "no answer" in check["detail"]
        assert check["code"] == "registry_unavailable"
        for _ in range(3):
            assert house.turned_within(30, worker)
        house.foreign("a")
        labels = {"service": house.name, "topic": house.read_topic}
        wait_until(lambda: house.lag(labels) >= 1, seconds=60, what="the lag is shown")
        front.down = False
        wait_until(lambda: house.health.healthy, seconds=60, what="it goes on")
    assert in_outage(worker) == 0
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_at_the_bound(
    shared_kafka: LocalKafka,
    front: Front,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(outage, "OUTAGE_SECONDS", 2.0)
    house = House(kind, shared_kafka.bootstrap, front.url, tmp_path, behind=shared_kafka.registry)
    with house.running():
        start_waiting(house, KINDS[kind].format(house.name), front)
        assert house.stop.wait(60)
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "worker_failed")
    assert line["worker"] == KINDS[kind].format(house.name)
    assert "404" in line["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_before_its_group_puts_it_out(
    shared_kafka: LocalKafka, front: Front, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
):
    options = {"max.poll.interval.ms": "8000"}
    house = House(kind, shared_kafka.bootstrap, front.url, tmp_path, behind=shared_kafka.registry, options=options)
    worker = KINDS[kind].format(house.name)
    with house.running():
        start_waiting(house, worker, front)
        assert house.stop.wait(60)
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "outage_too_long")
    assert (line["worker"], line["of"]) == (worker, "registry")
    assert "max.poll.interval.ms is 8000" in line["remedy"]
    (line,) = said(caplog, "worker_failed")
    assert line["worker"] == worker
