"""The languages that schemas are written in: what the registry asks of each, and which it has.

A format is a module of its own behind these two protocols. It is imported when the first schema in it comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol


class InvalidSchema(ValueError):
    """Why a text is no schema of its format."""


class TooMuch(ValueError):
    """A comparison of two schemas that would take longer than any honest one."""


@dataclass(frozen=True)
class Referred:
    """A schema that another one refers to, and the names by which it is called: an import's path, a URL."""

    text: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.text)


class Parsed(Protocol):
    """A schema that was understood."""

    @property
    def canonical(self) -> str:
        """The one text that stands for this schema; what it borrows from references is only named in it."""
        ...

    def formatted(self, form: str) -> str | None:
        """The text in one of Confluent's other forms; None if this format has no such form.

        In `resolved`, every borrowed type is spelled out where it is first used, so that the text stands alone.
        """
        ...

    def normalized(self) -> str:
        """A text in which what means nothing (the order of properties, how names are qualified) is gone."""
        ...

    def means_the_same_as(self, other: "Parsed") -> bool:
        """Return whether the two, of one format, differ in nothing but form: what is borrowed and what spelled out."""
        ...

    def misfits(self, writer: "Parsed") -> list[str]:
        """Why data written with `writer`, of the same format, cannot always be read with this; empty if it can.

        The messages leave `%(reader)s` and `%(writer)s` open: which of the two is the new one is not known here.
        Raises `TooMuch`.
        """
        ...


class Format(Protocol):
    def parse(self, text: str, referred: Sequence[Referred], *, as_new: bool) -> Parsed:
        """Understand `text`, which may borrow types from `referred`, in an order in which each knows its own.

        What is not `as_new` was taken once and is judged mildly. Raises `InvalidSchema`.
        """
        ...


_MODULES = {
    "AVRO": "millstream.schemas.avro.format",
    "JSON": "millstream.schemas.json_schema.format",
    "PROTOBUF": "millstream.schemas.protobuf.format",
}
TYPES = sorted(_MODULES)


def find(schema_type: str) -> Format:
    """The format called so; raises `InvalidSchema` for one that is not spoken here."""
    module = _MODULES.get(schema_type)
    if module is None:
        raise InvalidSchema(f"Invalid schema type {schema_type}; this registry speaks {', '.join(TYPES)}")
    return import_module(module).FORMAT
