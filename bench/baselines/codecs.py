"""What others do between bytes and a typed order: fastavro with msgspec by hand, Confluent's serializers, JSON."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import fastavro
import msgspec
import pydantic
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

_KEPT = (Decimal, datetime)


class Both(NamedTuple):
    """Both ways of one library: each takes nothing, and does the same work every time."""

    encode: Callable[[], Any]
    decode: Callable[[], Any]


def by_hand(event: msgspec.Struct, schema: dict[str, Any], message: bytes) -> Both:
    """fastavro to and from dicts, msgspec between dicts and the class."""
    parsed, contract, prefix = fastavro.parse_schema(schema), type(event), message[:5]

    def encode() -> bytes:
        written = io.BytesIO()
        written.write(prefix)
        fastavro.schemaless_writer(written, parsed, msgspec.to_builtins(event, builtin_types=_KEPT))
        return written.getvalue()

    def decode() -> Any:
        return msgspec.convert(fastavro.schemaless_reader(io.BytesIO(message[5:]), parsed, None), contract)

    assert encode() == message
    assert decode() == event
    return Both(encode, decode)


def confluent(event: Any, new: Callable[[dict[str, Any]], Any], text: str, message: bytes) -> Both:
    """confluent-kafka's serializers with a registry in memory, between bytes and a dataclass."""
    context = SerializationContext("orders", MessageField.VALUE)
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    registry.register_schema("orders-value", Schema(text, "AVRO"))
    subjects: dict[str, Any] = {"subject.name.strategy": topic_subject_name_strategy}
    read = AvroDeserializer(registry, text, lambda found, _: new(found), conf=subjects)
    write = AvroSerializer(
        registry, text, lambda value, _: dataclasses.asdict(value), subjects | {"auto.register.schemas": False}
    )

    def decode() -> Any:
        return read(message, context)

    def encode() -> Any:
        return write(event, context)

    assert decode() == event
    assert encode() == message
    return Both(encode, decode)


def pydantic_json(event: pydantic.BaseModel) -> Both:
    """What a web framework would do."""
    text, model = event.model_dump_json(), type(event)
    assert model.model_validate_json(text) == event
    return Both(event.model_dump_json, lambda: model.model_validate_json(text))


def msgspec_json(event: msgspec.Struct) -> Both:
    """The fastest JSON there is in Python."""
    write, read = msgspec.json.Encoder().encode, msgspec.json.Decoder(type(event)).decode
    text = write(event)
    assert read(text) == event
    return Both(lambda: write(event), lambda: read(text))


def plain(value: Any) -> Any:
    """A Struct as dicts with Decimals and datetimes in them."""
    return msgspec.to_builtins(value, builtin_types=_KEPT)


@dataclasses.dataclass(frozen=True, slots=True)
class FirstOrder:
    """The dataclass of the first shop's order."""

    orderId: str  # noqa: N815 as in its schema
    customerId: str  # noqa: N815 as in its schema
    items: list[str]
    totalAmount: float  # noqa: N815 as in its schema
    createdAt: int  # noqa: N815 as in its schema


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    product: str
    quantity: int
    unit_price: Decimal


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """The dataclass of today's order."""

    order_id: str
    customer_id: str | None
    country: str | None
    reference: str | None
    lines: list[Line]
    total: Decimal
    placed_at: datetime | None


def new_first_order(found: Mapping[str, Any]) -> FirstOrder:
    return FirstOrder(**{**found, "items": [*found["items"]]})


def new_order(found: Mapping[str, Any]) -> Order:
    return Order(**{**found, "lines": [Line(**line) for line in found["lines"]]})


class FirstModel(pydantic.BaseModel):
    orderId: str  # noqa: N815 as in its schema
    customerId: str  # noqa: N815 as in its schema
    items: list[str]
    totalAmount: float  # noqa: N815 as in its schema
    createdAt: int  # noqa: N815 as in its schema


class LineModel(pydantic.BaseModel):
    product: str
    quantity: int
    unit_price: Decimal


class OrderModel(pydantic.BaseModel):
    order_id: str
    customer_id: str | None
    country: str | None
    reference: str | None
    lines: tuple[LineModel, ...]
    total: Decimal
    placed_at: datetime | None
