"""How a whole process ends whose worker hangs: health, log and exit code of the real thing."""

import json
import sys
import textwrap
import uuid
from pathlib import Path

import httpx
import pytest

from millstream.kafka import connect
from millstream.operate.ports import Reserved
from millstream.operate.run import Exit
from millstream.settings import Settings
from millstream.testing.child import end, spawn, wait_until
from millstream.testing.local import LocalKafka

SERVICE = """
    import sys, threading
    from millstream import Event, Service, System, Topic
    from millstream.operate import run as process
    from millstream.telemetry import Watchdog

    class Asked(Event, key="id"):
        id: str

    asked = Topic("NAME.asked", Asked, format="json")
    NAME = Service("NAME")

    @NAME.on(Asked)
    def hang(asked: Asked) -> None:
        if asked.id == "hang":
            threading.Event().wait()

    system = System("NAME", ["service_NAME:NAME"])

    def shortened(health, *, hung):
        return Watchdog(health, silent=2.0, hung=8.0)

    if __name__ == "__main__":
        sys.modules["service_NAME"] = sys.modules["__main__"]
        process.Watchdog = shortened
        sys.exit(process.run(system, "NAME"))
"""


@pytest.mark.slow
def test_a_hung_handler_is_unhealthy_named_and_ends_the_process(
    shared_kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"s{uuid.uuid4().hex[:8]}"
    script = tmp_path / f"service_{name}.py"
    script.write_text(textwrap.dedent(SERVICE).replace("NAME", name))
    port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    for variable, value in {
        "MILLSTREAM_BOOTSTRAP_SERVERS": shared_kafka.bootstrap,
        "MILLSTREAM_REGISTRY_URL": shared_kafka.registry,
        "MILLSTREAM_HTTP": port.address,
        "MILLSTREAM_DATA_DIR": str(tmp_path),
        "MILLSTREAM_LOG": "json",
    }.items():
        monkeypatch.setenv(variable, value)
    output = tmp_path / "output.log"
    process = spawn([sys.executable, str(script)], output=output)
    try:
        wait_until(lambda: status(port.url) == 200, seconds=60, what="it is well")
        produce(shared_kafka, name)
        wait_until(lambda: status(port.url) == 503, seconds=60, what="health says that it hangs")
        checks = httpx.get(f"{port.url}/health").json()["checks"]
        assert "no sign of life" in checks[f"{name}.kafka"]["detail"]
        assert f'millstream_silent_seconds{{worker="{name}.kafka"}}' in httpx.get(f"{port.url}/metrics").text
        assert process.wait(60) == Exit.HUNG
    finally:
        end(process)
        port.release()
    lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    silent = next(line["millstream"] for line in lines if line.get("event.code") == "worker_silent")
    assert silent["worker"] == f"{name}.kafka"
    assert f"service_{name}.py" in silent["where"]
    assert any(line.get("event.code") == "worker_hung" for line in lines)


def status(url: str) -> int:
    try:
        return httpx.get(f"{url}/health", timeout=1).status_code
    except httpx.TransportError:
        return 0


def produce(kafka: LocalKafka, name: str) -> None:
    producer = connect(Settings(bootstrap_servers=kafka.bootstrap)).producer()
    producer.produce(f"{name}.asked", b'{"id": "hang"}', b"hang")
    producer.flush()
    producer.close()
