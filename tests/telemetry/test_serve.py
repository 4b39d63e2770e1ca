import json
import re
import socket
import threading
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from millstream.errors import ConfigurationError
from millstream.telemetry import Health, ObservabilityServer, Observed, metrics
from millstream.telemetry.health import Heartbeat


@pytest.fixture
def health():
    return Health()


@pytest.fixture
def server(health):
    server = ObservabilityServer(("127.0.0.1", 0), health)
    yield server
    server.close()


def get(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def test_health_answers_200_or_503_and_says_why(server, health):
    assert get(f"{server.url}/health") == (200, b'{"status": "healthy", "checks": {}}')
    health.report("assigned", "waiting for partitions")
    status, body = get(f"{server.url}/health")
    assert status == 503
    assert json.loads(body)["checks"]["assigned"] == {"ok": False, "detail": "waiting for partitions"}
    health.report("assigned", None)
    assert get(f"{server.url}/health")[0] == 200
    health.check("broken", lambda: 1 // 0)
    assert "ZeroDivisionError" in json.loads(get(f"{server.url}/health")[1])["checks"]["broken"]["detail"]
    health.forget("broken")
    assert health.healthy


def test_metrics_are_what_prometheus_reads(server):
    metrics.EVENTS.labels("observed", "schedule", "orders.events", "done").inc(200)
    metrics.HANDLER_SECONDS.labels("observed", "schedule").observe_many(0.002, 200)
    metrics.describe_build("observed", 0)
    status, body = get(f"{server.url}/metrics")
    assert status == 200
    found = {
        (sample.name, sample.labels.get("service"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert found["millstream_events_total", "observed", None] == 200
    assert found["millstream_handler_seconds_bucket", "observed", "0.001"] == 0
    assert found["millstream_handler_seconds_bucket", "observed", "0.0025"] == 200
    assert found["millstream_handler_seconds_count", "observed", None] == 200
    assert found["millstream_handler_seconds_sum", "observed", None] == pytest.approx(0.4)
    assert found["millstream_build_info", "observed", None] == 1


def test_an_ipv6_address_will_do(health):
    server = ObservabilityServer(("::1", 0), health)
    assert server.url.startswith("http://[::1]:")
    assert get(f"{server.url}/health")[0] == 200
    server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_that_is_taken_is_named_with_a_remedy(health, host):
    family = socket.AF_INET6 if host == "::1" else socket.AF_INET
    with socket.create_server((host, 0), family=family) as busy:
        port = busy.getsockname()[1]
        shown = f"[::1]:{port}" if host == "::1" else f"{host}:{port}"
        with pytest.raises(ConfigurationError, match=re.escape(f"MILLSTREAM_HTTP is {shown}") + ".*choose another"):
            ObservabilityServer((host, port), health)


def test_other_paths_are_404(server):
    assert get(f"{server.url}/orders")[0] == 404


def test_many_may_ask_at_once_and_closing_is_quick(server):
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(get(f"{server.url}/metrics")[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 8
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 30


async def application(scope, receive, send):
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/health", 503),
        ("GET", "/orders/1", 201),
        ("POST", "/health", 201),
    ],
)
def test_a_web_application_is_passed_everything_else(health, method, path, status):
    import asyncio

    health.report("fatal", "fenced")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Observed(application, health))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    assert asyncio.run(ask()).status_code == status


def test_a_heart_that_stops_is_noticed():
    now = [0.0]
    heart = Heartbeat(5.0, lambda: now[0])
    now[0] = 4.9
    assert heart.probe() is None
    now[0] = 5.1
    assert heart.probe() == "no sign of life for 5.1 s (allowed: 5 s)"
    heart.beat()
    assert heart.probe() is None


def test_a_histogram_refuses_wrong_labels():
    with pytest.raises(ValueError, match="service, handler"):
        metrics.HANDLER_SECONDS.labels("observed")
