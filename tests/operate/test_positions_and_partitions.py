"""`millstream topics grow` and `reset`, as a person calls them beside readers that are at work, and stopped ones."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from millstream.kafka import Admin, Kafka, TopicSpec, connect
from millstream.settings import Settings
from millstream.testing.child import wait_until
from millstream.testing.local import LocalKafka

pytestmark = pytest.mark.slow

Millstream = Callable[..., subprocess.CompletedProcess[str]]
GROUP = "packing.kafka"


class Cluster:
    """The broker with the topics of the shop, and the command line beside it."""

    def __init__(self, kafka: LocalKafka, millstream: Millstream) -> None:
        self.env = {"MILLSTREAM_BOOTSTRAP_SERVERS": kafka.bootstrap, "MILLSTREAM_REGISTRY_URL": kafka.registry}
        self.kafka: Kafka = connect(Settings(bootstrap_servers=kafka.bootstrap), "test")
        self.admin: Admin = self.kafka.admin()
        self.admin.ensure_topics([TopicSpec("shop.orders", 2), TopicSpec("shop.orders.dlq", 2)])
        self._millstream = millstream

    def call(self, *arguments: str) -> tuple[int, str, str]:
        result = self._millstream(*arguments, **self.env)
        assert "Traceback" not in result.stderr
        return result.returncode, result.stdout, result.stderr

    @contextmanager
    def reader(self) -> Iterator[None]:
        """A member of the group, until the block ends."""
        consumer = self.kafka.consumer(GROUP)
        try:
            consumer.subscribe(["shop.orders"])

            def joined() -> bool:
                consumer.poll_batch(1, 0.1)
                return bool(consumer.assignment())

            wait_until(joined, seconds=60, what="the reader joins its group")
            yield
        finally:
            consumer.close()

    @property
    def partitions(self) -> int:
        return self.admin.topics()["shop.orders"].partitions


@pytest.fixture
def cluster(kafka: LocalKafka, millstream: Millstream) -> Iterator[Cluster]:
    made = Cluster(kafka, millstream)
    yield made
    made.admin.close()


def test_topics_grow_once_their_readers_have_stopped(cluster: Cluster, shop: Path):
    code, said, missing = cluster.call("topics", "grow")
    assert (code, said) == (0, "All topics that are there have as many partitions as are declared.\n")
    assert "not there, and made when its service starts: packing.kafka.parked" in missing
    text = (shop / "shop.py").read_text()
    (shop / "shop.py").write_text(
        text.replace('"shop.orders", Ordered, partitions=2', '"shop.orders", Ordered, partitions=4')
    )
    with cluster.reader():
        code, said, refused = cluster.call("topics", "grow")
        assert code == 2
        assert f"{GROUP} has 1 members at work" in refused
        assert "Stop packing" in refused
        assert "Nothing was changed" in refused
    assert cluster.partitions == 2
    growing = "shop.orders: 2 partitions, declared with 4\nshop.orders.dlq: 2 partitions, declared with 4\n"
    assert cluster.call("topics", "grow", "--dry-run")[:2] == (0, growing)
    assert cluster.partitions == 2
    code, said, _ = cluster.call("topics", "grow")
    assert (code, said) == (0, f"{growing}Done. Start the services that read them with the new declaration.\n")
    assert cluster.partitions == 4


def test_a_reset_sets_all_or_nothing_and_tells_what_it_did(cluster: Cluster):
    producer = cluster.kafka.producer()
    for number in range(3):
        producer.produce("shop.orders", b"", b"k", partition=number % 2)
    producer.flush()
    producer.close()
    with cluster.reader():
        code, said, refused = cluster.call("reset", "packing", "--to", "latest")
        assert (code, said) == (2, "")
        assert f"Group '{GROUP}' has members" in refused
        assert "Stop the service" in refused
    before = cluster.admin.group_offsets(GROUP)
    code, said, _ = cluster.call("reset", "packing", "--to", "latest", "--dry-run")
    assert (code, said.splitlines()) == (
        0,
        [f"{GROUP}: shop.orders[0] would read on at 2", f"{GROUP}: shop.orders[1] would read on at 1"],
    )
    assert cluster.admin.group_offsets(GROUP) == before
    code, said, _ = cluster.call("reset", "packing", "--to", "latest")
    assert (code, said.splitlines()) == (
        0,
        [f"{GROUP}: shop.orders[0] reads on at 2", f"{GROUP}: shop.orders[1] reads on at 1"],
    )
    after = cluster.admin.group_offsets(GROUP)
    assert [after["shop.orders", number].offset for number in (0, 1)] == [2, 1]
    code, _, refused = cluster.call("reset", "desk", "--to", "earliest")
    assert (code, refused) == (2, "millstream: desk reads nothing, so it has no positions\n")
    code, _, refused = cluster.call("reset", "packing", "--to", "earliest", "--kind", "sql")
    assert (code, refused) == (2, "millstream: packing has no sql handlers; it has kafka\n")
