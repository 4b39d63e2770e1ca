"""The forms that values have in JSON beyond what msgspec knows: unions that JSON alone cannot tell apart, former names.

`["str", "datetime"]` are both text and two records are both objects: where that happens, each branch of the union is an
object with one key, its name, as in `{"Card": {"number": "4111"}}`.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from millstream.contracts.meaning import Convert, from_number
from millstream.declare.foreign import FromNumber, FromText, LocalAsUtc
from millstream.declare.misfit import unquoted
from millstream.declare.personal import has_personal
from millstream.declare.shape import (
    REQUIRED,
    Decimals,
    Entries,
    Fixed,
    Items,
    OneOf,
    Record,
    Scalar,
    Shape,
    Symbols,
    python_class,
)


def kind_of(shape: Shape | None) -> str:
    """The kind of a shape in JSON's words; a union is what its branches are."""
    match shape:
        case None:
            return "null"
        case Scalar(python=python) if python in (int, float):
            return "number"
        case Scalar(python=python) if python is bool:
            return "boolean"
        case Symbols(members=members):
            return "number" if isinstance(json_value(next(iter(members.values()))), int) else "string"
        case Items() | Fixed():
            return "array"
        case Record() | Entries():
            return "object"
        case _:
            return "string"


def needs_names(union: OneOf) -> bool:
    """Return whether JSON cannot tell the branches apart."""
    kinds = [kind_of(branch) for branch in union.branches]
    return len({*kinds}) < len(kinds)


def branch_name(shape: Shape) -> str:
    """The key of a branch where it needs one."""
    name = shape.name if isinstance(shape, Record | Symbols | Fixed) else python_class(shape).__name__
    return name.rpartition(".")[2]


def json_value(member: Any) -> Any:
    """A member of an enumeration, or a literal, in JSON."""
    return getattr(member, "value", member)


def is_plain(shape: Shape | None, above: tuple[Shape, ...] = ()) -> bool:
    """Return whether msgspec alone writes and reads it as we would."""
    match shape:
        case Record(fields=fields):
            return shape in above or all(is_plain(field.shape, (*above, shape)) for field in fields)
        case Items(item=inner) | Entries(value=inner):
            return is_plain(inner, above)
        case Fixed(parts=parts):
            return all(is_plain(part, above) for part in parts)
        case OneOf(branches):
            return not needs_names(shape) and all(is_plain(branch, above) for branch in branches)
        case _:
            return True


def has_floats(shape: Shape | None, above: tuple[Shape, ...] = ()) -> bool:
    """Return whether there may be numbers that JSON cannot hold: not a number, infinity."""
    match shape:
        case Record(fields=fields):
            return shape not in above and any(has_floats(field.shape, (*above, shape)) for field in fields)
        case Items(item=inner) | Entries(value=inner):
            return has_floats(inner, above)
        case Fixed(parts=parts) | OneOf(branches=parts):
            return any(has_floats(part, above) for part in parts)
        case _:
            return isinstance(shape, Scalar) and shape.python is float


def to_json(shape: Shape | None, value: Any) -> Any:
    """From a value that fits its shape to what `msgspec.json` writes. Raises `ValueError` for what JSON cannot hold."""
    match shape:
        case None:
            return None
        case Record(fields=fields):
            return {field.name: to_json(field.shape, getattr(value, field.attribute)) for field in fields}
        case Items(item=item):
            return [to_json(item, part) for part in value]
        case Fixed(parts=parts):
            return [to_json(part, inner) for part, inner in zip(parts, value, strict=True)]
        case Entries(value=inner):
            return {key: to_json(inner, part) for key, part in value.items()}
        case OneOf(branches):
            branch = next((one for one in branches if python_class(one) is type(value)), None)
            branch = branch or (next((one for one in branches if one), None) if value is not None else None)
            if branch is None or not needs_names(shape):
                return to_json(branch, value)
            return {branch_name(branch): to_json(branch, value)}
        case Symbols():
            return json_value(value)
        case Decimals():
            return str(value)
        case Scalar():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"JSON has no {value}")
            return msgspec.to_builtins(value)


class Unfit(ValueError):
    """JSON that does not fit its class. The text says where; it quotes no value if the class has personal fields."""


def from_json(record: Record, value: Any, path: str) -> Any:
    """From what JSON holds to the class, fields under their former names too. Raises `Unfit` with the path.

    Raises what the class's own `__post_init__` raises, unless it has personal fields, which that may quote.
    """
    return _from_json(record, value, path, has_personal(record.python))


def _from_json(shape: Shape | None, value: Any, path: str, quiet: bool) -> Any:
    match shape:
        case None:
            return None
        case Record() if isinstance(value, dict):
            given = _fields(shape, value, path, quiet)
            try:
                return shape.python(**given)
            except Exception as error:
                if quiet:
                    raise Unfit(f"{path}: its class raises {type(error).__name__}") from None
                raise
        case Items(container, item) if isinstance(value, list):
            return container(_from_json(item, part, f"{path}[{at}]", quiet) for at, part in enumerate(value))
        case Fixed(parts=parts) if isinstance(value, list) and len(value) == len(parts):
            return tuple(_from_json(part, value[at], f"{path}[{at}]", quiet) for at, part in enumerate(parts))
        case Entries(value=inner) if isinstance(value, dict):
            return {
                key: _from_json(inner, part, f"{path}.{'…' if quiet else key}", quiet) for key, part in value.items()
            }
        case OneOf(branches):
            if value is None and None in branches:
                return None
            return _branch(shape, value, path, quiet)
        case Symbols(members=members):
            for member in members.values():
                if json_value(member) == value and not isinstance(value, bool):
                    return member
        case Decimals():
            return _decimal(value, path, quiet)
        case Scalar():
            return _scalar(shape, value, path, quiet)
        case _:
            pass
    raise Unfit(f"{path}: {_shown(value, quiet)} is no {python_class(shape).__name__}")


def _fields(record: Record, value: dict[str, Any], path: str, quiet: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for field in record.fields:
        name = next((name for name in (field.name, *field.aliases) if name in value), None)
        if name is not None:
            given[field.attribute] = _from_json(field.shape, value[name], f"{path}.{name}", quiet)
        elif field.default is REQUIRED:
            raise Unfit(f"{path}: the field {field.name} is missing")
    return given


def _branch(union: OneOf, value: Any, path: str, quiet: bool) -> Any:
    present = [branch for branch in union.branches if branch is not None]
    if needs_names(union):
        if isinstance(value, dict) and len(value) == 1:
            [(name, inner)] = value.items()
            for branch in present:
                if branch_name(branch) == name:
                    return _from_json(branch, inner, f"{path}.{name}", quiet)
    else:
        kinds = {
            str: "string",
            bool: "boolean",
            int: "number",
            float: "number",
            Decimal: "number",
            list: "array",
            dict: "object",
        }
        for branch in present:
            if kind_of(branch) == kinds.get(type(value)):
                return _from_json(branch, value, path, quiet)
    raise Unfit(f"{path}: {_shown(value, quiet)} is none of {', '.join(map(branch_name, present))}")


def _scalar(shape: Scalar, value: Any, path: str, quiet: bool) -> Any:
    python = shape.python
    if python is int:
        return _whole(value, path, quiet)
    if python is float and type(value) in (int, float, Decimal):
        return _real(value, path, quiet)
    if type(value) in (int, Decimal):
        for note in shape.foreign:
            if isinstance(note, FromNumber):
                return _noted(from_number(python, note), _whole(value, path, quiet), python, path, quiet)
    converted = _noted(lambda given: msgspec.convert(given, python), value, python, path, quiet)
    if python is datetime and converted.tzinfo is None and LocalAsUtc in shape.foreign:
        return converted.replace(tzinfo=UTC)
    return converted


def _whole(value: Any, path: str, quiet: bool) -> int:
    """1.0 is an integer in JSON."""
    if type(value) is int:
        return value
    if isinstance(value, Decimal) and -(1 << 63) <= value < 1 << 63 and value == value.to_integral_value():
        return int(value)
    raise Unfit(f"{path}: {_shown(value, quiet)} is no int")


def _real(value: Any, path: str, quiet: bool) -> float:
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not math.isfinite(real):
        raise Unfit(f"{path}: {unquoted(value) if quiet else str(value)[:80]} is too large for a float")
    return real


def _decimal(value: Any, path: str, quiet: bool) -> Decimal:
    if isinstance(value, Decimal):
        return value
    return _noted(lambda given: msgspec.convert(given, Decimal), value, Decimal, path, quiet)


def _noted(convert: Convert, value: Any, python: type, path: str, quiet: bool) -> Any:
    try:
        return convert(value)
    except (ValueError, ArithmeticError) as error:
        raise Unfit(f"{path}: {f'{unquoted(value)} is no {python.__name__}' if quiet else error}") from None


def _shown(value: Any, quiet: bool) -> str:
    return unquoted(value) if quiet else repr(str(value)[:80])


def has_notes(shape: Shape | None, above: tuple[Shape, ...] = ()) -> bool:
    """Return whether some number or time without a zone is to be read as the class says."""
    match shape:
        case Record(fields=fields):
            return shape not in above and any(has_notes(field.shape, (*above, shape)) for field in fields)
        case Items(item=inner) | Entries(value=inner):
            return has_notes(inner, above)
        case Fixed(parts=parts) | OneOf(branches=parts):
            return any(has_notes(part, above) for part in parts)
        case Scalar(foreign=foreign):
            return any(note != FromText for note in foreign)
        case _:
            return False


read_exactly: Callable[[bytes], Any] = msgspec.json.Decoder(float_hook=Decimal).decode
"""From JSON to what it holds, numbers with all digits. As floats, 9007199254740993.0 and long decimals are others."""


def no_number(value: Any, path: str, *, quiet: bool = False) -> str | None:
    """The first thing that no contract holds, whatever its class says: a time without a zone, a number that is none.

    - `quiet`: quote no key of a map, as for a record with personal fields.
    """
    match value:
        case msgspec.Struct():
            quiet = quiet or has_personal(type(value))
            parts = ((f"{path}.{name}", getattr(value, name)) for name in value.__struct_fields__)
        case dict():
            parts = ((f"{path}[{'…' if quiet else repr(str(key)[:40])}]", part) for key, part in value.items())
        case list() | tuple() | set() | frozenset():
            parts = ((f"{path}[{at}]", part) for at, part in enumerate(value))
        case float() if not math.isfinite(value):
            return f"{path}: JSON has no {value}"
        case Decimal() if not value.is_finite():
            return f"{path}: {unquoted(value) if quiet else value} is no number"
        case datetime() if value.tzinfo is None:
            return f"{path} has no time zone"
        case int() if not -(1 << 63) <= value < 1 << 63:
            return f"{path} does not fit 64 bits"
        case _:
            return None
    return next((problem for name, part in parts if (problem := no_number(part, name, quiet=quiet))), None)
