"""The topics that the workers of a service write."""

from millstream.declare import Kind, Service, home_of


def written_topics(service: Service, kind: Kind) -> list[str]:
    """Return the topics that the worker of one kind writes: outputs, dead letters, changelogs and internal stores.

    >>> from millstream.declare import Event, Topic
    >>> class Sown(Event, key="field"):
    ...     field: str
    >>> fields = Topic("fields", Sown)
    >>> farm = Service("farm")
    >>> @farm.on(Sown)
    ... def note(sown: Sown) -> None: ...
    >>> written_topics(farm, Kind.KAFKA)
    ['fields.dlq', 'farm.kafka.parked']
    """
    names = [home_of(contract).name for contract in service.produced()]
    names += [topic.dead_letters for topic in service.consumed(kind)]
    if service.timers(kind):
        names.append(f"{service.timers_topic(kind)}.dlq")
    if kind is not Kind.SQL:
        names.append(service.parked_topic(kind))
    if kind is Kind.KAFKA:
        names += [store.changelog(service.name) for store in service.stores()]
        names += [service.timers_topic(kind)] if service.timers(kind) else []
        names += [service.inbox_topic(kind)] if any(handler.inbox for handler in service.of_kind(kind)) else []
    return list(dict.fromkeys(names))
