"""Personal data: fields that tools and logs do not show."""

import types
from collections.abc import Collection
from functools import cache, reduce
from typing import Annotated, Any, Union, cast, get_args, get_origin

import msgspec

from millstream.declare.notes import Alias

MASK = "••••••"

_UNIONS = (Union, types.UnionType)


class Personal:
    """Says that a field is about a person: it is masked in logs, in listings and in the examples of documents.

    Bytes on topics are as they were: this protects from eyes, not from readers of the topic. A key cannot be personal,
    since keys are shown everywhere and kept for ever.

    >>> from typing import Annotated
    >>> from millstream.declare.contract import Value
    >>> class Customer(Value):
    ...     customer_id: str
    ...     email: Annotated[str, Personal]
    >>> masked(Customer, {"customer_id": "c-1", "email": "ada@example.org"})
    {'customer_id': 'c-1', 'email': '••••••'}
    """


def is_personal(annotation: Any) -> bool:
    """Return whether an annotation says `Personal` of the whole value, itself or through an alias or a part of a union.

    >>> is_personal(Annotated[str | None, Personal()]), is_personal(str)
    (True, False)
    """
    annotation = getattr(annotation, "__value__", annotation)  # `type Email = …` of Python 3.12
    if get_origin(annotation) in _UNIONS:
        return any(is_personal(part) for part in get_args(annotation))
    if get_origin(annotation) is not Annotated:
        return False
    inner, *notes = get_args(annotation)
    return any(note is Personal or isinstance(note, Personal) for note in notes) or is_personal(inner)


@cache
def has_personal(contract: type[msgspec.Struct]) -> bool:
    """Return whether a class has personal fields, at any depth."""
    return _is_or_has_personal(contract, set())


def masked(contract: type[msgspec.Struct], plain: Any) -> Any:
    """Mask the personal fields of a record of this class, given as JSON holds it.

    Records may be older than the class: fields go by their former names, too, and one that the class does not have is
    masked, for it may have been personal. Classes without personal fields are left as they are.
    """
    return _masked(contract, plain) if has_personal(contract) else plain


def holds_personal(value: Any) -> bool:
    """Return whether a value that is to be logged is a record with personal fields, or holds one."""
    match value:
        case msgspec.Struct():
            return has_personal(type(value))
        case list() | tuple() | set() | frozenset():
            return any(map(holds_personal, cast("Collection[Any]", value)))
        case dict():
            return any(map(holds_personal, cast("dict[Any, Any]", value).values()))
        case _:
            return False


def shown(record: Any) -> str:
    """The representation of a record, or of a collection of them, for logs: with personal fields masked."""
    match record:
        case msgspec.Struct():
            types_of = {field.name: field.type for field in msgspec.structs.fields(type(record))}
            parts = [
                f"{name}={MASK if is_personal(of) else shown(getattr(record, name))}" for name, of in types_of.items()
            ]
            return f"{type(record).__name__}({', '.join(parts)})"
        case list() | tuple() | set() | frozenset():
            return f"[{', '.join(map(shown, cast('Collection[Any]', record)))}]"
        case dict():
            entries = cast("dict[Any, Any]", record)
            return f"{{{', '.join(f'{key!r}: {shown(value)}' for key, value in entries.items())}}}"
        case _:
            return repr(record)


def _masked(annotation: Any, plain: Any) -> Any:
    if plain is None:
        return None
    if is_personal(annotation):
        return MASK
    annotation = getattr(annotation, "__value__", annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _masked(arguments[0], plain)
    if origin in _UNIONS:
        return _masked_by_one(arguments, plain)
    if isinstance(plain, dict):
        return _masked_entries(annotation, arguments, cast("dict[str, Any]", plain))
    if isinstance(plain, (list, tuple, set, frozenset)) and arguments:
        items = list(cast("Collection[Any]", plain))
        each = arguments if ... not in arguments and len(arguments) == len(items) else arguments[:1] * len(items)
        return [_masked(part, item) for part, item in zip(each, items, strict=True)]
    return cast("Any", plain)


def _masked_by_one(parts: tuple[Any, ...], plain: Any) -> Any:
    """A union does not say which class a record has: taken are those that have most of its fields."""
    classes = [part for part in map(_bare, parts) if _is_record(part)]
    if not (isinstance(plain, dict) and classes):
        return reduce(lambda value, part: _masked(part, value), parts, cast("Any", plain))
    record = cast("dict[str, Any]", plain)
    alike = {of: len(_fields(of).keys() & record.keys()) for of in classes}
    if not any(alike.values()):
        # A branch under its name, or an entry of a dict.
        return {name: _masked_by_one(parts, value) for name, value in record.items()}
    closest = [of for of in classes if alike[of] == max(alike.values())]
    return reduce(lambda value, of: _masked(of, value), closest, record)


def _masked_entries(annotation: Any, arguments: tuple[Any, ...], plain: dict[str, Any]) -> dict[str, Any]:
    if _is_record(annotation):
        inside = _fields(annotation)
        if not has_personal(annotation):
            return plain
        # A field that the class has no more was perhaps personal.
        return {name: _masked(inside[name], value) if name in inside else MASK for name, value in plain.items()}
    for argument in arguments:
        # The values of a dict, or the named parts of a tuple.
        plain = {name: _masked(argument, value) for name, value in plain.items()}
    return plain


@cache
def _fields(contract: type[msgspec.Struct]) -> dict[str, Any]:
    """The annotation of each field by the names that it has, has in records, and had."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(contract):
        former = [note.name for note in getattr(field.type, "__metadata__", ()) if isinstance(note, Alias)]
        found |= dict.fromkeys([field.name, field.encode_name, *former], field.type)
    return found


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def _bare(annotation: Any) -> Any:
    annotation = getattr(annotation, "__value__", annotation)
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _is_or_has_personal(annotation: Any, visited: set[type]) -> bool:
    if is_personal(annotation):
        return True
    annotation = getattr(annotation, "__value__", annotation)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        if annotation in visited:
            return False
        visited.add(annotation)
        return any(_is_or_has_personal(field.type, visited) for field in msgspec.structs.fields(annotation))
    return any(_is_or_has_personal(argument, visited) for argument in get_args(annotation))
