"""The contracts of a running service: how to encode its own, and how to decode what it meets."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from millstream.contracts.cloudevents import cloudevents_decoder
from millstream.contracts.codec import Codec, codec_for
from millstream.contracts.foreign_json import json_decoder, json_encoder
from millstream.contracts.framing import schema_id_of
from millstream.contracts.json import plain_json
from millstream.contracts.json_schema import JsonCodec, json_schema_text, json_writer
from millstream.contracts.meeting import Expected, Read, Written, plain_json_payload, refusing
from millstream.contracts.protobuf import ProtobufCodec, protobuf_schema
from millstream.contracts.protobuf.raw import raw_fields
from millstream.contracts.registry import Registry, subject_for
from millstream.contracts.resolve import plain_decoder
from millstream.contracts.schema import schema_text
from millstream.declare.contract import Contract, Value, full_name
from millstream.declare.topic import Topic, home_of, tombstone_of
from millstream.errors import DeclarationError, DecodeError

V = TypeVar("V", bound=Value)

AnyCodec: TypeAlias = Codec[Any] | ProtobufCodec[Any] | JsonCodec[Any]

_LANGUAGES: dict[str, tuple[str, Callable[[type[Value]], str], Callable[[type[Any], int], AnyCodec]]] = {
    "avro": ("AVRO", schema_text, codec_for),
    "protobuf": ("PROTOBUF", protobuf_schema, ProtobufCodec),
    "json_schema": ("JSON", json_schema_text, JsonCodec),
}

_WITHOUT_REGISTRY: dict[str, Callable[[type[Value]], Callable[[Any], bytes]]] = {
    "json": json_encoder,
    "cloudevents": json_writer,
}

FORGET_AFTER = 5.0
"""Seconds until an id that the registry did not know is asked for again."""

_MAX_UNKNOWN = 10_000


class Contracts:
    """Encodes and decodes the contracts of one process. Not for several threads at once while registering.

    - `registry`: where schemas live; None where all topics are JSON.

    >>> from millstream.declare.contract import Event
    >>> class ReadingTaken(Event, key="device"):
    ...     device: str
    >>> topic = Topic("readings", ReadingTaken, format="json")
    >>> contracts = Contracts(None)
    >>> contracts.register([ReadingTaken])
    >>> contracts.encode(ReadingTaken(device="d-1"))
    b'{"device":"d-1"}'
    >>> contracts.decoder([topic]).decode(b'{"device":"d-2"}')
    ReadingTaken(device='d-2')
    """

    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry
        self._codecs: dict[type[Value], AnyCodec] = {}
        self._encoders: dict[type[Value], Callable[[Any], bytes]] = {}
        self._unknown: dict[int, tuple[float, DecodeError]] = {}
        self._plain: dict[int, Read] = {}

    def register(self, contracts: Iterable[type[Value]], *, topic: Topic | str | None = None) -> None:
        """Makes these classes ready to encode: registers the schema of each under its home topic, or under `topic`.

        Raises `DeclarationError` for a class without a home or an expressible schema, `IncompatibleSchema`,
        `RegistryUnavailable`.
        """
        for contract in contracts:
            if contract.__deletes__ is not None:
                continue  # a tombstone has no value, and so no schema
            home = topic or home_of(cast("type[Contract]", contract))
            if isinstance(home, Topic) and home.format in _WITHOUT_REGISTRY:
                self._encoders[contract] = _WITHOUT_REGISTRY[home.format](contract)
                continue
            kind, text, made = _LANGUAGES[home.format if isinstance(home, Topic) else "avro"]
            schema_id = self._asked.register(subject_for(home, full_name(contract)), text(contract), kind)
            codec = self._codecs[contract] = made(contract, schema_id)
            self._encoders[contract] = codec.encode

    def encode(self, record: Value) -> bytes:
        """The bytes of an event or command; for a topic of whole CloudEvents, those of its data.

        Raises `EncodeError` naming class and field.
        """
        return self.encoder(type(record))(record)

    def encoder(self, contract: type[Value]) -> Callable[[Any], bytes]:
        """The function behind `encode` for one class, for hot loops. A class that is new is registered first."""
        if contract not in self._encoders:
            self.register([contract])
        return self._encoders[contract]

    def values(self, topic: str, value: type[V]) -> "Values[V]":
        """Both ways for the one class of a changelog or a view, which has no home: registered under `topic`.

        Raises as `register` does.
        """
        self.register([value], topic=topic)
        codec = self._codecs[value]
        decode = self._dispatch({codec.prefix: codec.read}, Expected([value]))
        return Values(codec.encode, decode)

    def decoder(self, topics: Iterable[Topic]) -> "Decoder":
        """The decoder of what these topics carry. Schemas are looked up when they are first met.

        Of one topic that lets tombstones in, a record without a value is a `Deleted`; its key, which only the record
        has, is for `with_key` to add.

        Raises `DeclarationError` where a topic without a registry is not the only one: its values do not say whose.
        """
        topics = tuple(topics)
        deleted = tombstone_of(topics[0]) if len(topics) == 1 else None
        expected = Expected(contract for topic in topics for contract in topic.contracts)
        if any(topic.format in _WITHOUT_REGISTRY for topic in topics):
            if len(topics) != 1:
                names = ", ".join(topic.name for topic in topics)
                raise DeclarationError(f"one decoder for {names}: ask for a decoder of the JSON topic alone")
            whole = topics[0].format == "cloudevents"
            decode = cloudevents_decoder(expected) if whole else json_decoder(topics[0].contracts[0])
            return Decoder(decode if deleted is None else _or_deleted(decode, deleted))
        by_prefix = {
            codec.prefix: codec.read
            for contract in expected.contracts
            if (codec := self._codecs.get(contract)) is not None
        }
        return Decoder(self._dispatch(by_prefix, expected, deleted))

    def decode_any(self, topic: Topic | str, value: bytes | None) -> Any:
        """The value as what JSON can hold, whatever its schema: for people who look. Raises `DecodeError`."""
        if not value:
            raise _empty()
        if (isinstance(topic, Topic) and topic.format in _WITHOUT_REGISTRY) or value[0] != 0:
            return plain_json(value)
        schema_id = schema_id_of(value)
        if (decode := self._plain.get(schema_id)) is None:
            contracts = topic.contracts if isinstance(topic, Topic) else ()
            decode = self._plain[schema_id] = _plain(schema_id, self._schema(schema_id), Expected(contracts))
        return msgspec.to_builtins(decode(value))

    def _dispatch(
        self, by_prefix: dict[bytes, Read], expected: Expected, deleted: Contract | None = None
    ) -> Callable[[bytes | None], Any]:
        def meet(value: bytes | None) -> Callable[[bytes], Any]:
            if value is None and deleted is not None:
                return lambda _: deleted
            if not value:
                raise _empty()
            schema_id = schema_id_of(value)
            decode = self._choose(schema_id, expected)
            by_prefix[value[:5]] = decode
            return decode

        def decode(value: Any) -> Any:
            try:
                known = by_prefix[value[:5]]
            except (KeyError, TypeError):
                known = meet(value)
            return known(value)

        return decode

    def _choose(self, schema_id: int, expected: Expected) -> Read:
        return expected.reader(schema_id, self._schema(schema_id))

    def _schema(self, schema_id: int) -> Written:
        """Asks the registry. An id that it does not know is not asked for again at once."""
        if (failed := self._unknown.get(schema_id)) is not None:
            if time.monotonic() < failed[0]:
                raise failed[1]
            del self._unknown[schema_id]
        try:
            schema = self._asked.written(schema_id)
            if schema is not None:
                return schema
            error = DecodeError("unknown_schema", f"{self._asked} has no schema {schema_id}")
        except DecodeError as unreadable:
            error = unreadable
        while len(self._unknown) >= _MAX_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[schema_id] = (time.monotonic() + FORGET_AFTER, error)
        raise error

    @property
    def _asked(self) -> Registry:
        if self._registry is None:
            raise DeclarationError(
                "all but plain JSON and CloudEvents in JSON needs a schema registry: set MILLSTREAM_REGISTRY_URL"
            )
        return self._registry


class Values(NamedTuple, Generic[V]):
    """Both ways of one class, as `Contracts.values` makes them."""

    encode: Callable[[V], bytes]
    decode: Callable[[bytes | None], V]


class Decoder:
    """Decodes the values of some topics; `Contracts.decoder` makes it."""

    def __init__(self, decode: Callable[[bytes | None], Any]) -> None:
        self.decode: Callable[[bytes | None], Any] = decode
        """From a value to an event or command. Raises `DecodeError`, and `RegistryUnavailable` for an id never met."""


def _plain(schema_id: int, written: Written, expected: Expected) -> Read:
    """For people who look: field names as the writer had them, where its schema or a class of ours knows them."""
    match written.kind:
        case "AVRO":
            return plain_decoder(written.schema)
        case "JSON":
            return plain_json_payload
        case "PROTOBUF":
            typed = expected.reader(schema_id, written)

            def decode(message: bytes) -> Any:
                try:
                    return typed(message)
                except DecodeError:
                    return raw_fields(message)

            return decode
        case kind:
            return refusing("unreadable_schema", f"schema {schema_id} is {kind}")


def _or_deleted(decode: Callable[[bytes | None], Any], deleted: Contract) -> Callable[[bytes | None], Any]:
    return lambda value: deleted if value is None else decode(value)


def _empty() -> DecodeError:
    return DecodeError("empty", "the record has no value")
