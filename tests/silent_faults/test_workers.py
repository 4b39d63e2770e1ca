"""Every worker and background task: its thread is killed, or hangs, and within a bound all that watches it says so."""

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.silent_faults.house import HUNG, SILENT, STEP, House, kill, silent_seconds

from millstream.operate.run import Crew, Exit
from millstream.runtime.effect import commits, worker
from millstream.telemetry import Health, ObservabilityServer
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

WORKERS = [
    ("kafka", "{}.kafka"),
    ("sql", "{}.sql"),
    ("sql", "{}.relay"),
    ("effect", "{}.effect"),
    ("effect", "{}.effect.loop"),
    ("view", "{}.kafka"),
    ("view", "{}.rows.rows"),
    ("web", "web"),
    ("web", "publisher"),
    ("web", "idempotency"),
    ("web", "outcomes"),
]
HANGS = [
    ("kafka", "{}.kafka", "poll_batch", ""),
    ("kafka", "{}.kafka", "send_offsets", ""),
    ("sql", "{}.sql", "poll_batch", ""),
    ("sql without relay", "{}.sql", "database", ""),
    ("sql", "{}.relay", "send_offsets", ""),
    ("effect", "{}.effect", "poll_batch", ""),
    ("effect", "{}.effect.loop", "loop", ""),
    ("effect", "commit of {}.effect.parked", "send_offsets", ""),
    ("view", "{}.kafka", "send_offsets", ""),
    ("view", "{}.rows.rows", "database", ""),
    ("web", "web", "loop", "/blocks"),
    ("web", "publisher", "commit", "/publishes"),
    ("web", "idempotency", "database", "/reserves"),
    ("web", "outcomes", "poll_batch", ""),
]
"""What hangs: the kind of service, the name in the log, the call that does not return, and the request it takes."""


def cases(of: list[Any]) -> list[Any]:
    """One of each in `make test`; the others take their time."""
    return [each if each[0] == "kafka" else pytest.param(*each, marks=pytest.mark.slow) for each in of]


@pytest.fixture
def house(
    request: pytest.FixtureRequest, shared_kafka: LocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> House:
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(commits, "OUTAGE_SECONDS", 1.0)
    return House(request.param, shared_kafka.bootstrap, shared_kafka.registry, tmp_path)


def said(caplog: pytest.LogCaptureFixture, code: str) -> list[dict[str, Any]]:
    """The lines of the log with this code."""
    found = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    return [line for line in found if line.get("code") == code]


@pytest.mark.parametrize(("house", "name"), cases(WORKERS), indirect=["house"])
def test_a_thread_that_is_killed_ends_the_process(house: House, name: str, caplog: pytest.LogCaptureFixture):
    name = name.format(house.name)
    with house.running():
        kill(house.thread(name))
        assert house.stop.wait(30), "the crew stops"
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "worker_failed")[:1]
    assert line["worker"] == name.removesuffix(".loop")
    assert ("SystemExit" if name != "web" else "ended by itself") in line["error"]


@pytest.mark.slow
@pytest.mark.parametrize(("house", "name", "call", "path"), cases(HANGS), indirect=["house"])
def test_a_thread_that_hangs_is_named_and_ends_the_process(
    house: House, name: str, call: str, path: str, caplog: pytest.LogCaptureFixture
):
    name = name.format(house.name)
    with house.gated_database(), house.running():
        house.gate.closed = call
        if path:
            house.request(path)
        else:
            house.ask("a")
        assert house.gate.entered.wait(30), f"{name} hangs"
        house.look(int(SILENT // STEP) + 2, name)
        assert not house.stop.is_set()
        assert house.health.status()["checks"][name]["ok"] is False
        (line,) = [line for line in said(caplog, "worker_silent") if line["worker"] == name.removeprefix("commit of ")]
        assert ("house.py" in line["where"]) or line["call"]
        assert silent_seconds(line["worker"]) >= SILENT
        house.look(int((HUNG - SILENT) // STEP) + 1, name)
        assert house.stop.is_set()
        assert house.crew.exit is Exit.HUNG
        (line,) = said(caplog, "worker_hung")[:1]
        assert line["worker"] == name


@pytest.mark.slow
def test_what_goes_on_after_a_while_is_well_again(shared_kafka: LocalKafka, tmp_path: Path):
    house = House("kafka", shared_kafka.bootstrap, shared_kafka.registry, tmp_path)
    name = f"{house.name}.kafka"
    with house.running():
        house.gate.closed = "poll_batch"
        assert house.gate.entered.wait(30)
        house.look(int(SILENT // STEP) + 2, name)
        assert not house.health.healthy
        house.gate.open()
        wait_until(lambda: house.turned([name]), seconds=60, what="it turns again")
        assert house.health.healthy
    assert house.crew.exit is Exit.STOPPED


def test_the_server_of_health_and_metrics_may_not_end_in_silence():
    server, stop = ObservabilityServer(("127.0.0.1", 0), Health()), threading.Event()
    crew = Crew([], [], stop)
    crew.must_live(server.thread)
    crew.look()
    assert not stop.is_set()
    server.close()
    crew.look()
    assert stop.is_set()
    assert crew.exit is Exit.FAILED
