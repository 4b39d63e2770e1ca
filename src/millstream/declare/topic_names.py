"""The names of all topics that a service reads, writes and keeps its state in."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from millstream.declare.contract import home_of

if TYPE_CHECKING:
    from millstream.declare.service import Service


def topic_names(service: "Service") -> Iterator[tuple[str, Any, str]]:
    """The topics of a service: each name, what claims it, and how that is called."""
    for topic in service.consumed():
        yield topic.name, topic, f"Topic {topic.name!r}"
        yield topic.dead_letters, None, f"the dead letters of {topic.name!r}"
    for contract in service.produced():
        topic = home_of(contract)
        yield topic.name, topic, f"Topic {topic.name!r}"
    for store in service.stores():
        # The topic of a view may be declared as a `Topic` by those who read it.
        yield store.changelog(service.name), (service, store), f"the changelog of {store!r} in {service.name}"
    for kind in service.kinds():
        group = service.group(kind)
        for name in (service.redrives(kind), service.parked(kind), service.timed(kind), service.seen(kind)):
            yield name, (service, name), f"an internal topic of group {group!r}"
        yield f"{service.timed(kind)}.dlq", (service, kind), f"the dead letters of timers of group {group!r}"
