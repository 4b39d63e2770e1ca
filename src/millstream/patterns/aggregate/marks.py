"""Marks that `@decides` and `@evolves` leave on a method, until the class around it is there to be read."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from millstream.declare import Event

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__millstream_aggregate__"


class Decides(NamedTuple):
    expects: str | None = None
    conflict: type[Event] | None = None


class Evolves(NamedTuple):
    pass


def mark(function: F, how: Decides | Evolves) -> F:
    """Leaves the function as it is, so that a test can call it."""
    setattr(function, _MARK, how)
    return function


def marked(cls: type) -> Iterator[tuple[Callable[..., Any], Decides | Evolves]]:
    """The marked methods of a class and its bases, each once, as they are called on it."""
    names = dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base))
    for name in names:
        function = getattr(cls, name, None)
        if (how := getattr(function, _MARK, None)) is not None and callable(function):
            yield function, how
