"""librdkafka's mock cluster in a process of its own; says where it listens, and ends when its stdin does."""

import sys

from confluent_kafka import Producer

if __name__ == "__main__":
    host = Producer({"test.mock.num.brokers": 1, "log_level": 3})
    broker = next(iter(host.list_topics(timeout=10).brokers.values()))
    print(f"{broker.host}:{broker.port}", flush=True)
    sys.stdin.read()
