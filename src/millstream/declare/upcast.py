"""Upcasters: how what was written long ago becomes the class of today."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from millstream.declare.contract import Value, former_names, full_name
from millstream.errors import DeclarationError

V = TypeVar("V", bound=Value)
Old = TypeVar("Old", bound=Value)


@dataclass(frozen=True, slots=True)
class Upcaster:
    """One way from an old schema to a class, as `upcasts` declares it."""

    names: tuple[str, ...]
    old: type[Value] | None
    having: str | None
    function: Callable[[Any], Any]


@overload
def upcasts(
    new: type[V], old: str, *, having: str | None = None
) -> Callable[[Callable[[dict[str, Any]], V]], Callable[[dict[str, Any]], V]]: ...
@overload
def upcasts(
    new: type[V], old: type[Old], *, having: str | None = None
) -> Callable[[Callable[[Old], V]], Callable[[Old], V]]: ...
def upcasts(new: type[V], old: str | type[Value], *, having: str | None = None) -> Callable[[Any], Any]:
    """Declares that a function makes a `new` from what was written as `old`. Handlers only ever see `new`.

    - `old`: the full name in the old schema, and the function takes a dict of what was written; or a `Value` class of
      that name, and it takes one of those, which may itself be the target of older upcasters.
    - `having`: only for schemas with this field: tells old from new where the name is still the same.

    Whatever the function raises makes a dead letter of the record (`upcast_failed`). Raises `DeclarationError` for a
    second upcaster from the same schema.

    >>> class Weighed(Value, namespace="scale"):
    ...     grams: int
    >>> @upcasts(Weighed, "com.example.Weighing")
    ... def from_kilograms(old: dict[str, Any]) -> Weighed:
    ...     return Weighed(grams=round(old["kilograms"] * 1000))
    >>> from_kilograms({"kilograms": 0.5})
    Weighed(grams=500)
    """
    names = (old,) if isinstance(old, str) else (full_name(old), *former_names(old))

    def declare(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        for known in new.__upcasters__:
            if known.having == having and {*known.names} & {*names}:
                raise DeclarationError(
                    f"{new.__name__} has an upcaster from {names[0]} already; tell the two apart by having="
                )
        old_class = None if isinstance(old, str) else old
        new.__upcasters__ = (*new.__upcasters__, Upcaster(names, old_class, having, function))
        return function

    return declare
