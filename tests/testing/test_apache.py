"""Apache Kafka with three nodes of which one is lost."""

from pathlib import Path

import pytest
from confluent_kafka import ElectionType, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from millstream.kafka import connect
from millstream.settings import Settings
from millstream.testing.apache import ApacheKafka
from millstream.testing.child import wait_until

pytestmark = pytest.mark.real


def test_writing_goes_on_without_one_of_three_nodes(tmp_path: Path):
    with ApacheKafka(tmp_path, nodes=3) as kafka:
        config = {"bootstrap.servers": kafka.bootstrap, "log_level": 2}
        admin = AdminClient(config)
        admin.create_topics([NewTopic("t", 3)])["t"].result(30)

        def replicas() -> list[int]:
            return [len(p.replicas) for p in admin.list_topics("t", 30).topics["t"].partitions.values()]

        wait_until(lambda: replicas() == [3, 3, 3], seconds=60, what="the asked broker knows the topic")
        ours = connect(Settings(bootstrap_servers=kafka.bootstrap)).admin()
        partitions = [("t", number) for number in range(3)]
        assert set(ours.end_offsets(partitions).values()) == {0}
        kafka.kill(2)
        producer = Producer({**config, "acks": "all"})
        failures: list[object] = []
        for partition in range(3):
            producer.produce("t", b"v", partition=partition, on_delivery=lambda error, _: failures.append(error))
        assert producer.flush(60) == 0
        assert failures == [None, None, None]
        kafka.restart(2)
        assert len(admin.list_topics(timeout=30).brokers) == 3
        # Its leaders are of another epoch by now, and those who asked before still get an answer.
        admin.elect_leaders(ElectionType.PREFERRED, None).result(30)
        assert set(ours.end_offsets(partitions).values()) == {1}
        ours.close()
