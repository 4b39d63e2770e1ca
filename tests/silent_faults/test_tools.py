"""How a tool that goes on until it is stopped ends when it hangs: health, log and exit code of the real thing."""

import json
import sys
import textwrap
import uuid
from pathlib import Path

import httpx
import pytest

from millstream.kafka import TopicSpec, connect
from millstream.operate.ports import Reserved
from millstream.operate.run import Exit
from millstream.settings import Settings
from millstream.testing.child import end, last_lines, spawn, wait_until
from millstream.testing.local import LocalKafka

SHOP = """
    import threading
    from millstream import Event, Service, System, Topic
    from millstream.declare.invariant import Cases

    class Asked(Event, key="id"):
        id: str

    asked = Topic("NAME.asked", Asked, format="json")
    NAME = Service("NAME")

    @NAME.on(Asked)
    def answer(asked: Asked) -> None: ...

    case = Cases("case", Asked)

    @case.invariant
    def hangs(case):
        threading.Event().wait()

    invariants = (case,)
    system = System("NAME", ["shop_NAME:NAME"], invariants="shop_NAME:invariants")
"""

TOOL = """
    import threading
    from millstream import kafka
    from millstream.operate import watch
    from millstream.operate.cli import main
    from millstream.telemetry import Watchdog

    class Silent:
        '''A cluster that is asked for records, and never answers.'''

        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

        def read_to_end(self, *given, **named):
            threading.Event().wait()

    def shortened(health, *, hung):
        return Watchdog(health, silent=2.0, hung=8.0)

    watch.Watchdog = shortened
    if SILENT:
        connect = kafka.connect
        kafka.connect = lambda *given: Silent(connect(*given))
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "silent", "worker", "where"),
    [
        (["dlq", "serve", "--rules", "rules.toml"], True, "dlq-redrive", "read_to_end"),
        (["verify", "--follow", "--grace", "0"], True, "verify", "read_to_end"),
        (["verify", "--follow", "--grace", "0"], False, "verify", "shop_"),
    ],
    ids=["dlq serve", "verify", "an invariant"],
)
def test_a_tool_that_hangs_is_unhealthy_named_and_ends(
    shared_kafka: LocalKafka,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    silent: bool,
    worker: str,
    where: str,
):
    name = f"s{uuid.uuid4().hex[:8]}"
    (tmp_path / f"shop_{name}.py").write_text(textwrap.dedent(SHOP).replace("NAME", name))
    (tmp_path / "pyproject.toml").write_text(f'[tool.millstream]\nsystem = "shop_{name}:system"\n')
    (tmp_path / "rules.toml").write_text('[[rule]]\nname = "all"\nreason = "*"\n')
    (tmp_path / "tool.py").write_text(textwrap.dedent(TOOL).replace("SILENT", str(silent)))
    fill(shared_kafka, f"{name}.asked", f"{name}.asked.dlq")
    port = Reserved("127.0.0.1", 0, purpose="a test's", option="--none")
    for variable, value in {
        "MILLSTREAM_BOOTSTRAP_SERVERS": shared_kafka.bootstrap,
        "MILLSTREAM_REGISTRY_URL": shared_kafka.registry,
        "MILLSTREAM_HTTP": port.address,
        "MILLSTREAM_DATA_DIR": str(tmp_path),
        "MILLSTREAM_LOG": "json",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "output.log"
    process = spawn([sys.executable, "tool.py", *command], output=output)
    try:
        wait_until(lambda: check(port.url, worker) is False, seconds=60, what=f"health names {worker}")
        assert process.wait(60) == Exit.HUNG, last_lines(output)
    finally:
        end(process)
        port.release()
    lines = [json.loads(line) for line in output.read_text().splitlines() if line.startswith("{")]
    said = {line.get("event.code"): line["millstream"] for line in lines if "millstream" in line}
    assert said["worker_silent"]["worker"] == said["worker_hung"]["worker"] == worker
    assert where in said["worker_hung"]["where"]


def check(url: str, worker: str) -> bool | None:
    """Return True when health calls the worker well, None where it says nothing of it."""
    try:
        checks = httpx.get(f"{url}/health", timeout=1).json()["checks"]
    except httpx.TransportError:
        return None
    return checks.get(worker, {}).get("ok")


def fill(kafka: LocalKafka, *topics: str) -> None:
    client = connect(Settings(bootstrap_servers=kafka.bootstrap))
    admin, producer = client.admin(), client.producer()
    admin.ensure_topics([TopicSpec(topic, 1) for topic in topics])
    for topic in topics:
        producer.produce(topic, b'{"id": "a"}', b"a")
    producer.flush()
    producer.close()
    admin.close()
