"""One exactly-once worker, in a process of its own: every record of `in` goes to the same partition of `out`, in
transactions that carry its offsets along. It aborts one batch in ten after having written it, marked ABORTED.

    python -m tests.torture.worker BOOTSTRAP NAME SEED
"""

import random
import sys
from typing import NoReturn

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

GROUP, SOURCE, TARGET = "torture", "in", "out"
ABORTED = b"aborted "
BATCH = 200
PATIENCE_SECONDS = 10.0
QUICK = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "retry.backoff.ms": 20,
    "log_level": 0,
    # After a rebootstrap librdkafka may wait for ever for the coordinator it has dropped (its issues 5511 and 5456).
    "metadata.recovery.strategy": "none",
}


class Worker:
    """Its first failure ends it: whoever made it makes another, which goes on from what was committed."""

    def __init__(self, bootstrap: str, name: str, chance: random.Random) -> None:
        self._chance = chance
        common = {"bootstrap.servers": bootstrap, **QUICK}
        reading = {"group.id": GROUP, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        liveliness = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 300, "fetch.wait.max.ms": 50}
        static = {} if name.endswith("0") else {"group.instance.id": name}
        self._consumer = Consumer({**common, **reading, **liveliness, **static, "isolation.level": "read_committed"})
        self._producer = Producer(
            {**common, "transactional.id": name, "transaction.timeout.ms": 10_000, "linger.ms": 1}
        )

    def run(self) -> NoReturn:
        self._producer.init_transactions(PATIENCE_SECONDS)
        self._consumer.subscribe([SOURCE])
        while True:
            if (first := self._consumer.poll(0.1)) is not None:
                messages = [first, *self._consumer.consume(BATCH - 1, 0)]
                for error in filter(None, (message.error() for message in messages)):
                    raise KafkaException(error)
                self._process(messages)

    def close(self) -> None:
        self._producer.purge()
        self._consumer.close()

    def _process(self, messages: list[Message]) -> None:
        self._producer.begin_transaction()
        if self._chance.random() < 0.1:
            self._write(messages, ABORTED)
            self._producer.flush(PATIENCE_SECONDS)
            self._producer.abort_transaction(PATIENCE_SECONDS)
            self._producer.begin_transaction()
        self._write(messages, b"")
        after = {partition_of(message): (message.offset() or 0) + 1 for message in messages}
        offsets = [TopicPartition(SOURCE, partition, offset) for partition, offset in after.items()]
        group = self._consumer.consumer_group_metadata()
        self._producer.send_offsets_to_transaction(offsets, group, PATIENCE_SECONDS)
        self._producer.commit_transaction(PATIENCE_SECONDS)

    def _write(self, messages: list[Message], mark: bytes) -> None:
        for message in messages:
            self._producer.produce(TARGET, mark + (message.value() or b""), partition=partition_of(message))


def partition_of(message: Message) -> int:
    partition = message.partition()
    assert partition is not None
    return partition


def main(bootstrap: str, name: str, seed: str) -> NoReturn:
    chance = random.Random(int(seed))
    while True:
        worker = Worker(bootstrap, name, chance)
        try:
            worker.run()
        except KafkaException as error:
            print(f"{name} begins anew: {error}", file=sys.stderr, flush=True)
        finally:
            worker.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
