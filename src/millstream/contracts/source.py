"""Python source that writes itself: what both generators share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from millstream.declare.shape import Record, Shape

_INLINE_DEPTH = 6
_INLINE_LINES = 1500


class Source:
    """Lines of one module of functions, and the constants that they use.

    Shapes are unrolled into the function that needs them. Recursive records, and what would be nested too deep or grow
    too long (Python allows 20 nested blocks), get functions of their own.
    """

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {}
        self._lines: list[str] = []
        self._indent = 0
        self._names = 0
        self._functions: dict[int, str] = {}
        self._waiting: list[tuple[str, Shape]] = []

    def line(self, text: str) -> None:
        self._lines.append("    " * self._indent + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head)
        self._indent += 1
        yield
        self._indent -= 1

    def fresh(self, stem: str = "v") -> str:
        """A name that nothing else has."""
        self._names += 1
        return f"{stem}{self._names}"

    def constant(self, stem: str, value: Any) -> str:
        name = self.fresh(stem.upper())
        self.constants[name] = value
        return name

    def apart(self, shape: Shape) -> str | None:
        """The function that handles `shape`, where it must not be unrolled here."""
        recursive = isinstance(shape, Record) and shape.recursive
        if not (recursive or self._indent > _INLINE_DEPTH or len(self._lines) > _INLINE_LINES):
            return None
        if id(shape) not in self._functions:
            name = self._functions[id(shape)] = self.fresh("part_")
            self._waiting.append((name, shape))
        return self._functions[id(shape)]

    def parts(self) -> Iterator[tuple[str, Shape]]:
        """The functions asked for so far and not yet written; writing one may ask for more."""
        while self._waiting:
            yield self._waiting.pop()

    def compile(self, function: str, label: str) -> Callable[..., Any]:
        text = "\n".join(self._lines)
        exec(compile(text, f"<{label}>", "exec"), self.constants)  # noqa: S102 our own text, from declared classes only
        return self.constants[function]
