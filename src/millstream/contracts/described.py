"""Records with their schema beside them: for state, which is read with the classes of a later day, and no registry."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import msgspec

from millstream.contracts.codec import codec_for
from millstream.contracts.foreign_json import json_decoder, json_encoder
from millstream.contracts.json_schema import JsonCodec, json_schema_text
from millstream.contracts.meeting import Expected, Read, Written
from millstream.contracts.protobuf import ProtobufCodec, protobuf_schema
from millstream.contracts.schema import schema_text
from millstream.declare.contract import Contract, former_names, full_name
from millstream.declare.topic import home_of
from millstream.errors import DecodeError

C = TypeVar("C", bound=Contract)

_ID = 0
"""The schema is beside the record: the id in front of it says nothing."""


class _Described(msgspec.Struct, array_like=True, frozen=True):
    language: str
    schema: str
    record: bytes


_read = msgspec.msgpack.Decoder(_Described).decode


class _Own(NamedTuple):
    """The form in which a class is written today."""

    language: str
    schema: str
    encode: Callable[[Any], bytes]
    read: Read


def describe(record: Contract) -> bytes:
    """A record as it would be on its topic, and its schema with it. Raises `EncodeError` naming class and field."""
    own = _own(type(record))
    return msgspec.msgpack.encode(_Described(own.language, own.schema, own.encode(record)))


def read_described(contract: type[C], value: bytes) -> C:
    """Read what `describe` wrote, perhaps when the class was another, by the rules that hold for records of its topic.

    Raises `DecodeError`.

    >>> from typing import Annotated
    >>> from millstream.declare import Alias, Event, Topic
    >>> class Weighed(Event, key="parcel", namespace="scales"):
    ...     parcel: str
    ...     weight: int
    >>> topic = Topic("weights", Weighed)
    >>> kept = describe(Weighed(parcel="p-1", weight=850))
    >>> class Weighed(Event, key="parcel", namespace="scales"):
    ...     parcel: str
    ...     grams: Annotated[int, Alias("weight")]
    >>> topic = Topic("weights", Weighed)
    >>> read_described(Weighed, kept)
    Weighed(parcel='p-1', grams=850)
    """
    try:
        found = _read(value)
    except msgspec.MsgspecError as error:
        raise DecodeError("malformed", f"no {contract.__name__} with its schema: {error}") from None
    return _reader(contract, found.language, found.schema)(found.record)


@cache
def names_read_as(contract: type[Contract]) -> tuple[str, ...]:
    """All full names that records of a class may have: its own first, then former ones and those of its upcasters."""
    upcast = (name for upcaster in contract.__upcasters__ for name in upcaster.names)
    return tuple(dict.fromkeys([full_name(contract), *former_names(contract), *upcast]))


@cache
def _own(contract: type[Contract]) -> _Own:
    match home_of(contract).format:
        case "avro":
            codec = codec_for(contract, _ID)
            return _Own("AVRO", schema_text(contract), codec.encode, codec.read)
        case "protobuf":
            codec = ProtobufCodec(contract, _ID)
            return _Own("PROTOBUF", protobuf_schema(contract), codec.encode, codec.read)
        case "json":
            # A topic of others: no schema of ours need fit it.
            return _Own("", "", json_encoder(contract), json_decoder(contract))
        case _:
            codec = JsonCodec(contract, _ID)
            return _Own("JSON", json_schema_text(contract), codec.encode, codec.read)


@cache
def _reader(contract: type[Contract], language: str, schema: str) -> Read:
    own = _own(contract)
    if (own.language, own.schema) == (language, schema):
        return own.read
    if not language:
        return json_decoder(contract)
    written = Written(language, schema if language == "PROTOBUF" else msgspec.json.decode(schema))
    return Expected([contract]).reader(_ID, written)
