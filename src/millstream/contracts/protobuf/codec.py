"""The Protobuf codec of one contract under one schema id, and what reads the messages of others."""

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, Generic, TypeVar

from millstream.contracts.explain import why_not_encoded
from millstream.contracts.framing import framing, schema_id_of
from millstream.contracts.protobuf.decoding import generate_decoder
from millstream.contracts.protobuf.encoding import generate_encoder
from millstream.contracts.protobuf.messages import Plan, plan_of
from millstream.contracts.protobuf.resolving import messages_of, resolved_plan
from millstream.contracts.protobuf.wire import read_varint
from millstream.declare.contract import Value
from millstream.declare.personal import has_personal
from millstream.declare.reading import shape_of
from millstream.errors import DecodeError
from millstream.schemas.protobuf.linking import Type

V = TypeVar("V", bound=Value)

_MAX_INDEXES = 32


class ProtobufCodec(Generic[V]):
    """Between Structs of one class and Confluent's wire format: a zero byte, the schema id, a zero byte, Protobuf.

    >>> class ParcelWeighed(Value, namespace="shipping"):
    ...     grams: int
    >>> codec = ProtobufCodec(ParcelWeighed, schema_id=7)
    >>> codec.encode(ParcelWeighed(grams=850)).hex()
    '00000000070008d206'
    >>> codec.decode(bytes.fromhex("00000000070008d206"))
    ParcelWeighed(grams=850)
    """

    def __init__(self, contract: type[V], schema_id: int) -> None:
        self.contract = contract
        self.schema_id = schema_id
        self.prefix = framing(schema_id)

    @cached_property
    def encode(self) -> Callable[[V], bytes]:
        """To bytes. Raises `EncodeError` that names the field."""
        plan = plan_of(self.contract)
        return generate_encoder(plan, self.prefix + b"\0", why_not_encoded(shape_of(self.contract)))

    @cached_property
    def read(self) -> Callable[[bytes], V]:
        """`decode` without another look at the schema id."""
        read = payload_reader(self.contract)

        def first_message(message: bytes) -> V:
            indexes, at = _indexes(message)
            if indexes != (0,):
                raise DecodeError("unexpected_type", f"not the first message of schema {self.schema_id}")
            return read(message, at)

        return first_message

    def decode(self, message: bytes) -> V:
        """From bytes of this very schema. Raises `DecodeError`."""
        if message[:5] != self.prefix:
            schema_id = schema_id_of(message)
            raise DecodeError("unknown_schema", f"the schema id is {schema_id}, and this codec reads {self.schema_id}")
        return self.read(message)


def payload_reader(contract: type[V]) -> Callable[[bytes, int], V]:
    """A function from a message of the class's own schema, and where its payload begins, to the class."""
    return _reader(plan_of(contract), quiet=has_personal(contract))


def _reader(plan: Plan, *, quiet: bool) -> Callable[[bytes, int], Any]:
    """`quiet`: quote no value in errors, as for a class with personal fields."""
    name = plan.messages[0].name
    at = [name]

    def explain(message: bytes, error: Exception, _: int) -> DecodeError:
        match error:
            case DecodeError():
                return error
            case RecursionError():
                return DecodeError("too_deep", f"{name} is nested too deep")
            case EOFError() | IndexError():
                return DecodeError("truncated", f"the {len(message)} bytes end inside {at[0]}")
            case KeyError() if quiet:
                return DecodeError("invalid", f"{at[0]}: the enumeration has no such number")
            case _ if quiet:
                return DecodeError("invalid", f"{at[0]}: a value that cannot be read ({type(error).__name__})")
            case KeyError():
                return DecodeError("invalid", f"{at[0]}: the enumeration has no number {error}")
            case LookupError():
                return DecodeError("invalid", f"{at[0]}: {error}")
            case _:
                return DecodeError("invalid", f"{at[0]}: {type(error).__name__}: {str(error)[:500]}")

    @cache
    def traced() -> Callable[[bytes, int], Any]:
        return generate_decoder(plan, explain, traced=at)

    def read_again(message: bytes, error: Exception, start: int) -> DecodeError:
        """The first reading does not know in which field it was."""
        at[0] = name
        if not isinstance(error, DecodeError | RecursionError):
            try:
                traced()(message, start)
            except DecodeError as named:
                return named
        return explain(message, error, start)

    return generate_decoder(plan, read_again)


def protobuf_decoder(
    text: str, choose: Callable[[Type], Callable[[bytes, int], Any]], imports: Mapping[str, str] | None = None
) -> Callable[[bytes], Any]:
    """A function from messages of the `.proto` file `text`: the indexes in front say which of its messages they are.

    `choose` gives the reader for a message. It may raise `DecodeError`. So does this function here and there:
    `unreadable_schema`, or `not_framed` where the indexes make no sense.
    """
    messages = messages_of(text, imports or {})
    readers: dict[tuple[int, ...], Callable[[bytes, int], Any]] = {}

    def decode(message: bytes) -> Any:
        indexes, at = _indexes(message)
        if (read := readers.get(indexes)) is None:
            if indexes not in messages:
                raise DecodeError("unexpected_type", "the schema has no message at the indexes of this record")
            read = readers[indexes] = choose(messages[indexes])
        return read(message, at)

    return decode


def resolving_reader(contract: type[V], written: Type) -> Callable[[bytes, int], V]:
    """A function from a message of another file, and where its payload begins, to the class as it is today."""
    return _reader(resolved_plan(contract, written), quiet=has_personal(contract))


def _indexes(message: bytes) -> tuple[tuple[int, ...], int]:
    """The path to the message inside its file, and where the payload begins."""
    if message[5:6] == b"\0":
        return (0,), 6
    try:
        count, at = _zigzag(message, 5)
        if not 0 < count <= _MAX_INDEXES:
            raise DecodeError("not_framed", f"the number of message indexes is not between 1 and {_MAX_INDEXES}")
        indexes: list[int] = []
        for _ in range(count):
            index, at = _zigzag(message, at)
            indexes.append(index)
    except (IndexError, OverflowError):
        raise DecodeError("truncated", f"the {len(message)} bytes end inside the message indexes") from None
    return tuple(indexes), at


def _zigzag(message: bytes, at: int) -> tuple[int, int]:
    number, at = read_varint(message, at)
    return (number >> 1) ^ -(number & 1), at
