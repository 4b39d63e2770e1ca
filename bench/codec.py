"""Codecs: ours beside fastavro to dicts and msgspec, on an order of three lines. `python -m bench.codec`"""

import io
import json
import statistics
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import fastavro
import msgspec
from rich.console import Console

from bench.measure import Comparison, alternate
from millstream import Event, Scale, Value
from millstream.contracts import avro_schema, codec_for, derived_id, edge_id, header_writer, identity

Money = Annotated[Decimal, Scale(18, 4)]
ROUNDS = 25
CALLS = 1000


class OrderLine(Value):
    product: str
    quantity: int
    unit_price: Money


class OrderCreated(Event, key="order_id"):
    order_id: str
    customer_id: str | None
    country: str
    lines: tuple[OrderLine, ...]
    total: Money
    created_at: datetime


def order(lines: int) -> OrderCreated:
    """An order as the retailer's invoices have them."""
    return OrderCreated(
        order_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        customer_id="customer-17850",
        country="United Kingdom",
        lines=tuple(
            OrderLine(
                product=f"85{n:03}A-WHITE-HANGING-HEART-T-LIGHT-HOLDER",
                quantity=6 + 30 * n,
                unit_price=Decimal("2.5500") + n,
            )
            for n in range(lines)
        ),
        total=Decimal("139.1200"),
        created_at=datetime(2026, 11, 23, 12, 34, 56, 789012, UTC),
    )


def rows(lines: int) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    event = order(lines)
    codec = codec_for(OrderCreated, 1)
    encode, decode = codec.encode, codec.read
    message = encode(event)
    schema = fastavro.parse_schema(avro_schema(OrderCreated))
    plain = fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)
    text_encode = msgspec.json.Encoder().encode
    text_decode = msgspec.json.Decoder(OrderCreated).decode
    text = text_encode(event)
    kept = (Decimal, datetime)

    def fastavro_encode(record: Any) -> bytes:
        written = io.BytesIO()
        written.write(b"\0\0\0\0\1")
        fastavro.schemaless_writer(written, schema, record)
        return written.getvalue()

    def fastavro_decode() -> Any:
        return fastavro.schemaless_reader(io.BytesIO(message[5:]), schema, None)

    assert decode(message) == event == text_decode(text)
    assert fastavro_encode(plain) == message
    return {
        "encode": lambda: encode(event),
        "encode: fastavro, dict": lambda: fastavro_encode(plain),
        "encode: fastavro, Struct": lambda: fastavro_encode(msgspec.to_builtins(event, builtin_types=kept)),
        "encode: msgspec JSON": lambda: text_encode(event),
        "decode": lambda: decode(message),
        "decode: fastavro, dict": fastavro_decode,
        "decode: fastavro, Struct": lambda: msgspec.convert(fastavro_decode(), OrderCreated),
        "decode: msgspec JSON": lambda: text_decode(text),
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


def microseconds(measured: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median microseconds of each, all taking turns."""
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, call in measured.items():
            began = time.perf_counter()
            for _ in range(CALLS):
                call()
            found[name].append((time.perf_counter() - began) / CALLS * 1e6)
    return {name: round(statistics.median(times), 2) for name, times in found.items()}


def run(console: Console, rounds: int) -> list[Comparison]:
    """Codecs a second, ours between bytes and events, fastavro's between bytes and dicts."""
    measured = rows(3)

    def per_second(name: str) -> float:
        return 1e6 / microseconds({name: measured[name]})[name]

    return [
        alternate(
            f"{name} an order of 3 lines",
            partial(per_second, name),
            partial(per_second, f"{name}: fastavro, dict"),
            unit="events/s",
            wanted=1.5,
            rounds=rounds,
            console=console,
        )
        for name in ("encode", "decode")
    ]


def main() -> None:
    """Print the figures as JSON."""
    result = {f"{lines} lines": microseconds(rows(lines)) for lines in (3, 20)} | {"metadata": microseconds(metadata())}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
