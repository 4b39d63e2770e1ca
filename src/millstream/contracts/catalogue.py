"""What a running service knows about contracts: how to encode its own, and how to decode what it meets."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from millstream.contracts.codec import Codec, codec_for, framing, schema_id_of
from millstream.contracts.json import json_decoder, json_encoder, plain_json
from millstream.contracts.registry import Registry, subject_for
from millstream.contracts.resolve import plain_decoder, resolving_decoder
from millstream.contracts.schema import Schema, avro_schema, record_name, same_bytes, schema_text
from millstream.declare.contract import Contract, Value, former_names, full_name, home_of
from millstream.declare.topic import Topic
from millstream.errors import DeclarationError, DecodeError

V = TypeVar("V", bound=Value)

FORGET_AFTER = 5.0
"""Seconds until an id that the registry did not know is asked for again."""

_MOST_UNKNOWN = 10_000


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
        self._codecs: dict[type[Value], Codec[Any]] = {}
        self._encoders: dict[type[Value], Callable[[Any], bytes]] = {}
        self._unknown: dict[int, tuple[float, DecodeError]] = {}
        self._plain: dict[int, Callable[[bytes], Any]] = {}

    def register(self, contracts: Iterable[type[Value]], *, topic: Topic | str | None = None) -> None:
        """Makes these classes ready to encode: registers the schema of each under its home topic, or under `topic`.

        Raises `DeclarationError` for a class without a home or an expressible schema, `IncompatibleSchema`,
        `RegistryUnavailable`.
        """
        for contract in contracts:
            home = topic or home_of(cast("type[Contract]", contract))
            if isinstance(home, Topic) and home.format == "json":
                self._encoders[contract] = json_encoder(contract)
                continue
            name = home.name if isinstance(home, Topic) else home
            schema_id = self._asked.register(subject_for(name, full_name(contract)), schema_text(contract))
            codec = self._codecs[contract] = codec_for(contract, schema_id)
            self._encoders[contract] = codec.encode

    def encode(self, record: Value) -> bytes:
        """The bytes of an event or command. Raises `EncodeError` naming class and field."""
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
        decode = self._dispatch({codec.prefix: codec.read}, {full_name(value): value})
        return Values(codec.encode, decode)

    def decoder(self, topics: Iterable[Topic]) -> "Decoder":
        """The decoder of what these topics carry. Schemas are looked up when they are first met.

        Raises `DeclarationError` where a JSON topic is not the only one: its values do not say what they are.
        """
        topics = tuple(topics)
        if any(topic.format == "json" for topic in topics):
            if len(topics) != 1:
                names = ", ".join(topic.name for topic in topics)
                raise DeclarationError(f"one decoder for {names}: ask for a decoder of the JSON topic alone")
            return Decoder(json_decoder(topics[0].contracts[0]))
        contracts = {name: contract for topic in topics for contract in topic.contracts for name in _names(contract)}
        by_prefix = {
            framing(codec.schema_id): codec.read
            for contract in {*contracts.values()}
            if (codec := self._codecs.get(contract)) is not None
        }
        return Decoder(self._dispatch(by_prefix, contracts))

    def decode_any(self, topic: Topic | str, value: bytes | None) -> Any:
        """The value as what JSON can hold, whatever its schema: for people who look. Raises `DecodeError`."""
        if not value:
            raise _empty()
        if (isinstance(topic, Topic) and topic.format == "json") or value[0] != 0:
            return plain_json(value)
        schema_id = schema_id_of(value)
        if (decode := self._plain.get(schema_id)) is None:
            decode = self._plain[schema_id] = plain_decoder(self._schema(schema_id))
        return msgspec.to_builtins(decode(value))

    def _dispatch(
        self, by_prefix: dict[bytes, Callable[[bytes], Any]], contracts: dict[str, type[Any]]
    ) -> Callable[[bytes | None], Any]:
        def meet(value: bytes | None) -> Callable[[bytes], Any]:
            if not value:
                raise _empty()
            schema_id = schema_id_of(value)
            decode = self._choose(schema_id, contracts)
            by_prefix[value[:5]] = decode
            return decode

        def decode(value: Any) -> Any:
            try:
                known = by_prefix[value[:5]]
            except (KeyError, TypeError):
                known = meet(value)
            return known(value)

        return decode

    def _choose(self, schema_id: int, contracts: dict[str, type[Any]]) -> Callable[[bytes], Any]:
        schema = self._schema(schema_id)
        name = record_name(schema) if isinstance(schema, dict) else str(schema)[:80]
        contract = contracts.get(name)
        if contract is None:
            return _refusing("unexpected_type", f"schema {schema_id} is {name}; expected {', '.join(contracts)}")
        if same_bytes(avro_schema(contract), schema):
            return codec_for(contract, schema_id).read
        try:
            return resolving_decoder(contract, schema)
        except DecodeError as error:
            return _refusing(error.reason, f"schema {schema_id}: {error.detail}")

    def _schema(self, schema_id: int) -> Schema:
        """Asks the registry. An id that it does not know is not asked for again at once."""
        if (failed := self._unknown.get(schema_id)) is not None:
            if time.monotonic() < failed[0]:
                raise failed[1]
            del self._unknown[schema_id]
        try:
            schema = self._asked.schema(schema_id)
            if schema is not None:
                return schema
            error = DecodeError("unknown_schema", f"{self._asked} has no schema {schema_id}")
        except DecodeError as unreadable:
            error = unreadable
        while len(self._unknown) >= _MOST_UNKNOWN:
            del self._unknown[next(iter(self._unknown))]
        self._unknown[schema_id] = (time.monotonic() + FORGET_AFTER, error)
        raise error

    @property
    def _asked(self) -> Registry:
        if self._registry is None:
            raise DeclarationError("an Avro topic needs a schema registry: set MILLSTREAM_REGISTRY_URL")
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


def _names(contract: type[Value]) -> list[str]:
    return [full_name(contract), *former_names(contract)]


def _refusing(reason: str, detail: str) -> Callable[[bytes], Any]:
    def refuse(value: bytes) -> Any:
        raise DecodeError(reason, detail)

    return refuse


def _empty() -> DecodeError:
    return DecodeError("empty", "the record has no value")
