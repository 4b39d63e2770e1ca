"""Remarks on a catalogue of topics and classes that will be regretted: names, literals, keys, retention, partitions."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from millstream.declare import System
from millstream.operate.schemas.declared import topics_of
from millstream.operate.schemas.lint.literals import literal_topics
from millstream.operate.schemas.lint.names import bad_command_name, bad_event_name
from millstream.operate.schemas.lint.rules import Bounds, Remark, keys, names, partitions, retention

__all__ = ["Bounds", "Remark", "bad_command_name", "bad_event_name", "lint"]


def lint(system: System, bounds: Bounds | None = None, allowed: tuple[str, ...] = ()) -> list[Remark]:
    """Return all remarks on a system, by place.

    - `allowed`: `"rule:place"`, with `*`: what is known and wanted, such as `"names:LegacyOrderCreate"`.

    Raises `DeclarationError` where the system cannot be loaded.
    """
    found = sorted(_all(system, bounds or Bounds()), key=lambda remark: (remark.place, remark.rule))
    return [remark for remark in found if not any(_covers(pattern, remark) for pattern in allowed)]


def _all(system: System, bounds: Bounds) -> Iterator[Remark]:
    services = system.services()
    topics = topics_of(services)
    for topic in topics:
        yield from names(topic)
        yield from keys(topic)
        yield from retention(topic, services)
    yield from partitions(topics, services, bounds)
    yield from literal_topics(services, topics)


def _covers(pattern: str, remark: Remark) -> bool:
    rule, _, place = pattern.partition(":")
    # Lines move: a file is allowed as a whole.
    return rule in (remark.rule, "*") and any(
        fnmatchcase(at, place or "*")
        for at in (remark.place, remark.place.rpartition(":")[0], remark.place.rpartition(".")[2])
    )
