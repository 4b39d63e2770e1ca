"""The meaning of the names in a file: the file together with those that it imports."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from millstream.schemas.protobuf.nodes import Enum, Extend, Field, File, Message


@dataclass(frozen=True, eq=False, slots=True)
class Type:
    """A message or an enum with its place."""

    name: str
    """In full, without a dot before it."""
    node: Message | Enum
    home: "Linked"

    @property
    def local_name(self) -> str:
        """The name inside of its package."""
        return self.name.removeprefix(f"{self.home.file.package}.")


@dataclass(frozen=True, eq=False, slots=True)
class Extension:
    """A field that a message has from elsewhere; custom options are of this kind."""

    name: str
    node: Field
    home: "Linked"


class Names:
    """Everything that has a name in files that may import each other."""

    def __init__(self) -> None:
        self.types: dict[str, list[Type]] = {}
        self.extensions: dict[str, list[Extension]] = {}


class Linked:
    """A file whose names have a meaning. `imports` are the files that are there to be imported."""

    def __init__(self, file: File, imports: Mapping[str, "Linked"], names: Names) -> None:
        self.file = file
        self.imports = {path: imports[path] for path in (*file.imports, *file.public_imports) if path in imports}
        self._names = names
        self._found: dict[tuple[str, str], Type | None] = {}
        self._declare_extensions(file.extends, file.package)
        self._declare(file.package, (*file.messages, *file.groups()), file.enums)
        public = {self.imports[path] for path in file.public_imports if path in self.imports}
        self._shown: frozenset[Linked] = frozenset({self}).union(*(other._shown for other in public))
        self._visible = frozenset({self}).union(*(other._shown for other in self.imports.values()))

    @property
    def missing(self) -> list[str]:
        """The imports that were not found."""
        return [path for path in (*self.file.imports, *self.file.public_imports) if path not in self.imports]

    def resolve(self, name: str, scope: str) -> Type | None:
        """The type that `name`, written inside of `scope`, stands for: from the innermost scope to the outermost.

        https://protobuf.dev/programming-guides/proto3/#name-resolution
        """
        place = (name, scope)
        if place not in self._found:
            self._found[place] = next((found for full in _readings(name, scope) if (found := self._type(full))), None)
        return self._found[place]

    def resolve_extension(self, name: str, scope: str) -> Extension | None:
        """The same for the name of an extension."""
        readings = (self._names.extensions.get(full, ()) for full in _readings(name, scope))
        return next((found for reading in readings for found in reading if found.home in self._visible), None)

    def all_imports(self) -> dict[str, "Linked"]:
        """Everything that is imported, directly or not, each after what it imports itself."""
        found: dict[str, Linked] = {}
        pending = [(path, file, False) for path, file in reversed(self.imports.items())]
        while pending:
            path, file, imports_are_done = pending.pop()
            if imports_are_done:
                found[path] = file
            elif path not in found:
                pending.append((path, file, True))
                pending += [(path, file, False) for path, file in reversed(file.imports.items()) if path not in found]
        return found

    def _type(self, full: str) -> Type | None:
        return next((found for found in self._names.types.get(full, ()) if found.home in self._visible), None)

    def _declare(self, scope: str, messages: Iterable[Message], enums: Iterable[Enum]) -> None:
        for node in (*messages, *enums):
            name = within(scope, node.name)
            self._names.types.setdefault(name, []).append(Type(name, node, self))
            if isinstance(node, Message):
                self._declare_extensions(node.extends, name)
                self._declare(name, (*node.messages, *node.groups()), node.enums)

    def _declare_extensions(self, extends: Iterable[Extend], scope: str) -> None:
        for extend in extends:
            for each in extend.fields:
                name = within(scope, each.name)
                self._names.extensions.setdefault(name, []).append(Extension(name, each, self))


def within(scope: str, name: str) -> str:
    """The full name of what is called `name` in `scope`.

    >>> within("shop", "Order"), within("", "Order")
    ('shop.Order', 'Order')
    """
    return f"{scope}.{name}" if scope else name


def _readings(name: str, scope: str) -> Iterator[str]:
    if name.startswith("."):
        yield name[1:]
        return
    while scope:
        yield f"{scope}.{name}"
        scope = scope.rpartition(".")[0]
    yield name
