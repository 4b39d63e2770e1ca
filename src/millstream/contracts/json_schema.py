"""The JSON Schema of a contract (draft 2020-12), and the codec of the JSON that it describes."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from millstream.contracts.codec import codec_for
from millstream.contracts.framing import framing
from millstream.contracts.json import guarded
from millstream.contracts.json_forms import (
    branch_name,
    from_json,
    has_floats,
    has_notes,
    is_plain,
    json_value,
    needs_names,
    no_number,
    read_exactly,
    to_json,
)
from millstream.declare.contract import Value
from millstream.declare.misfit import misfit
from millstream.declare.personal import has_personal
from millstream.declare.reading import shape_of
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Field,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
)
from millstream.errors import DeclarationError, DecodeError, EncodeError

V = TypeVar("V", bound=Value)

_SCALARS: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    float: {"type": "number"},
    bytes: {"type": "string", "contentEncoding": "base64"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "pattern": r"^\d{2}:\d{2}:\d{2}(\.\d{1,6})?$"},
    timedelta: {"type": "string", "pattern": "^-?P"},
    UUID: {"type": "string", "format": "uuid"},
}


def json_schema(contract: type[Value]) -> dict[str, Any]:
    """The JSON Schema of a class: closed objects, so that a registry lets fields with a default be added.

    Decimals, UUIDs, dates, times and durations are text, bytes are base64. Branches of a union that JSON cannot tell
    apart are objects with one key, the branch's name. Raises `DeclarationError` where a type cannot be expressed.

    >>> class Counted(Value, namespace="stock"):
    ...     product: str
    ...     quantity: int = 0
    >>> json_schema(Counted)["properties"]
    {'product': {'type': 'string'}, 'quantity': {'type': 'integer', 'default': 0}}
    """
    record = shape_of(contract)
    others: dict[str, Any] = {}
    described = _record(record, record, others)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": record.name} | described
    return schema | ({"$defs": others} if others else {})


def json_schema_text(contract: type[Value]) -> str:
    """The schema as it is registered: compact JSON, the same bytes for the same class."""
    return msgspec.json.encode(json_schema(contract)).decode()


def _record(record: Record, root: Record, others: dict[str, Any]) -> dict[str, Any]:
    head: dict[str, Any] = {"type": "object"}
    if doc := (record.python.__doc__ or "").strip().partition("\n")[0]:
        head["description"] = doc
    return head | {
        "properties": {field.name: _field(field, record, root, others) for field in record.fields},
        "required": [field.name for field in record.fields if field.default is REQUIRED],
        "additionalProperties": False,
    }


def _field(field: Field, record: Record, root: Record, others: dict[str, Any]) -> dict[str, Any]:
    declared = dict(_type(field.shape, root, others))
    if field.doc:
        declared["description"] = field.doc
    if field.deprecated is not None:
        declared |= {"deprecated": True, "description": f"{field.doc or ''} Deprecated: {field.deprecated}".strip()}
    if field.default is not REQUIRED:
        where = f"{record.python.__name__}.{field.attribute}"
        if problem := misfit(field.shape, field.default, "the default"):
            raise DeclarationError(f"{where}: {problem}")
        try:
            declared["default"] = to_json(field.shape, field.default)
        except ValueError as error:
            raise DeclarationError(f"{where}: the default: {error}") from None
    return declared


def _type(shape: Shape | None, root: Record, others: dict[str, Any]) -> dict[str, Any]:
    match shape:
        case None:
            return {"type": "null"}
        case Scalar(python=python):
            return _SCALARS[python]
        case Decimals(precision, scale):
            return {"type": "string", "format": "decimal", "precision": precision, "scale": scale}
        case Symbols(members=members):
            return {"enum": [json_value(member) for member in members.values()]}
        case Items(container, item):
            unique = {"uniqueItems": True} if container in (set, frozenset) else {}
            return {"type": "array", "items": _type(item, root, others)} | unique
        case Fixed(parts=parts):
            size = len(parts)
            prefix = [_type(part, root, others) for part in parts]
            return {"type": "array", "prefixItems": prefix, "items": False, "minItems": size, "maxItems": size}
        case Entries(value=value):
            return {"type": "object", "additionalProperties": _type(value, root, others)}
        case OneOf(branches):
            return {"anyOf": [_branch(branch, shape, root, others) for branch in branches]}
        case Record():
            if shape is root:
                return {"$ref": "#"}
            if shape.name not in others:
                others[shape.name] = {}
                others[shape.name] = _record(shape, root, others)
            return {"$ref": f"#/$defs/{shape.name}"}


def _branch(branch: Shape | None, union: OneOf, root: Record, others: dict[str, Any]) -> dict[str, Any]:
    described = _type(branch, root, others)
    if branch is None or not needs_names(union):
        return described
    name = branch_name(branch)
    return {"type": "object", "properties": {name: described}, "required": [name], "additionalProperties": False}


class JsonCodec(Generic[V]):
    """Between Structs of one class and Confluent's wire format: a zero byte, the schema id, JSON.

    >>> class ParcelWeighed(Value, namespace="shipping"):
    ...     grams: int
    >>> codec = JsonCodec(ParcelWeighed, schema_id=7)
    >>> codec.encode(ParcelWeighed(grams=850))
    b'\\x00\\x00\\x00\\x00\\x07{"grams":850}'
    """

    def __init__(self, contract: type[V], schema_id: int) -> None:
        self.contract = contract
        self.schema_id = schema_id
        self.prefix = framing(schema_id)

    @cached_property
    def encode(self) -> Callable[[V], bytes]:
        """To bytes. Raises `EncodeError` that names the field."""
        return json_writer(self.contract, self.prefix)

    @cached_property
    def read(self) -> Callable[[bytes], V]:
        """From framed bytes, whatever their id. Raises `DecodeError`."""
        return json_reader(self.contract, own=True)

    def decode(self, message: bytes) -> V:
        """From bytes of this very schema. Raises `DecodeError`."""
        if message[:5] != self.prefix:
            raise DecodeError("unknown_schema", f"this codec reads schema {self.schema_id}")
        return self.read(message)


def json_writer(contract: type[V], prefix: bytes = b"") -> Callable[[V], bytes]:
    """A function from the class to JSON after `prefix`. It raises `EncodeError`."""
    record, write, check = shape_of(contract), msgspec.json.encode, fitting(contract)
    name, quiet = contract.__name__, has_personal(contract)
    directly = is_plain(record) and not has_floats(record)

    def encode(value: V) -> bytes:
        check(value)
        try:
            return prefix + write(value if directly else to_json(record, value))
        except (ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            text = type(error).__name__ if quiet else str(error)
            raise EncodeError(no_number(value, name) or f"{name}: {text}") from None

    return encode


def json_reader(contract: type[V], *, own: bool, start: int = 5) -> Callable[[bytes], V]:
    """A function from JSON, from `start` on, to the class. Unless it is our `own`, fields may have their former names.

    It raises `DecodeError`.
    """
    record, check, name = shape_of(contract), fitting(contract), contract.__name__
    directly = own and is_plain(record) and not has_notes(record)
    read = msgspec.json.Decoder(contract).decode if directly else None

    def read_by_names(payload: bytes) -> V:
        return from_json(record, read_exactly(payload), name)

    def checked(message: bytes) -> V:
        payload = message[start:]
        try:
            value = read(payload) if read is not None else read_by_names(payload)
        except msgspec.ValidationError as error:
            value = _again(read_by_names, payload, error)
        try:
            check(value)
        except EncodeError as error:
            raise DecodeError("invalid", str(error)) from None
        return value

    return guarded(checked, quiet=has_personal(contract))


def _again(read: Callable[[bytes], V], payload: bytes, error: msgspec.ValidationError) -> V:
    """Read what msgspec refused as JSON means it: 1.0 is an integer. The first error stands where that fails, too."""
    try:
        return read(payload)
    except (ValueError, RecursionError):
        raise error from None


def fitting(contract: type[Value]) -> Callable[[Any], object]:
    """Raises `EncodeError` for a value that does not fit its class. Nothing of ours says so faster than Avro."""
    return codec_for(contract, 0).encode
