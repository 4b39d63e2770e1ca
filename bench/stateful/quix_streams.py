"""Quix Streams, exactly once, with its own state and changelog. Run by the interpreter of `peers`."""

import json
import sys
import urllib.request
from decimal import Decimal
from typing import Any

from quixstreams import Application
from quixstreams.models import TopicConfig
from quixstreams.models.serializers.avro import AvroDeserializer, AvroSerializer
from quixstreams.models.serializers.schema_registry import SchemaRegistryClientConfig


def main(bootstrap: str, registry: str, run: str, output: str, folder: str) -> None:
    with urllib.request.urlopen(f"{registry}/subjects/bench.spent-bench.CustomerSpent/versions/latest") as answer:
        schema = json.loads(json.load(answer)["schema"])
    client = SchemaRegistryClientConfig(url=registry)
    app = Application(
        bootstrap,
        consumer_group=run,
        auto_offset_reset="earliest",
        commit_interval=0.1,
        processing_guarantee="exactly-once",
        state_dir=folder,
        loglevel="WARNING",
        consumer_extra_config={"fetch.queue.backoff.ms": 10},
        producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
    )
    config = TopicConfig(num_partitions=6, replication_factor=1)
    source = app.topic(
        "bench.ordered", value_deserializer=AvroDeserializer(schema_registry_client_config=client), config=config
    )
    target = app.topic(
        output, value_serializer=AvroSerializer(schema, schema_registry_client_config=client), config=config
    )

    def add(order: dict[str, Any], state: Any) -> dict[str, Any]:
        total = sum((line["unit_price"] * line["quantity"] for line in order["lines"]), Decimal(0))
        # State is JSON there: decimals travel as text.
        spent = Decimal(state.get("spent", "0")) + total
        orders = state.get("orders", 0) + 1
        state.set("spent", str(spent))
        state.set("orders", orders)
        return {
            "customer_id": order["customer_id"],
            "order_id": order["order_id"],
            "total": total.quantize(Decimal("0.0001")),
            "spent": spent.quantize(Decimal("0.0001")),
            "orders": orders,
        }

    app.dataframe(source).apply(add, stateful=True).to_topic(target)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:6])
