"""aiokafka, unmodified: a client in Python of its own, with its own ideas of the protocol."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import ProducerFenced, TopicAlreadyExistsError

from millstream.testing.plugin import Cluster

pytestmark = pytest.mark.real
PATIENCE_SECONDS = 120.0


def run(round_: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(round_, PATIENCE_SECONDS))


@asynccontextmanager
async def created(cluster: Cluster, topic: str, partitions: int = 1) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1)])
        yield admin
    finally:
        await admin.close()


async def taken(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    return [(await consumer.getone()).value or b"" for _ in range(count)]


def test_topics_are_administered(cluster: Cluster, topic: str):
    async def round_() -> None:
        async with created(cluster, topic, 2) as admin:
            again = await admin.create_topics([NewTopic(topic, 2, 1)])
            assert again.topic_errors[0][1] == TopicAlreadyExistsError.errno
            await admin.create_partitions({topic: NewPartitions(4)})
            # A broker of Apache Kafka's learns of it all a little later; `run` bounds the wait.
            while len((await admin.describe_topics([topic]))[0]["partitions"]) != 4:
                continue
            await admin.delete_topics([topic])
            while topic in await admin.list_topics():
                continue

    run(round_())


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_a_group_reads_what_was_produced_and_goes_on_where_it_stopped(cluster: Cluster, topic: str, codec: str | None):
    async def round_() -> None:
        async with created(cluster, topic):
            producer = AIOKafkaProducer(
                bootstrap_servers=cluster.bootstrap, enable_idempotence=True, compression_type=codec
            )
            await producer.start()
            sent = [b"%d %s" % (number, b"v" * 100) for number in range(20)]
            for value in sent:
                await producer.send(topic, value, key=b"k", headers=[("by", b"aiokafka")])
            await producer.flush()
            for part in (sent[:15], sent[15:]):
                consumer = AIOKafkaConsumer(
                    topic, bootstrap_servers=cluster.bootstrap, group_id=topic, auto_offset_reset="earliest",
                    enable_auto_commit=False,
                )  # fmt: skip
                await consumer.start()
                assert await taken(consumer, len(part)) == part
                await consumer.commit({TopicPartition(topic, 0): 15})
                await consumer.stop()
            await producer.stop()

    run(round_())


def test_transactions_carry_offsets_and_fence(cluster: Cluster, topic: str):
    async def round_() -> None:
        async with created(cluster, topic):

            async def transactional() -> AIOKafkaProducer:
                producer = AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=topic)
                await producer.start()
                return producer

            first = await transactional()
            await first.begin_transaction()
            await first.send_and_wait(topic, b"aborted")
            await first.abort_transaction()
            async with first.transaction():
                await first.send_and_wait(topic, b"kept")
                await first.send_offsets_to_transaction({TopicPartition(topic, 0): 7}, topic)
            second = await transactional()
            with pytest.raises(ProducerFenced):
                async with first.transaction():
                    await first.send_and_wait(topic, b"too late")
            consumer = AIOKafkaConsumer(
                bootstrap_servers=cluster.bootstrap, group_id=topic, isolation_level="read_committed"
            )
            await consumer.start()
            consumer.assign([TopicPartition(topic, 0)])
            assert await consumer.committed(TopicPartition(topic, 0)) == 7
            await consumer.seek_to_beginning()
            assert await taken(consumer, 1) == [b"kept"]
            await consumer.stop()
            await second.stop()
            await first.stop()

    run(round_())
