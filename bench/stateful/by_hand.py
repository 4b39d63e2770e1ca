"""By hand: consume, look up, produce, changelog, commit, exactly once, with confluent-kafka and fastavro.

Decodes to dicts, keeps state in dicts by partition, writes a changelog that it restores from at the start, sets
poisonous records aside in the same transaction, writes the same eight headers, counts in Prometheus, and commits every
100 ms or 10,000 events.
"""

import io
import json
import sys
import time
import urllib.request
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client import Counter, Histogram

EVENTS = Counter("events_total", "Events handled", ["outcome"])
BATCH = Histogram("batch_seconds", "Time of one batch")
PARTITIONS = 6


def schema_by_id(registry: str, schema_id: int) -> Any:
    with urllib.request.urlopen(f"{registry}/schemas/ids/{schema_id}", timeout=10) as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


def schema_of_subject(registry: str, subject: str) -> tuple[bytes, Any]:
    with urllib.request.urlopen(f"{registry}/subjects/{subject}/versions/latest", timeout=10) as answer:
        found = json.load(answer)
    return b"\0" + found["id"].to_bytes(4, "big"), fastavro.parse_schema(json.loads(found["schema"]))


def encode(prefix: bytes, schema: Any, value: dict[str, Any]) -> bytes:
    encoded = io.BytesIO()
    encoded.write(prefix)
    fastavro.schemaless_writer(encoded, schema, value)
    return encoded.getvalue()


def handle(order: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    total = Decimal(0)
    for line in order["lines"]:
        total += line["unit_price"] * line["quantity"]
    customer = order["customer_id"]
    before = state.get(customer)
    after = {
        "spent": (before["spent"] if before else Decimal(0)) + total,
        "orders": (before["orders"] if before else 0) + 1,
    }
    state[customer] = after
    return {"customer_id": customer, "order_id": order["order_id"], "total": total, **after}


def restore(bootstrap: str, changelog: str, schema: Any) -> dict[int, dict[str, Any]]:
    states: dict[int, dict[str, Any]] = {partition: {} for partition in range(PARTITIONS)}
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "isolation.level": "read_committed"})
    partitions = [TopicPartition(changelog, partition, 0) for partition in range(PARTITIONS)]
    left = {p.partition: reader.get_watermark_offsets(p, 10)[1] for p in partitions}
    reader.assign(partitions)
    while any(reader.position([p])[0].offset < left[p.partition] for p in partitions if left[p.partition]):
        for message in reader.consume(1_000, 1.0):
            value = message.value()
            found = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
            states[message.partition()][message.key().decode()] = found
    reader.close()
    return states


def main(bootstrap: str, registry: str, run: str, output: str, expected: int) -> None:
    changelog = f"{run}.spending"
    made = [NewTopic(changelog, PARTITIONS, config={"cleanup.policy": "compact"}), NewTopic(f"{run}.dlq", PARTITIONS)]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics(made).values():
        future.result(10)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": run,
            "group.instance.id": f"{run}-0",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 10,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"{run}-0",
            "transaction.timeout.ms": 15000,
            "compression.type": "lz4",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
    )
    producer.init_transactions(30)
    prefix, writer = schema_of_subject(registry, "bench.spent-bench.CustomerSpent")
    kept_prefix, kept_writer = schema_of_subject(registry, "bench.spending-bench.Spending")
    states = restore(bootstrap, changelog, kept_writer)
    schemas: dict[bytes, Any] = {}
    consumer.subscribe(["bench.ordered"])
    done = 0
    while done < expected:
        producer.begin_transaction()
        positions: dict[tuple[str, int], int] = {}
        dirty: set[tuple[int, str]] = set()
        deadline = time.monotonic() + 0.1
        in_transaction = 0
        while in_transaction < 10_000 and time.monotonic() < deadline:
            messages = consumer.consume(200, 0.1)
            started = time.perf_counter()
            for message in messages:
                if message.error():
                    raise SystemExit(message.error())
                value, partition = message.value(), message.partition()
                headers = dict(message.headers() or [])
                try:
                    schema = schemas.get(value[:5])
                    if schema is None:
                        schema = schemas[value[:5]] = schema_by_id(registry, int.from_bytes(value[1:5], "big"))
                    order = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
                    event = handle(order, states[partition])
                    encoded = encode(prefix, writer, event)
                except Exception as error:
                    said = [*headers.items(), ("error", str(error).encode())]
                    producer.produce(f"{run}.dlq", value, message.key(), headers=said)
                    EVENTS.labels("failed").inc()
                else:
                    dirty.add((partition, event["customer_id"]))
                    producer.produce(
                        output,
                        encoded,
                        event["customer_id"].encode(),
                        headers=[
                            ("ce_specversion", b"1.0"),
                            ("content-type", b"application/avro"),
                            ("ce_id", str(uuid.uuid4()).encode()),
                            ("ce_type", b"bench.CustomerSpent"),
                            ("ce_source", b"by-hand"),
                            ("ce_time", datetime.now(UTC).isoformat().encode()),
                            ("correlationid", headers["correlationid"]),
                            ("causationid", headers["ce_id"]),
                        ],
                    )
                positions[message.topic(), partition] = message.offset() + 1
            if messages:
                in_transaction += len(messages)
                EVENTS.labels("done").inc(len(messages))
                BATCH.observe(time.perf_counter() - started)
            producer.poll(0)
        for partition, customer in dirty:
            kept = encode(kept_prefix, kept_writer, states[partition][customer])
            producer.produce(changelog, kept, customer.encode(), partition=partition)
        if positions:
            offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        done += in_transaction
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
