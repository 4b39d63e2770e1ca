"""Reading an aggregate's methods: what decides, what evolves, and whether it fits together."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType
from typing import Any, Self, TypeGuard, TypeVar, get_type_hints

import msgspec

from millstream.declare import (
    FOREVER,
    Command,
    Contract,
    Deleted,
    Envelope,
    Event,
    Timer,
    Topic,
    deleted_class,
    home_of,
    key_field,
)
from millstream.declare.handler import outputs_of
from millstream.errors import DeclarationError
from millstream.patterns.aggregate.conflict import Conflict, conflict_of, expected_field
from millstream.patterns.aggregate.marks import Decides, Evolves, marked

C = TypeVar("C", bound=Contract)
Decide = Callable[[Any, Contract, Envelope], Any]
Evolve = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """One `@decides` method. `expects` is the command's field with the version that its sender has seen."""

    name: str
    command: type[Contract]
    produces: tuple[type[Contract], ...]
    decide: Decide
    expects: str | None
    conflict: Conflict | None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of an aggregate: what it does with commands and events. `topic` holds its history."""

    decisions: dict[type[Contract], Decision]
    evolutions: dict[type[Contract], Evolve]
    events: tuple[type[Contract], ...]
    topic: Topic


def read_rules(aggregate: Any, unchanged_by: tuple[type[Event], ...]) -> Rules | None:
    """Reads the marked methods of a class, or none where it has none: a base of aggregates.

    Raises `DeclarationError` naming the class, the method and the remedy.
    """
    found = list(marked(aggregate))
    if not found:
        return None
    name = aggregate.__name__
    _check_fields(aggregate)
    decisions: dict[type[Contract], Decision] = {}
    evolutions: dict[type[Contract], Evolve] = {}
    for function, how in found:
        where = f"{name}.{function.__name__}"
        if isinstance(how, Evolves):
            _add(evolutions, where, "evolved", _evolved(aggregate, where, function), function)
        else:
            decision = _decision(aggregate, where, function, how)
            _add(decisions, where, "decided on", decision.command, decision)
    if not decisions:
        raise DeclarationError(f"{name} evolves and decides nothing: mark a method that takes a command with @decides")
    conflicts = [decision.conflict.contract for decision in decisions.values() if decision.conflict]
    decided = [contract for decision in decisions.values() for contract in decision.produces]
    _check_events(name, decided, evolutions, {*unchanged_by, *conflicts})
    _check_keys(name, [*decisions, *decided, *conflicts])
    return Rules(decisions, evolutions, tuple(dict.fromkeys([*decided, *conflicts])), _topic(name, evolutions))


def _decision(aggregate: Any, where: str, function: Callable[..., Any], how: Decides) -> Decision:
    hints, names = _signature(aggregate, where, function)
    if len(names) not in (2, 3) or (len(names) == 3 and hints.get(names[2]) is not Envelope):
        raise DeclarationError(
            f"{where}: a decision takes a command, and an Envelope if it wants one: "
            f"def {function.__name__}(self, command: TheCommand) -> TheEvent"
        )
    command = hints.get(names[1])
    if not _names_class(command, Contract) or issubclass(command, Timer):
        raise DeclarationError(
            f"{where}: which command is {names[1]!r}? Annotate its class, one of a topic: {names[1]}: TheCommand"
        )
    home_of(command)
    produces = outputs_of(where, hints.get("return", NoneType))
    if not produces:
        raise DeclarationError(
            f"{where} returns no event, and a decision is what it says: annotate the events, as in -> Cancelled | None"
        )
    expects = None if how.expects is None else expected_field(where, command, how.expects)
    if how.conflict is not None and expects is None:
        raise DeclarationError(
            f'{where}: conflict= without expects=: name the command\'s field with the version, expects="..."'
        )
    conflict = None if how.conflict is None else conflict_of(where, command, how.conflict)
    decide: Decide = function if len(names) == 3 else lambda state, given, envelope: function(state, given)
    return Decision(function.__name__, command, produces, decide, expects, conflict)


def _evolved(aggregate: Any, where: str, function: Callable[..., Any]) -> type[Contract]:
    hints, names = _signature(aggregate, where, function)
    event = hints.get(names[1]) if len(names) == 2 else None
    if not _names_class(event, Event):
        raise DeclarationError(
            f"{where}: an evolution takes one event, by its class: "
            f"def {function.__name__}(self, event: TheEvent) -> Self"
        )
    if hints.get("return") not in (Self, aggregate):
        raise DeclarationError(
            f"{where} must return the next state: annotate -> Self. What is said is a decision's to return"
        )
    home_of(event)
    return event


def _signature(aggregate: Any, where: str, function: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    if inspect.iscoroutinefunction(function):
        raise DeclarationError(f"{where} is async: it is pure; outside calls belong in an effect (@service.effect)")
    try:
        hints = get_type_hints(function, localns={aggregate.__name__: aggregate})
    except NameError as error:
        raise DeclarationError(f"{where}: {error}; annotations must resolve where the class is declared") from error
    return hints, list(inspect.signature(function).parameters)


def _names_class(annotation: Any, base: type[C]) -> TypeGuard[type[C]]:
    bare = (Contract, Event, Command, Timer, Deleted)
    return isinstance(annotation, type) and issubclass(annotation, base) and annotation not in bare


def _add(known: dict[type[Contract], Any], where: str, what: str, contract: type[Contract], made: Any) -> None:
    if contract in known:
        raise DeclarationError(f"{where}: {contract.__name__} is {what} by another method already; make them one")
    known[contract] = made


def _check_fields(aggregate: Any) -> None:
    for field in msgspec.structs.fields(aggregate):
        if field.required:
            raise DeclarationError(
                f"{aggregate.__name__}.{field.name} has no default, and a key that nothing happened to has a state "
                "too: give it one"
            )


def _check_events(
    name: str, decided: Iterable[type[Contract]], evolutions: Iterable[type[Contract]], unchanged: set[type[Contract]]
) -> None:
    said, evolved = set(decided), set(evolutions)
    for contract in sorted(said - evolved - unchanged, key=lambda contract: contract.__name__):
        raise DeclarationError(
            f"{name}: nothing evolves {contract.__name__}, which a decision returns: write an @evolves method for it, "
            f"or declare that it changes nothing, class {name}(Aggregate, unchanged_by=({contract.__name__},))"
        )
    for contract in sorted(evolved - said, key=lambda contract: contract.__name__):
        raise DeclarationError(
            f"{name} evolves {contract.__name__}, which no decision of it returns, so it never comes to its state: "
            "return it from a decision (one that is said no longer stays in a return annotation, for replays)"
        )
    for contract in sorted(evolved & unchanged, key=lambda contract: contract.__name__):
        raise DeclarationError(
            f"{name}: {contract.__name__} is evolved, and is declared to change nothing; drop one of the two"
        )


def _check_keys(name: str, contracts: Iterable[type[Contract]]) -> None:
    keys = {contract: key_field(deleted_class(contract) or contract) for contract in contracts}
    if len(set(keys.values())) > 1:
        listed = ", ".join(f"{contract.__name__} by {key}" for contract, key in keys.items())
        raise DeclarationError(f"{name}: its commands and events have different keys ({listed}); key all by its own id")


def _topic(name: str, evolutions: Iterable[type[Contract]]) -> Topic:
    topics = list(dict.fromkeys(home_of(contract) for contract in evolutions))
    if len(topics) != 1:
        listed = ", ".join(topic.name for topic in topics) or "no topic"
        raise DeclarationError(
            f"{name}: the events that it evolves live on {listed}; a history has one order, so it needs one topic"
        )
    (topic,) = topics
    if topic.retention != FOREVER or topic.compacted:
        raise DeclarationError(
            f"{name}: {topic.name} is the history of its keys and must be kept: "
            f'Topic("{topic.name}", ..., retention=FOREVER)'
        )
    return topic
