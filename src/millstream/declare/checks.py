"""Checks that declarations have in common: names that Kafka does not take, classes that are no events."""

import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from millstream.declare.contract import Command, Contract, Event
from millstream.declare.deleted import Deleted
from millstream.declare.fields import check_fields
from millstream.declare.timer import Timer
from millstream.errors import DeclarationError

MAX_NAME = 249
"""Kafka's limit for the name of a topic, in characters (`org.apache.kafka.common.internals.Topic`)."""

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")
_BARE = (Contract, Event, Command, Timer, Deleted)


def check_name(where: str, name: Any, *, limit: int = MAX_NAME) -> None:
    """Raises `DeclarationError` for what cannot be the name of a topic, or a part of one.

    >>> check_name("Topic 'orders/events'", "orders/events")
    Traceback (most recent call last):
    millstream.errors.DeclarationError: Topic 'orders/events': Kafka takes only ASCII letters, digits, '.', '_' and '-'\
 in names; '/' is none of them
    """
    if not isinstance(name, str):
        raise DeclarationError(f"{where}: its name is {name!r}: give it a text, as in 'orders.events'")
    if name in ("", ".", ".."):
        raise DeclarationError(f"{where}: {name!r} is no name for Kafka: give it one, as in 'orders.events'")
    if _LEGAL.fullmatch(name) is None:
        strange = next(letter for letter in name if not _LEGAL.fullmatch(letter))
        raise DeclarationError(
            f"{where}: Kafka takes only ASCII letters, digits, '.', '_' and '-' in names; {strange!r} is none of them"
        )
    if len(name) > limit:
        raise DeclarationError(f"{where}: its name has {len(name)} characters; give it one of {limit} at most")


def check_collisions(names: Iterable[tuple[str, str]]) -> None:
    """Raises `DeclarationError` for two topics that differ in `.` and `_` alone: a broker refuses the second.

    - `names`: of topics, each with what it is.
    """
    known: dict[str, tuple[str, str]] = {}
    for name, what in names:
        other, other_what = known.setdefault(name.replace(".", "_"), (name, what))
        if other != name:
            raise DeclarationError(
                f"{what} {name!r} and {other_what} {other!r} differ in '.' and '_' alone, which Kafka's metrics do not "
                "tell apart, so a broker refuses the second: rename one"
            )


def check_once(owners: Iterable[tuple[str, Any, str]]) -> None:
    """Raises `DeclarationError` where two things claim one name.

    - `owners`: names, each with what claims it (`None` where that does not matter) and how that is called.
    """
    known: defaultdict[str, list[tuple[Any, str]]] = defaultdict(list)
    for name, owner, what in owners:
        if owner is None:
            continue
        for other, other_what in known[name]:
            if other != owner and isinstance(other, tuple) == isinstance(owner, tuple):
                raise DeclarationError(
                    f"{what} and {other_what} are two declarations of {name!r}: what one writes, the other would read "
                    "as its own. Declare it once and import it, or rename one"
                )
        known[name].append((owner, what))


def check_event_classes(where: str, classes: Iterable[Any], *, timers: bool = True) -> None:
    """Raises `DeclarationError` for what is no class of events or commands, and for a bare one.

    - `timers`: whether timers will do.
    """
    for of in classes:
        if not isinstance(of, type):
            given = type(of).__name__ if isinstance(of, Contract) else f"{of!r}"
            raise DeclarationError(f"{where}: {given} is no class; name event classes, as in on(OrderPlaced)")
        if not issubclass(of, Contract):
            raise DeclarationError(
                f"{where}: {of.__module__}.{of.__qualname__} is no event or command: derive it from millstream.Event "
                f'or millstream.Command, as in class {of.__name__}(Event, key="order_id")'
            )
        if of in _BARE:
            raise DeclarationError(f"{where} names a bare {of.__name__}: name the classes themselves")
        if not timers and issubclass(of, Timer):
            raise DeclarationError(f"{where}: {of.__name__} is a Timer, which lives on no topic; drop it here")
        if issubclass(of, Timer):
            check_fields(of, "msgpack")


def check_duration(where: str, name: str, given: Any) -> None:
    """Raises `DeclarationError` for what is no positive `timedelta`."""
    if not isinstance(given, timedelta):
        number = f"{given}" if isinstance(given, int | float) else "…"
        raise DeclarationError(f"{where}: {name}={given!r} is no timedelta: write {name}=seconds({number})")
    if given <= timedelta(0):
        raise DeclarationError(f"{where}: {name}={given!r} is over before it begins: give it a positive time")


def check_one_of(where: str, name: str, given: Any, known: Iterable[str]) -> None:
    """Raises `DeclarationError` for a word that is none of the known ones."""
    known = tuple(known)
    if given not in known:
        raise DeclarationError(f"{where}: {name}={given!r}; it is one of {', '.join(map(repr, known))}")
