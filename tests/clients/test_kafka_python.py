"""kafka-python 3, unmodified."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata, TopicPartition

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from millstream.testing.child import wait_until
from millstream.testing.plugin import Cluster

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
PATIENCE_SECONDS = 60


@pytest.fixture
def admin(cluster: Cluster) -> Iterator[KafkaAdminClient]:
    with contextlib.closing(KafkaAdminClient(bootstrap_servers=cluster.bootstrap)) as made:
        yield made


def consumer(cluster: Cluster, topic: str, **settings: Any) -> KafkaConsumer:
    wanted: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "consumer_timeout_ms": PATIENCE_SECONDS * 1000,
        **settings,
    }
    return KafkaConsumer(topic, bootstrap_servers=cluster.bootstrap, **wanted)


def taken(reader: KafkaConsumer, count: int) -> list[bytes]:
    found: list[bytes] = []
    for record in reader:
        found.append(record.value)
        if len(found) == count:
            break
    return found


def test_topics_configurations_and_groups_are_administered(cluster: Cluster, admin: KafkaAdminClient, topic: str):
    admin.create_topics([NewTopic(topic, 2, 1, topic_configs={"retention.ms": "600000"})])
    with pytest.raises(TopicAlreadyExistsError):
        admin.create_topics([NewTopic(topic, 2, 1)])
    admin.create_partitions({topic: NewPartitions(3)})
    wait_until(
        lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 3,
        seconds=PATIENCE_SECONDS,
        what="the third partition is known",
    )
    shown = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
    assert "retention.ms" in shown and "600000" in shown
    admin.delete_topics([topic])
    wait_until(lambda: topic not in admin.list_topics(), seconds=PATIENCE_SECONDS, what="the topic is gone")


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_a_group_reads_what_was_produced_and_goes_on_where_it_stopped(
    cluster: Cluster, admin: KafkaAdminClient, topic: str, codec: Literal["gzip"] | None
):
    admin.create_topics([NewTopic(topic, 1, 1)])
    sent = [b"%d %s" % (number, b"v" * 100) for number in range(20)]
    with contextlib.closing(KafkaProducer(bootstrap_servers=cluster.bootstrap, compression_type=codec)) as producer:
        for value in sent:
            producer.send(topic, value, key=b"k", headers=[("by", b"kafka-python")])
        producer.flush(PATIENCE_SECONDS)
    for part in (sent[:15], sent[15:]):
        with contextlib.closing(consumer(cluster, topic, group_id=topic)) as reader:
            assert taken(reader, len(part)) == part
            reader.commit({TopicPartition(topic, 0): OffsetAndMetadata(15, "", -1)})


def test_transactions_carry_offsets(cluster: Cluster, admin: KafkaAdminClient, topic: str):
    admin.create_topics([NewTopic(topic, 1, 1)])
    with contextlib.closing(KafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=topic)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"aborted")
        producer.flush(PATIENCE_SECONDS)
        producer.abort_transaction()
        producer.begin_transaction()
        producer.send(topic, b"kept")
        producer.send_offsets_to_transaction({TopicPartition(topic, 0): OffsetAndMetadata(7, "", -1)}, topic)
        producer.commit_transaction()
    reading = {"group_id": topic, "isolation_level": "read_committed"}
    with contextlib.closing(consumer(cluster, topic, **reading)) as reader:
        assert reader.committed(TopicPartition(topic, 0)) == 7
    with contextlib.closing(consumer(cluster, topic, group_id=None, isolation_level="read_committed")) as reader:
        assert taken(reader, 1) == [b"kept"]
