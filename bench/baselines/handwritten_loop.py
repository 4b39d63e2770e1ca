"""Consume, process, produce, exactly once: the loop written by hand with confluent-kafka and fastavro.

Decodes to dicts, sets poisonous records aside in the same transaction, writes the same eight headers, counts in
Prometheus, commits every 100 ms or 10,000 events.
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
from prometheus_client import Counter, Histogram

EVENTS = Counter("events_total", "Events handled", ["outcome"])
BATCH = Histogram("batch_seconds", "Time of one batch")


def schema_by_id(registry: str, schema_id: int) -> Any:
    with urllib.request.urlopen(f"{registry}/schemas/ids/{schema_id}", timeout=10) as answer:
        return fastavro.parse_schema(json.loads(json.load(answer)["schema"]))


def schema_of_subject(registry: str, subject: str) -> tuple[int, Any]:
    with urllib.request.urlopen(f"{registry}/subjects/{subject}/versions/latest", timeout=10) as answer:
        found = json.load(answer)
    return found["id"], fastavro.parse_schema(json.loads(found["schema"]))


def handle(order: dict[str, Any]) -> dict[str, Any]:
    total = Decimal(0)
    units = 0
    for line in order["lines"]:
        total += line["unit_price"] * line["quantity"]
        units += line["quantity"]
    return {"order_id": order["order_id"], "customer_id": order["customer_id"], "total": total, "units": units}


def main(bootstrap: str, registry: str, run: str, output: str, expected: int) -> None:
    group = f"handwritten-{run}"
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.instance.id": f"{group}-0",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 10,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "transactional.id": f"{group}-0",
            "transaction.timeout.ms": 15000,
            "compression.type": "lz4",
            "linger.ms": 5,
            "partitioner": "murmur2_random",
        }
    )
    producer.init_transactions(30)
    schema_id, writer = schema_of_subject(registry, "bench.priced-bench.OrderPriced")
    prefix = b"\0" + schema_id.to_bytes(4, "big")
    schemas: dict[bytes, Any] = {}
    consumer.subscribe(["bench.placed"])
    done = 0
    while done < expected:
        producer.begin_transaction()
        positions: dict[tuple[str, int], int] = {}
        deadline = time.monotonic() + 0.1
        in_transaction = 0
        while in_transaction < 10_000 and time.monotonic() < deadline:
            messages = consumer.consume(200, 0.1)
            started = time.perf_counter()
            for message in messages:
                if message.error():
                    raise SystemExit(message.error())
                value = message.value()
                headers = dict(message.headers() or [])
                try:
                    schema = schemas.get(value[:5])
                    if schema is None:
                        schema = schemas[value[:5]] = schema_by_id(registry, int.from_bytes(value[1:5], "big"))
                    order = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
                    event = handle(order)
                    encoded = io.BytesIO()
                    encoded.write(prefix)
                    fastavro.schemaless_writer(encoded, writer, event)
                except Exception as error:
                    producer.produce(
                        "bench.placed.dlq",
                        value,
                        message.key(),
                        headers=[*headers.items(), ("error", str(error).encode())],
                    )
                    EVENTS.labels("failed").inc()
                else:
                    producer.produce(
                        output,
                        encoded.getvalue(),
                        event["order_id"].encode(),
                        headers=[
                            ("ce_specversion", b"1.0"),
                            ("content-type", b"application/avro"),
                            ("ce_id", str(uuid.uuid4()).encode()),
                            ("ce_type", b"bench.OrderPriced"),
                            ("ce_source", b"handwritten"),
                            ("ce_time", datetime.now(UTC).isoformat().encode()),
                            ("correlationid", headers["correlationid"]),
                            ("causationid", headers["ce_id"]),
                        ],
                    )
                positions[message.topic(), message.partition()] = message.offset() + 1
            if messages:
                in_transaction += len(messages)
                EVENTS.labels("done").inc(len(messages))
                BATCH.observe(time.perf_counter() - started)
            producer.poll(0)
        if positions:
            offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        done += in_transaction
    consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
