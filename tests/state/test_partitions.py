"""State comes back from its changelog as it was committed, and not before that is known."""

import threading
import time
from collections.abc import Iterator
from typing import Annotated

import pytest

from millstream.contracts import Contracts, Registry
from millstream.declare import Event, Service, State, Store, Topic, Value
from millstream.errors import Unavailable
from millstream.kafka import Kafka, TopicSpec, connect
from millstream.settings import Settings
from millstream.state import StatePartitions
from millstream.testing.plugin import Cluster


class Moved(Event, key="id", namespace="test"):
    id: str


class Count(Value, namespace="test"):
    number: int


moves = Topic("state.moves", Moved, partitions=2)
COUNTS = Store("counts", Count)


class Place:
    def __init__(self, cluster: Cluster, name: str) -> None:
        self.service = Service(name)

        @self.service.on(Moved)
        def count(moved: Moved, counts: Annotated[State[Count], COUNTS]) -> None: ...

        settings = Settings(bootstrap_servers=cluster.bootstrap, registry_url=cluster.registry)
        self.kafka: Kafka = connect(settings, name)
        self.contracts = Contracts(Registry(cluster.registry))
        self.topic = COUNTS.changelog(name)
        self.encode = self.contracts.values(self.topic, Count).encode
        admin = self.kafka.admin()
        admin.ensure_topics([TopicSpec(self.topic, 2, {"cleanup.policy": "compact"})])
        admin.close()

    def states(self, **options) -> StatePartitions:
        return StatePartitions(self.service, self.contracts, self.kafka, **options)


@pytest.fixture
def place(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Place]:
    return Place(cluster, f"state-{time.time_ns()}")


def test_each_partition_comes_back_on_its_own(place: Place):
    producer = place.kafka.producer()
    for number in range(3_000):
        value = place.encode(Count(number=number))
        producer.produce(place.topic, value, f"k-{number % 100}".encode(), None, number % 2)
    producer.produce(place.topic, None, b"k-0", None, 0)
    producer.produce(place.topic, b"", b"\xff", None, 0)
    producer.flush()
    producer.close()

    told: list[tuple[str, int, float]] = []
    states = place.states(progress=lambda *said: told.append(said))
    states.restore([0])
    assert states.held == {0}
    counts = states.stores(0)[COUNTS]
    assert counts.get("k-0") is None
    assert counts.get("k-2") == Count(number=2_902)
    assert counts.get("k-1") is None, "that is in the other partition"
    assert told[-1][:2] == (place.topic, 1_502)

    states.restore([0, 1])
    assert states.stores(0)[COUNTS] is counts, "what is here stays as it is"
    assert states.stores(1)[COUNTS].get("k-1") == Count(number=2_901)
    states.drop([0])
    assert states.held == {1}


def test_a_restore_waits_for_a_transaction_that_is_still_open(place: Place):
    holder = place.kafka.transactional_producer(f"{place.service.name}-holder")
    holder.begin()
    holder.produce(place.topic, place.encode(Count(number=1)), b"k", None, 0)
    # Something outside the transaction, behind it: when it can be seen at all, the transaction's record is there.
    plain = place.kafka.producer()
    plain.produce(place.topic, place.encode(Count(number=9)), b"other", None, 0)
    plain.flush()
    plain.close()

    impatient = place.states(transaction_timeout=0.3)
    with pytest.raises(Unavailable, match="open for"):
        impatient.restore([0])
    assert impatient.held == set()

    states = place.states(transaction_timeout=20)
    restore = threading.Thread(target=states.restore, args=([0],))
    restore.start()
    holder.commit()
    restore.join(20)
    assert states.stores(0)[COUNTS].get("k") == Count(number=1)
    holder.close()


def test_what_was_aborted_does_not_come_back(place: Place):
    producer = place.kafka.transactional_producer(f"{place.service.name}-holder")
    for number, end in ((1, producer.commit), (2, producer.abort)):
        producer.begin()
        producer.produce(place.topic, place.encode(Count(number=number)), b"k", None, 0)
        end()
    producer.close()
    states = place.states()
    states.restore([0])
    assert states.stores(0)[COUNTS].get("k") == Count(number=1)
