"""The story of a saga so far, and how its commands and events are made of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from millstream.contracts.described import names_read_as, read_described
from millstream.declare import Contract, full_name, home_of, key_field, key_of
from millstream.errors import DeclarationError, Rejected

C = TypeVar("C", bound=Contract)
Made = type[Contract] | Callable[["Story"], Contract]
"""A class, whose fields are filled by name; or a function annotated with what it returns."""


class Story:
    """The events of a saga so far, for functions that make its commands and events.

    - `id`: of the saga, which is the key of all its events.
    - `reason`: why it is cancelled.

    What it heard before a class changed is read as other records of that class are.

    >>> from millstream.contracts.described import describe
    >>> from millstream.declare import Event, Topic
    >>> class Ordered(Event, key="id"):
    ...     id: str
    >>> topic = Topic("orders", Ordered)
    >>> story = Story("o-1", {full_name(Ordered): describe(Ordered(id="o-1"))})
    >>> story[Ordered].id
    'o-1'
    """

    def __init__(self, id: str, known: Mapping[str, bytes], reason: str | None = None) -> None:
        self.id = id
        self.reason = reason
        self._known = known
        self._read: dict[type[Contract], Any] = {}

    def __getitem__(self, contract: type[C]) -> C:
        """The starting event, or the reply of this class. Raises `KeyError` where it has not come."""
        if (found := self.get(contract)) is None:
            raise KeyError(full_name(contract))
        return found

    def get(self, contract: type[C]) -> C | None:
        """The starting event or the reply of this class, or `None`."""
        if contract not in self._read:
            name = next((name for name in names_read_as(contract) if name in self._known), None)
            self._read[contract] = None if name is None else read_described(contract, self._known[name])
        return self._read[contract]


class Recipe(NamedTuple):
    """The way one command or event of a saga is made. `needs`: of what; None where only a function knows."""

    contract: type[Contract]
    make: Callable[[Story], Contract]
    needs: frozenset[type[Contract]] | None


def recipe(where: str, made: Made, known: Sequence[type[Contract]], *, reason: bool = False) -> Recipe:
    """Plan how to make `made` of the `known` classes, the newest last, and of the saga's id (and its reason).

    Raises `DeclarationError` naming the field that nothing fills, and the remedy.
    """
    if not isinstance(made, type):
        return _by_function(where, made)
    home_of(made)
    sources = [_source(where, made, field, known, reason=reason) for field in msgspec.structs.fields(made)]
    # Fields that keep their defaults have no source.
    filled = [source for source in sources if source is not None]
    given = [(field, value) for field, value, _ in filled]
    needs = frozenset(contract for _, _, contract in filled if contract is not None)

    def make(story: Story) -> Contract:
        return made(**{field: value(story) for field, value in given})

    return Recipe(made, make, needs)


def addressed(where: str, made: Recipe) -> Recipe:
    """A recipe of commands that refuses, with `Rejected`, one of another key than the saga's id."""

    def make(story: Story) -> Contract:
        command = made.make(story)
        if (key := key_of(command)) != story.id:
            raise Rejected(
                "foreign_key",
                f"{where}: its {type(command).__name__} has the key {key!r}, the saga is {story.id!r}, and the answer "
                "would come under that key and not here; let its key be story.id, with the other id in another field",
            )
        return command

    return made._replace(make=make)


def _source(
    where: str, made: type[Contract], field: msgspec.structs.FieldInfo, known: Sequence[type[Contract]], *, reason: bool
) -> tuple[str, Callable[[Story], Any], type[Contract] | None] | None:
    """A field, what fills it, and the class that this comes from where it was heard."""
    name = field.name
    if name == key_field(made):
        return name, lambda story: story.id, None
    if name == "reason" and reason and _fits(str, field.type):
        return name, lambda story: story.reason, None
    for contract in reversed(known):
        if name not in (types := {other.name: other.type for other in msgspec.structs.fields(contract)}):
            continue
        if not _fits(types[name], field.type):
            raise DeclarationError(
                f"{where}: {made.__name__}.{name} is {_shown(field.type)}, and {contract.__name__}.{name} is "
                f"{_shown(types[name])}; give it another name, or make the {made.__name__} by a function: "
                f"def make(story: Story) -> {made.__name__}"
            )
        return name, lambda story, contract=contract: getattr(story[contract], name), contract
    if not field.required:
        return None
    raise DeclarationError(
        f"{where}: nothing fills {made.__name__}.{name}: no field {name!r} in {_names(known)}. Add it there, give it a "
        f"default, or make the {made.__name__} by a function: def make(story: Story) -> {made.__name__}"
    )


def _by_function(where: str, function: Callable[[Story], Contract]) -> Recipe:
    name = getattr(function, "__name__", repr(function))
    contract = get_type_hints(function).get("return") if callable(function) else None
    if not (isinstance(contract, type) and issubclass(contract, Contract)):
        raise DeclarationError(
            f"{where}: {name} must be an event or command class, or a function whose return annotation is one: "
            "def make(story: Story) -> TheCommand"
        )
    home_of(contract)
    return Recipe(contract, function, None)


def _fits(source: Any, target: Any) -> bool:
    return _alternatives(source) <= _alternatives(target)


def _alternatives(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        return {part for alternative in get_args(annotation) for part in _alternatives(alternative)}
    return {annotation}


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _names(contracts: Iterable[type[Contract]]) -> str:
    return " and ".join(contract.__name__ for contract in contracts)
