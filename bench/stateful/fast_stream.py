"""FastStream: one message at a time, acknowledged after it; no transactions, and state is a dict that a crash forgets.

Run by the interpreter of `peers`.
"""

import asyncio
import io
import json
import sys
import urllib.request
from decimal import Decimal
from typing import Any

import fastavro
from faststream.confluent import KafkaBroker


def schema(registry: str, path: str) -> tuple[int, Any]:
    with urllib.request.urlopen(f"{registry}{path}") as answer:
        found = json.load(answer)
    return found.get("id", 0), fastavro.parse_schema(json.loads(found["schema"]))


async def main(bootstrap: str, registry: str, run: str, output: str, folder: str) -> None:
    out_id, writer = schema(registry, "/subjects/bench.spent-bench.CustomerSpent/versions/latest")
    prefix = b"\0" + out_id.to_bytes(4, "big")
    _, reader = schema(registry, "/subjects/bench.ordered-bench.CustomerOrdered/versions/latest")
    spending: dict[str, tuple[Decimal, int]] = {}
    broker = KafkaBroker(bootstrap, logger=None)

    async def read(message: Any) -> dict[str, Any]:
        return fastavro.schemaless_reader(io.BytesIO(message.body[5:]), reader)

    @broker.subscriber("bench.ordered", group_id=run, auto_offset_reset="earliest", decoder=read)
    async def add(order: dict) -> None:
        total = sum((line["unit_price"] * line["quantity"] for line in order["lines"]), Decimal(0))
        spent, orders = spending.get(order["customer_id"], (Decimal(0), 0))
        spending[order["customer_id"]] = spent, orders = spent + total, orders + 1
        found = io.BytesIO()
        found.write(prefix)
        values = {"customer_id": order["customer_id"], "order_id": order["order_id"], "total": total}
        fastavro.schemaless_writer(found, writer, {**values, "spent": spent, "orders": orders})
        await broker.publish(found.getvalue(), output, key=order["customer_id"].encode(), no_confirm=True)

    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
