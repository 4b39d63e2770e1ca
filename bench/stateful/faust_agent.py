"""Faust, exactly once, with a table. Run by the interpreter of `peers`."""

import io
import json
import sys
import urllib.request
from decimal import Decimal
from typing import Any

import fastavro
import faust


def schema(registry: str, subject: str) -> tuple[int, Any]:
    with urllib.request.urlopen(f"{registry}/subjects/{subject}/versions/latest") as answer:
        found = json.load(answer)
    return found["id"], fastavro.parse_schema(json.loads(found["schema"]))


def main(bootstrap: str, registry: str, run: str, output: str, folder: str) -> None:
    out_id, writer = schema(registry, "bench.spent-bench.CustomerSpent")
    prefix = b"\0" + out_id.to_bytes(4, "big")
    _, reader = schema(registry, "bench.ordered-bench.CustomerOrdered")
    app = faust.App(
        run,
        broker=f"kafka://{bootstrap}",
        processing_guarantee="exactly_once",
        broker_commit_interval=0.1,
        datadir=folder,
        store="memory://",
        topic_partitions=6,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    source = app.topic("bench.ordered", key_type=bytes, value_type=bytes, value_serializer="raw", internal=False)
    target = app.topic(output, key_type=bytes, value_type=bytes, value_serializer="raw", internal=False)
    spending = app.Table("spending", partitions=6)

    @app.agent(source)
    async def add(orders: Any) -> None:
        async for value in orders:
            order = fastavro.schemaless_reader(io.BytesIO(value[5:]), reader)
            customer = order["customer_id"]
            total = sum((line["unit_price"] * line["quantity"] for line in order["lines"]), Decimal(0))
            # Tables are JSON there: decimals travel as text.
            before, count = spending.get(customer, ("0", 0))
            spent = Decimal(before) + total
            spending[customer] = (str(spent), count + 1)
            found = io.BytesIO()
            found.write(prefix)
            values = {"customer_id": customer, "order_id": order["order_id"], "total": total}
            fastavro.schemaless_writer(found, writer, {**values, "spent": spent, "orders": count + 1})
            await target.send(key=customer.encode(), value=found.getvalue())

    faust.Worker(app, loglevel="WARNING").execute_from_commandline()


if __name__ == "__main__":
    main(*sys.argv[1:6])
