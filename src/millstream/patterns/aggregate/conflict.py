"""The event for a command that expected another version."""

from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from millstream.declare import Contract, Event, home_of
from millstream.errors import DeclarationError

_VERSION = "version"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Makes the event of a conflict from a command and the version that is."""

    contract: type[Event]
    make: Callable[[Contract, int], Event]

    def __call__(self, command: Contract, version: int) -> Event:
        return self.make(command, version)


def expected_field(where: str, command: type[Contract], name: str) -> str:
    """Checks that a command has the field of a version. Raises `DeclarationError`."""
    types = {field.name: field.type for field in msgspec.structs.fields(command)}
    if name not in types or not _is_version(types[name]):
        raise DeclarationError(
            f"{where}: expects={name!r} names no version in {command.__name__}: "
            f"give it a field {name}: int | None = None"
        )
    return name


def conflict_of(where: str, command: type[Contract], contract: type[Event]) -> Conflict:
    """Plan how `contract` is filled. Raises `DeclarationError` naming a field that nothing fills."""
    home_of(contract)
    given = {field.name for field in msgspec.structs.fields(command)}
    fields = msgspec.structs.fields(contract)
    for field in fields:
        if field.required and field.name not in given and field.name != _VERSION:
            raise DeclarationError(
                f"{where}: nothing fills {contract.__name__}.{field.name} in a conflict: give it a default, or the "
                f"name of a field of {command.__name__}; {_VERSION} takes the version that is"
            )
    taken = [field.name for field in fields if field.name in given and field.name != _VERSION]
    versioned = any(field.name == _VERSION for field in fields)

    def make(asked: Contract, version: int) -> Event:
        values: dict[str, Any] = {name: getattr(asked, name) for name in taken}
        return contract(**values, **({_VERSION: version} if versioned else {}))

    return Conflict(contract, make)


def _is_version(annotation: Any) -> bool:
    parts = set(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else {annotation}
    return int in parts and parts <= {int, NoneType}
