"""Plain JSON, for topics of others: one object of one class, no schema id, no registry.

msgspec reads it, and takes more than a contract holds: numbers of more than 64 bits, more digits than a `Scale` has,
times without a zone. So every value is checked as one that is written. It takes less than JSON means, too: 1.0 is an
integer (https://json-schema.org/draft/2020-12/json-schema-validation#section-6.1.1); what it refuses is read again.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec

from millstream.contracts.json import guarded
from millstream.contracts.json_forms import from_json, has_notes, is_plain, no_number, read_exactly
from millstream.contracts.json_schema import fitting
from millstream.declare.contract import Value
from millstream.declare.personal import has_personal
from millstream.declare.reading import shape_of
from millstream.declare.shape import Record, Shape, records_in
from millstream.errors import DeclarationError, DecodeError, EncodeError


def json_decoder(contract: type[Value]) -> Callable[[bytes | None], Any]:
    """A function from JSON to the class. It raises `DecodeError` with `malformed_json`, or `invalid` and the path."""
    read, check, read_again = msgspec.json.Decoder(contract).decode, _check(contract), _again(contract)
    shape = _shape(contract)
    if shape is not None and has_notes(shape):
        read = _as_noted(contract, shape)

    def checked(value: bytes) -> Any:
        try:
            found = read(value)
        except msgspec.ValidationError as error:
            found = read_again(value, error)
        try:
            check(found)
        except EncodeError as error:
            raise DecodeError("invalid", str(error)) from None
        return found

    return guarded(checked, quiet=has_personal(contract))


def json_encoder(contract: type[Value]) -> Callable[[Any], bytes]:
    """A function from the class to JSON. It raises `EncodeError` for what it could not read back."""
    encode = msgspec.json.Encoder().encode
    read, check = msgspec.json.Decoder(contract).decode, _check(contract)
    quiet = has_personal(contract)

    def checked(record: Any) -> bytes:
        try:
            value = encode(record)
            read(value)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
            if quiet:
                check(record)  # which names the field
                raise EncodeError(f"{contract.__name__}: {type(error).__name__}") from None
            raise EncodeError(f"{contract.__name__}: {error}") from error
        check(record)
        if b"null" in value and (problem := no_number(record, contract.__name__)):
            raise EncodeError(problem)
        return value

    return checked


def _shape(contract: type[Value]) -> Record | None:
    """None for a class that holds what only JSON can say, as `dict[str, Any]`."""
    try:
        return shape_of(contract)
    except DeclarationError:  # not an Avro class; JSON reads it all the same
        return None


def _check(contract: type[Value]) -> Callable[[Any], object]:
    if _shape(contract) is not None:
        return fitting(contract)

    def check(record: Any) -> None:
        if problem := no_number(record, contract.__name__):
            raise EncodeError(problem)

    return check


def _again(contract: type[Value]) -> Callable[[bytes, msgspec.ValidationError], Any]:
    """Read what was refused as JSON means it; the first error stands where that does not help."""
    shape = _shape(contract)
    if shape is None or not is_plain(shape):

        def refuse(value: bytes, error: msgspec.ValidationError) -> Any:
            raise error

        return refuse
    read = _as_noted(contract, shape)

    def again(value: bytes, error: msgspec.ValidationError) -> Any:
        try:
            return read(value)
        except (ValueError, RecursionError):
            raise error from None

    return again


def _as_noted(contract: type[Value], shape: Record) -> Callable[[bytes], Any]:
    today = deepcopy(shape)
    _forget_former_names(today)
    return lambda value: from_json(today, read_exactly(value), contract.__name__)


def _forget_former_names(shape: Shape) -> None:
    """A topic of others has the names of today: its producers know no former ones."""
    for record in records_in(shape):
        for field in record.fields:
            field.aliases = ()
