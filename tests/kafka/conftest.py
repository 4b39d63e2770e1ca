"""Every test of this room runs on the local broker, in the simulation, and (marked `real`) on Apache Kafka."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.kafka.brokers import Broker, RealBroker, SimulatedBroker, local_broker, someone_elses_broker

from millstream.kafka import Kafka
from millstream.testing.apache import ApacheKafka
from millstream.testing.simulation import World


@pytest.fixture(scope="session")
def one_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """Apache Kafka that is gone altogether when its only node is killed."""
    with ApacheKafka(tmp_path_factory.mktemp("one-node"), nodes=1) as apache:
        yield apache


@pytest.fixture(params=["local", "simulated", pytest.param("apache", marks=pytest.mark.real)])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    with ExitStack() as stack:
        running = request.config.getoption("--kafka-at")
        if request.param == "local":
            yield local_broker(request.getfixturevalue("shared_kafka"), stack)
        elif request.param == "simulated":
            yield SimulatedBroker(stack.enter_context(World(seed=1)), stack)
        elif running:
            yield someone_elses_broker(running, stack)
        else:
            apache = request.getfixturevalue("one_node")
            yield RealBroker(apache.bootstrap, lambda: apache.kill(1), lambda: apache.restart(1), stack)


@pytest.fixture
def kafka(broker: Broker) -> Kafka:
    return broker.kafka
