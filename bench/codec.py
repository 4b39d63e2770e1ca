"""Codecs: ours beside what others do between bytes and a typed order. `python -m bench.codec`

Two orders: the first shop's, five plain fields with three items; and the order system's own, with twenty lines.
"""

import json
import statistics
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from rich.console import Console

from bench.baselines import codecs
from bench.measure import Comparison, alternate
from millstream import Event
from millstream.contracts import avro_schema, codec_for, derived_id, edge_id, header_writer, identity, schema_text
from millstream.contracts.json_schema import JsonCodec
from millstream.contracts.protobuf import ProtobufCodec
from millstream.declare.contract import ValueMeta
from orders.contracts import OrderCreated, OrderLine

ROUNDS = 15
CALLS = 500
WANTED = {"fastavro + msgspec": 2.0, "confluent-kafka": 4.0}

FirstOrder: Any = ValueMeta(
    "OrderCreated",
    (Event,),
    {
        "__annotations__": {
            "order_id": str,
            "customer_id": str,
            "items": tuple[str, ...],
            "total_amount": float,
            "created_at": int,
        },
        "__module__": __name__,
    },
    key="order_id",
    namespace="com.example.orders",
    rename="camel",
)
PRODUCTS = [f"85{n:03}A-WHITE-HANGING-HEART-T-LIGHT-HOLDER" for n in range(20)]


def first_order() -> Any:
    """An order as the first shop wrote it."""
    return FirstOrder(
        order_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        customer_id="customer-17850",
        items=tuple(PRODUCTS[:3]),
        total_amount=139.12,
        created_at=1_290_000_000_000,
    )


def order() -> OrderCreated:
    """An order as the retailer's invoices have them."""
    return OrderCreated(
        order_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        customer_id="customer-17850",
        country="United Kingdom",
        reference="536365",
        lines=tuple(
            OrderLine(product=product, quantity=6 + 30 * n, unit_price=Decimal("2.5500") + n)
            for n, product in enumerate(PRODUCTS)
        ),
        total=Decimal("139.1200"),
        placed_at=datetime(2026, 11, 23, 12, 34, 56, 789012, UTC),
    )


def sides(event: Any, dataclass: Callable[[Any], Any], model: Any) -> dict[str, codecs.Both]:
    """All who encode and decode this event, by name; ours is called after its format."""
    contract = type(event)

    def ours(codec: Any) -> codecs.Both:
        message = codec.encode(event)
        assert codec.read(message) == event
        encode, read = codec.encode, codec.read
        return codecs.Both(lambda: encode(event), lambda: read(message))

    message = codec_for(contract, 1).encode(event)
    plain = codecs.plain(event)
    return {
        "avro": ours(codec_for(contract, 1)),
        "fastavro + msgspec": codecs.by_hand(event, avro_schema(contract), message),
        "confluent-kafka": codecs.confluent(dataclass(plain), dataclass, schema_text(contract), message),
        "pydantic JSON": codecs.pydantic_json(model(**plain)),
        "msgspec JSON": codecs.msgspec_json(event),
        "protobuf": ours(ProtobufCodec(contract, 1)),
        "json_schema": ours(JsonCodec(contract, 1)),
    }


def cases() -> dict[str, dict[str, codecs.Both]]:
    """Both orders."""
    return {
        "the first shop's order": sides(first_order(), codecs.new_first_order, codecs.FirstModel),
        "an order of 20 lines": sides(order(), codecs.new_order, codecs.OrderModel),
    }


def metadata() -> dict[str, Callable[[], Any]]:
    """Headers and ids, by name."""
    write = header_writer(OrderCreated, "order")
    own_id = edge_id()
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = write(own_id, own_id, own_id, trace)
    namespace = uuid.UUID(own_id)
    return {
        "nine headers": lambda: write(own_id, own_id, own_id, trace),
        "identity of headers": lambda: identity(headers, "t", 0, 0),
        "derived id": lambda: derived_id(own_id, "shipping.schedule", 0),
        "derived id: uuid.uuid5": lambda: str(uuid.uuid5(namespace, "shipping.schedule/0")),
        "edge id": edge_id,
        "edge id: uuid.uuid4": lambda: str(uuid.uuid4()),
    }


def microseconds(measured: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median microseconds of each, all taking turns."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, call in measured.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            found[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return {name: round(statistics.median(times), 2) for name, times in found.items()}


def run(console: Console, rounds: int) -> list[Comparison]:
    """Events a second between bytes and typed events, ours and theirs."""

    def per_second(call: Callable[[], Any]) -> float:
        return 1e6 / microseconds({"": call}, 5)[""]

    return [
        alternate(
            f"{way} {case}, beside {name}",
            partial(per_second, getattr(measured["avro"], way)),
            partial(per_second, getattr(measured[name], way)),
            unit="events/s",
            wanted=wanted,
            rounds=rounds,
            console=console,
        )
        for case, measured in cases().items()
        for way in ("decode", "encode")
        for name, wanted in WANTED.items()
    ]


def main() -> None:
    """Print the figures as JSON."""
    result: dict[str, Any] = {
        f"{way} {case}": microseconds({name: getattr(both, way) for name, both in measured.items()})
        for case, measured in cases().items()
        for way in ("decode", "encode")
    }
    print(json.dumps(result | {"metadata": microseconds(metadata())}, indent=2))


if __name__ == "__main__":
    main()
