"""What a client does to the broker under measure: the same code for either side, in a process of its own.

Run as `python -m bench.broker.client NAME BOOTSTRAP PID '{"argument": …}'`; prints one JSON object. PID is the
broker's: its processor time within the measured window goes into the result as `share`, in percent of one core.
"""

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # pyright: ignore[reportPrivateImportUsage]

from bench.broker.sides import cpu_seconds

_PATIENCE = 60.0
_CHUNK = 10_000

Result = dict[str, Any]


def create(client: "Client", topic: str, partitions: int) -> Result:
    """Create a topic, and wait until it is known."""
    admin = AdminClient(client.config)
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(_PATIENCE)
    client.partitions(admin, topic)
    return {}


def produce(client: "Client", topic: str, messages: int, size: int = 100) -> Result:
    """Messages a second, until the last is acknowledged."""
    producer = Producer(client.config | {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    client.partitions(producer, topic)
    value = bytes(size)

    def send(count: int) -> None:
        for _ in range(count):
            while True:
                try:
                    producer.produce(topic, value)
                    break
                except BufferError:
                    producer.poll(0.01)
        if producer.flush(_PATIENCE):
            raise TimeoutError(f"{len(producer)} messages were not acknowledged within {_PATIENCE:g} s")

    send(max(messages // 20, 1))
    with client.window() as window:
        send(messages)
    return window | {"rate": messages / window["seconds"]}


def consume(client: "Client", topic: str, messages: int) -> Result:
    """Messages a second, from the first that comes to the last; of a longer log only its end is read."""
    consumer = client.consumer(**{"fetch.queue.backoff.ms": 10})
    ends = _ends(consumer, topic, client.partitions(consumer, topic))
    consumer.assign([TopicPartition(topic, end.partition, max(end.offset - messages, 0)) for end in ends])
    got = len(consumer.consume(1, _PATIENCE))
    first = got
    deadline = time.monotonic() + _PATIENCE
    with client.window() as window:
        while got < messages and time.monotonic() < deadline:
            got += len(_sound(consumer.consume(min(_CHUNK, messages - got), 0.5)))
    if got < messages:
        raise TimeoutError(f"{got:,} of {messages:,} messages came within {_PATIENCE:g} s")
    consumer.close()
    return window | {"rate": (got - first) / window["seconds"]}


def transactions(client: "Client", topic: str, seconds: float, messages: int = 1) -> Result:
    """Transactions a second, one after the other."""
    producer = Producer(client.config | {"transactional.id": uuid4().hex, "linger.ms": 0})
    producer.init_transactions(_PATIENCE)
    value = bytes(100)

    def commit_for(duration: float) -> int:
        done = 0
        until = time.monotonic() + duration
        while time.monotonic() < until:
            producer.begin_transaction()
            for _ in range(messages):
                producer.produce(topic, value)
            producer.commit_transaction(_PATIENCE)
            done += 1
        return done

    commit_for(0.3)
    with client.window() as window:
        done = commit_for(seconds)
    return window | {"rate": done / window["seconds"]}


def latency(client: "Client", topic: str, per_second: int, seconds: float) -> Result:
    """Milliseconds from `produce` to the message in the hands of a reader, at a steady rate."""
    consumer = client.consumer()
    producer = Producer(client.config | {"linger.ms": 0})
    known = client.partitions(producer, topic)
    consumer.assign(_ends(consumer, topic, known))
    consumer.poll(1.0)
    count = int(per_second * seconds)
    warm = per_second // 2
    taken: list[float] = []

    def read() -> None:
        deadline = time.monotonic() + seconds + _PATIENCE
        while len(taken) < warm + count and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None:
                taken.append((time.perf_counter_ns() - int(_value(message))) / 1e6)

    reader = threading.Thread(target=read)
    reader.start()
    with client.window() as window:
        began = time.perf_counter()
        for number in range(warm + count):
            ahead = began + number / per_second - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)  # the pace is what is asked for
            producer.produce(topic, b"%d" % time.perf_counter_ns())
            producer.poll(0)
        producer.flush(_PATIENCE)
        reader.join()
    if len(taken) < warm + count:
        raise TimeoutError(f"{len(taken):,} of {warm + count:,} messages came")
    cuts = statistics.quantiles(taken[warm:], n=100, method="inclusive")
    return window | {"p50": cuts[49], "p99": cuts[98]}


def idle(client: "Client", topic: str, consumers: int, seconds: float, per_second: float = 0) -> Result:
    """The share of one core that the broker needs while readers of every partition wait; with `per_second`, while
    they are sent so many messages."""
    readers = [client.consumer() for _ in range(consumers)]
    ends = _ends(readers[0], topic, client.partitions(readers[0], topic))
    for reader in readers:
        reader.assign(ends)
        reader.poll(0.2)
    producer = Producer(client.config | {"linger.ms": 0})
    time.sleep(1.5)  # the work of beginning is not what is measured
    with client.window() as window:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if per_second:
                producer.produce(topic, b"x")
                producer.poll(0)
            for reader in readers:
                reader.poll(0)
            time.sleep(1 / per_second if per_second else 0.05)  # the pace of records, or of looking at idle readers
    for reader in readers:
        reader.close()
    return window


class Client:
    """Where the broker is, and what it has cost in a window of time."""

    def __init__(self, bootstrap: str, pid: int) -> None:
        self.config = {"bootstrap.servers": bootstrap, "log_level": 3}
        self._pid = pid

    def consumer(self, **more: Any) -> Consumer:
        own = {"group.id": uuid4().hex, "enable.auto.commit": False, "auto.offset.reset": "earliest"}
        return Consumer(self.config | own | more)

    @staticmethod
    def partitions(any_client: Producer | Consumer | AdminClient, topic: str) -> list[int]:
        """Of a topic that exists, or that the broker creates because it is asked for."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            known = any_client.list_topics(topic, timeout=_PATIENCE).topics[topic].partitions
            if known:
                return sorted(known)
            time.sleep(0.05)  # between two looks
        raise TimeoutError(f"topic {topic} was not there within {_PATIENCE:g} s")

    @contextmanager
    def window(self) -> Iterator[Result]:
        found: Result = {}
        cpu, began = cpu_seconds(self._pid), time.perf_counter()
        yield found
        found["seconds"] = time.perf_counter() - began
        found["share"] = 100 * (cpu_seconds(self._pid) - cpu) / found["seconds"]


def _ends(consumer: Consumer, topic: str, partitions: list[int]) -> list[TopicPartition]:
    """To be asked before the consumer fetches: a broker answers a connection's requests one after the other."""
    places = [TopicPartition(topic, number) for number in partitions]
    return [TopicPartition(topic, p.partition, consumer.get_watermark_offsets(p, _PATIENCE)[1]) for p in places]


def _sound(messages: list[Message]) -> list[Message]:
    for message in messages:
        if (error := message.error()) is not None:
            raise KafkaException(error)
    return messages


def _value(message: Message) -> bytes:
    return _sound([message])[0].value() or b""


if __name__ == "__main__":
    name, bootstrap, pid, arguments = sys.argv[1:5]
    functions = {one.__name__: one for one in (create, produce, consume, transactions, latency, idle)}
    print(json.dumps(functions[name](Client(bootstrap, int(pid)), **json.loads(arguments))))
