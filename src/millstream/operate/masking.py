"""Personal data in listings of records: what the system declares so is masked, wherever it shows."""

from typing import TYPE_CHECKING, Any

from millstream.declare import Value, full_name
from millstream.declare.personal import MASK, has_personal, masked
from millstream.errors import ConfigurationError

if TYPE_CHECKING:
    from millstream.declare import System

_QUOTING = ("value", "hex", "undecodable", "millstream-dlq-message", "millstream-dlq-stacktrace")
"""Parts of a description that are the record, or may quote it."""
HIDDEN = f"{MASK} (no system here says what is personal: --system MODULE:NAME, or --reveal)"
BROKEN = (
    f"{MASK} (the system cannot be loaded, so nobody says what is personal: `millstream topics` says why, or --reveal)"
)


class Masking:
    """Masks records by the class that their topic or their headers name.

    - `by_topic`: the classes on each topic that the system knows: changelogs and read models among them, and the
      topics on which a group keeps what waits, and under whose names its timers become dead letters.
    - `instead`: what is shown for everything, where nobody says what is personal.
    """

    def __init__(self, by_topic: dict[str, list[type[Value]]], *, instead: str | None = None) -> None:
        self._by_topic = by_topic
        self._instead = instead

    def masked(self, topic: str, told: dict[str, Any]) -> dict[str, Any]:
        """A record as `millstream tail` describes it, with what is personal masked."""
        classes = self._by_topic.get(topic, [])
        if self._instead is not None:
            return _hidden(told, self._instead)
        if not any(map(has_personal, classes)):
            return told
        # The header may be missing or wrong: whatever any class of the topic calls personal is masked, then.
        named = [of for of in classes if full_name(of) == told.get("type")]
        if "value" not in told:
            return _hidden(told, MASK)
        value = told["value"]
        for of in named or classes:
            value = masked(of, value)
        return _hidden(told, MASK) | {"value": value}


def masking_of(place: str | None) -> Masking:
    """Return the masking of what the system at `place`, or that pyproject.toml names, declares as personal.

    Raises `DeclarationError` or `ConfigurationError` for a `place` that was given and is wrong.
    """
    from millstream.operate.place import load_system

    try:
        return Masking(_classes(load_system(place)))
    except Exception as error:  # whatever a module of theirs raises when it is imported
        if place is not None:
            raise
        return Masking({}, instead=HIDDEN if isinstance(error, ConfigurationError) else BROKEN)


def _classes(system: "System") -> dict[str, list[type[Value]]]:
    from millstream.operate.schemas.declared import topics_of

    services = system.services()
    found: dict[str, list[type[Value]]] = {topic.name: list(topic.contracts) for topic in topics_of(services)}
    for service in services:
        for store in service.stores():
            found.setdefault(store.changelog(service.name), []).append(store.value)
        for kind in service.kinds():
            timers = service.timers(kind)
            found[service.timers_topic(kind)] = [*timers]
            events = [contract for topic in service.consumed(kind) for contract in topic.contracts]
            found[service.parked_topic(kind)] = found[service.redrive_topic(kind)] = [*events, *timers]
    return found


def _hidden(told: dict[str, Any], how: str) -> dict[str, Any]:
    return {name: how if name in _QUOTING and part is not None else part for name, part in told.items()}
