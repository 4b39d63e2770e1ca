"""The pytest plugin. `kafka`: a fresh local broker and registry; `shared_kafka`: one for the whole session;
`apache_kafka`: Apache Kafka for the whole session, for tests marked `real`; `cluster`: the last two in turn.

Everything is imported when a fixture is first used, so that a test run without brokers pays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from millstream.testing.apache import ApacheKafka
    from millstream.testing.local import LocalKafka


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kafka-nodes", type=int, default=3, help="how many nodes `apache_kafka` has (1 or 3)")
    parser.addoption(
        "--kafka-like-a-cluster",
        action="store_true",
        help="let transactions on `kafka` and `shared_kafka` take the time that they take on a cluster",
    )
    parser.addoption("--kafka-at", metavar="HOST:PORT", help="take the Apache Kafka that runs there as `apache_kafka`")


@pytest.fixture
def kafka(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalKafka]:
    """A local broker and registry of this test's own, with no data. `kafka.faults` makes failures on demand. An
    indirect parameter has further arguments of `LocalKafka`: `{"like_a_cluster": True}`."""
    from millstream.testing.local import LocalKafka

    like_a_cluster: Any = request.config.getoption("--kafka-like-a-cluster")
    options: dict[str, Any] = {"like_a_cluster": like_a_cluster, **getattr(request, "param", {})}
    with LocalKafka(tmp_path / "kafka", **options) as local:
        yield local


@pytest.fixture(scope="session")
def shared_kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One local broker and registry for all tests of the session; take topics and subjects of your own."""
    from millstream.testing.local import LocalKafka

    like_a_cluster: Any = request.config.getoption("--kafka-like-a-cluster")
    with LocalKafka(tmp_path_factory.mktemp("shared-kafka"), like_a_cluster=like_a_cluster) as local:
        yield local


@pytest.fixture(scope="session")
def apache_kafka(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka | RunningKafka]:
    """Apache Kafka for all tests of the session: `--kafka-nodes` nodes, or as many as an indirect parameter says, or
    the one `--kafka-at` an address."""
    from millstream.testing.apache import ApacheKafka

    running: str | None = request.config.getoption("--kafka-at")
    if running is not None:
        yield RunningKafka(running)
        return
    option: Any = request.config.getoption("--kafka-nodes")
    nodes: int = getattr(request, "param", option)
    with ApacheKafka(tmp_path_factory.mktemp("apache-kafka"), nodes=nodes) as apache:
        yield apache


@dataclass(frozen=True)
class RunningKafka:
    """A cluster that somebody else started and will stop: it has an address and no more."""

    bootstrap: str


@pytest.fixture(scope="session")
def apache_registry(
    apache_kafka: ApacheKafka | RunningKafka, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a schema registry that keeps its schemas in `apache_kafka`."""
    from millstream.testing.registry import RegistryProcess

    output = tmp_path_factory.mktemp("apache-registry") / "output.log"
    with RegistryProcess(apache_kafka.bootstrap, output) as registry:
        yield registry.url


@dataclass(frozen=True)
class Cluster:
    """What a test needs to know of a Kafka: where it and its schema registry are, and which it is."""

    kind: Literal["local", "apache"]
    bootstrap: str
    registry: str


@pytest.fixture(scope="session", params=["local", pytest.param("apache", marks=pytest.mark.real)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The same test on both brokers: the shared local one, and Apache Kafka in the tests marked `real`."""
    if request.param == "local":
        local: LocalKafka = request.getfixturevalue("shared_kafka")
        return Cluster("local", local.bootstrap, local.registry)
    apache: ApacheKafka = request.getfixturevalue("apache_kafka")
    return Cluster("apache", apache.bootstrap, request.getfixturevalue("apache_registry"))
