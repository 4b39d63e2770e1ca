"""Brokers that are gone while a worker has nothing to do show in health and metric, in every worker that reads.

A consumer without records to come does not notice by itself that nobody could bring it any.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from tests.kafka.proxy import Proxy
from tests.silent_faults.house import House

from millstream.operate.run import Exit
from millstream.runtime import outage
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

KINDS = {"kafka": "{}.kafka", "sql": "{}.sql", "effect": "{}.effect", "sink": "{}.rows.rows"}
OPTIONS = {"socket.timeout.ms": "3000"}
"""The time after which librdkafka gives up a connection that does not answer: 15 s by default."""
PATIENCE = 90.0


@pytest.fixture
def proxy(shared_kafka: LocalKafka) -> Iterator[Proxy]:
    with closing(Proxy(shared_kafka.bootstrap)) as made:
        yield made


@pytest.fixture(autouse=True)
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "PROBE_SECONDS", 0.2)


def in_outage(worker: str) -> float | None:
    return REGISTRY.get_sample_value("millstream_outage", {"worker": worker, "of": "brokers"})


@pytest.mark.parametrize("kind", KINDS)
def test_brokers_that_fall_silent_while_a_worker_is_idle_show(
    shared_kafka: LocalKafka, proxy: Proxy, tmp_path: Path, kind: str
):
    """Connections stay, and nothing comes: a machine that froze, a firewall that forgot them."""
    house = House(kind, proxy.bootstrap, shared_kafka.registry, tmp_path, options=OPTIONS)
    worker = KINDS[kind].format(house.name)
    with house.running():
        house.ask("a")
        wait_until(house.settled, seconds=PATIENCE, what="it has nothing to do", every=0.1)
        assert in_outage(worker) != 1
        proxy.mute()
        wait_until(lambda: in_outage(worker) == 1, seconds=PATIENCE, what="the metric says so", every=0.1)
        check = house.health.status()["checks"][f"{worker}.brokers"]
        assert "no answer" in check["detail"]
        assert check["code"] == "brokers_unavailable"
        assert house.turned_within(PATIENCE, worker), "it asks between two turns of its loop"
        proxy.heal()
        wait_until(lambda: in_outage(worker) == 0, seconds=PATIENCE, what="brokers answer again", every=0.1)
        wait_until(lambda: house.health.healthy, seconds=PATIENCE, what="all is well", every=0.1)
        house.ask("b")
        wait_until(house.settled, seconds=PATIENCE, what="it goes on", every=0.1)
    assert house.crew.exit is Exit.STOPPED


@pytest.mark.parametrize("kind", KINDS)
def test_brokers_that_hang_up_while_a_worker_is_idle_show(
    shared_kafka: LocalKafka, proxy: Proxy, tmp_path: Path, kind: str
):
    house = House(kind, proxy.bootstrap, shared_kafka.registry, tmp_path, options=OPTIONS)
    worker = KINDS[kind].format(house.name)
    with house.running():
        proxy.cut()
        wait_until(lambda: in_outage(worker) == 1, seconds=PATIENCE, what="the metric says so", every=0.1)
        assert not house.health.healthy
        proxy.heal()
        wait_until(lambda: in_outage(worker) == 0, seconds=PATIENCE, what="brokers answer again", every=0.1)
        wait_until(lambda: house.health.healthy, seconds=PATIENCE, what="all is well", every=0.1)
    assert house.crew.exit is Exit.STOPPED


def test_brokers_that_fall_silent_show_in_a_web_process_without_requests(
    shared_kafka: LocalKafka, proxy: Proxy, tmp_path: Path
):
    house = House("web", proxy.bootstrap, shared_kafka.registry, tmp_path, options=OPTIONS)
    watch = f"{house.name}.topics"
    with house.running():
        proxy.mute()
        wait_until(lambda: in_outage(watch) == 1, seconds=PATIENCE, what="the metric says so", every=0.1)
        assert "no answer" in house.health.status()["checks"][f"{watch}.brokers"]["detail"]
        proxy.heal()
        wait_until(lambda: in_outage(watch) == 0, seconds=PATIENCE, what="brokers answer again", every=0.1)
        wait_until(lambda: house.health.healthy, seconds=PATIENCE, what="all is well", every=0.1)
    assert house.crew.exit is Exit.STOPPED
