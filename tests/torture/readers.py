"""What flows in, and what those who read the outcome see."""

import threading
import time
from collections import Counter
from typing import Literal

from confluent_kafka import Consumer, Producer, TopicPartition
from tests.torture.worker import ABORTED, QUICK, SOURCE

PARTITIONS = 6


class Source(threading.Thread):
    """Numbers for every partition of `in`, 0, 1, 2 …, `rate` of them a second in all, through every crash."""

    def __init__(self, bootstrap: str, rate: float) -> None:
        super().__init__(daemon=True)
        self.sent = [0] * PARTITIONS
        self.failures: list[str] = []
        self._rate = rate
        self._done = threading.Event()
        settings = {"enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 300_000}
        self._producer = Producer({"bootstrap.servers": bootstrap, **QUICK, **settings})

    def run(self) -> None:
        began = time.monotonic()
        while not self._done.wait(0.01):
            while sum(self.sent) < (time.monotonic() - began) * self._rate and len(self._producer) < 50_000:
                partition = sum(self.sent) % PARTITIONS
                number = str(self.sent[partition]).encode()
                self._producer.produce(SOURCE, number, partition=partition, on_delivery=self._delivered)
                self.sent[partition] += 1
            self._producer.poll(0)

    def finish(self, seconds: float) -> None:
        """Send no more, and wait until all is acknowledged."""
        self._done.set()
        self.join(seconds)
        if left := self._producer.flush(seconds):
            self.failures.append(f"{left} records were not acknowledged within {seconds:g} s")

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self.failures.append(str(error))


class Reader(threading.Thread):
    """Follows a topic from its beginning and notes what it sees at which offset."""

    def __init__(self, bootstrap: str, topic: str, isolation: Literal["read_committed", "read_uncommitted"]) -> None:
        super().__init__(daemon=True)
        self.seen: list[dict[int, bytes]] = [{} for _ in range(PARTITIONS)]
        self.following = [0] * PARTITIONS
        self.numbers = [0] * PARTITIONS
        self.counts: Counter[str] = Counter()
        self._committed = isolation == "read_committed"
        self._strict = self._committed or topic == SOURCE
        self._done = threading.Event()
        reading = {"group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error"}
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, **QUICK, **reading, "isolation.level": isolation, "fetch.wait.max.ms": 100}
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])

    def run(self) -> None:
        while not self._done.is_set():
            for message in self._consumer.consume(1000, 0.1):
                if (error := message.error()) is not None:
                    self.counts[f"error {error.name()}"] += 1
                    continue
                partition, offset, value = message.partition(), message.offset(), message.value() or b""
                assert partition is not None and offset is not None
                self.counts["out of order"] += offset < self.following[partition]
                self.following[partition] = offset + 1
                self.seen[partition][offset] = value
                if value.startswith(ABORTED):
                    self.counts["aborted"] += 1
                elif self._strict:
                    self._expect(partition, int(value))
        self._consumer.close()

    def _expect(self, partition: int, number: int) -> None:
        """The numbers of a partition follow each other: what is left out is lost, what comes again is doubled."""
        awaited = self.numbers[partition]
        self.counts["lost"] += max(number - awaited, 0)
        self.counts["duplicated"] += number < awaited
        self.numbers[partition] = max(awaited, number + 1)

    def finish(self) -> None:
        self._done.set()
        self.join(10)


def forget_agreed(committed: Reader, uncommitted: Reader) -> int:
    """How many records the one saw, and the other did not see at the same offset; both forget what was compared."""
    differing = 0
    for partition in range(PARTITIONS):
        upto = min(committed.following[partition], uncommitted.following[partition])
        few, all_ = committed.seen[partition], uncommitted.seen[partition]
        for offset in [offset for offset in list(few) if offset < upto]:
            differing += all_.get(offset) != few.pop(offset)
        for offset in [offset for offset in list(all_) if offset < upto]:
            del all_[offset]
    return differing
