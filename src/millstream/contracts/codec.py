"""The codec of one contract under one schema id."""

from collections.abc import Callable
from functools import cached_property
from typing import Generic, TypeVar

from millstream.contracts.decoding import generate_decoder
from millstream.contracts.encoding import generate_encoder
from millstream.contracts.explain import why_not_decoded, why_not_encoded
from millstream.contracts.framing import framing, schema_id_of
from millstream.declare.contract import Value
from millstream.declare.reading import shape_of
from millstream.errors import DecodeError

V = TypeVar("V", bound=Value)


class Codec(Generic[V]):
    """Between Structs of one class and Confluent's wire format: a zero byte, the schema id, Avro.

    `encode` and `read` are plain functions, made for this class at first use: bind them to a name in a hot loop.
    """

    def __init__(self, contract: type[V], schema_id: int) -> None:
        self.contract = contract
        self.schema_id = schema_id
        self.prefix = framing(schema_id)
        self._shape = shape_of(contract)

    @cached_property
    def encode(self) -> Callable[[V], bytes]:
        """To bytes. Raises `EncodeError` that names the field: `OrderCreated.lines[3].quantity: 'x' is no int`."""
        return generate_encoder(self._shape, self.prefix, why_not_encoded(self._shape))

    @cached_property
    def read(self) -> Callable[[bytes], V]:
        """`decode` without another look at the prefix."""
        return generate_decoder(self._shape, why_not_decoded(self._shape))

    def decode(self, message: bytes) -> V:
        """From bytes of this very schema. Raises `DecodeError`."""
        if message[:5] != self.prefix:
            schema_id = schema_id_of(message)
            raise DecodeError("unknown_schema", f"the schema id is {schema_id}, and this codec reads {self.schema_id}")
        return self.read(message)


def codec_for(contract: type[V], schema_id: int) -> Codec[V]:
    """The codec of a class under the id that the registry gave its schema.

    Raises `DeclarationError` for a class that no Avro schema can express.

    >>> class ParcelWeighed(Value, namespace="shipping"):
    ...     grams: int
    >>> codec = codec_for(ParcelWeighed, schema_id=7)
    >>> codec.encode(ParcelWeighed(grams=850)).hex()
    '0000000007a40d'
    >>> codec.decode(bytes.fromhex("0000000007a40d"))
    ParcelWeighed(grams=850)
    """
    return Codec(contract, schema_id)
