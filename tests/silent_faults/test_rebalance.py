"""Brokers that do not answer while a group shares its partitions out: one bound and one behaviour in every worker."""

import math
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.silent_faults.house import House
from tests.silent_faults.test_workers import said

from millstream.operate.run import Exit
from millstream.runtime import outage
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

KINDS = [
    ("kafka", "{}.kafka"),
    *(
        pytest.param(kind, name, marks=pytest.mark.slow)
        for kind, name in (("sql", "{}.sql"), ("effect", "{}.effect"), ("sink", "{}.rows.rows"))
    ),
]


def silent(shared_kafka: LocalKafka, folder: Path, kind: str, name: str, calls: float) -> tuple[House, str]:
    """A service whose worker asks for its topics in vain so many times."""
    house = House(kind, shared_kafka.bootstrap, shared_kafka.registry, folder)
    worker = name.format(house.name)
    house.gate.unanswered[worker, "topic_ids"] = calls
    return house, worker


def in_outage(worker: str) -> float | None:
    return REGISTRY.get_sample_value("millstream_outage", {"worker": worker, "of": "brokers"})


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_they_are_waited_out(shared_kafka: LocalKafka, tmp_path: Path, kind: str, name: str):
    house, worker = silent(shared_kafka, tmp_path, kind, name, 3)
    with house.running():
        assert house.gate.unanswered[worker, "topic_ids"] == 0
        assert in_outage(worker) == 0, "it was shown, and is over"
        house.ask("a")
        wait_until(house.settled, seconds=60, what="it goes on", every=0.1)
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_worker_that_waits_for_them_stops_at_once(shared_kafka: LocalKafka, tmp_path: Path, kind: str, name: str):
    house, worker = silent(shared_kafka, tmp_path, kind, name, math.inf)
    house.crew.start()
    wait_until(lambda: in_outage(worker) == 1, seconds=60, what="it waits")
    assert "no answer" in house.health.status()["checks"][f"{worker}.brokers"]["detail"]
    house.stop.set()
    assert house.crew.finish()
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_worker_ends_at_the_bound(
    shared_kafka: LocalKafka,
    tmp_path: Path,
    kind: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(outage, "OUTAGE_SECONDS", 1.0)
    house, worker = silent(shared_kafka, tmp_path, kind, name, math.inf)
    house.crew.start()
    assert house.stop.wait(60)
    house.crew.finish()
    assert house.crew.exit is Exit.FAILED
    (line,) = said(caplog, "worker_failed")
    assert (line["worker"], "nobody answers" in line["error"]) == (worker, True)
    (line,) = said(caplog, "outage_too_long")
    assert (line["worker"], line["of"]) == (worker, "brokers")
