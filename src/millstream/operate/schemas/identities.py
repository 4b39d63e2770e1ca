"""Identities that no schema holds, whose change breaks a running system: keys, services, groups, handlers, stores."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from millstream.declare import Contract, Service, System, full_name, key_field
from millstream.declare.contract import former_names
from millstream.declare.reading import shape_of
from millstream.operate.schemas.declared import TYPES, topics_of
from millstream.operate.schemas.finding import Finding


class ClassIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class on its topic. `former_keys`: names that its key field had before, as its aliases say."""

    topic: str
    key: str
    partitions: int
    format: str
    former_keys: tuple[str, ...] = ()


class HandlerIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A handler: its kind, the classes that come to it, and the classes that it publishes."""

    kind: str
    consumes: tuple[str, ...]
    produces: tuple[str, ...]
    sets_timers: bool = False

    @property
    def has_derived_ids(self) -> bool:
        """True where its name identifies anything: events and timers that it makes, calls of the outside world."""
        return bool(self.produces) or self.sets_timers or self.kind == "effect"


class StoreIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A store: its changelog, and the class that it keeps."""

    changelog: str
    keeps: str


class ServiceIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service: its consumer group by kind of handler, its handlers and stores by name."""

    groups: dict[str, str]
    handlers: dict[str, HandlerIdentity]
    stores: dict[str, StoreIdentity]


class Identities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a whole system: classes by full name, services by name. In a lock file as it stands here."""

    classes: dict[str, ClassIdentity]
    services: dict[str, ServiceIdentity]
    former_classes: dict[str, str] = {}
    """From a former name of a class to the one it has now. Only of code, and never recorded."""

    def recorded(self) -> dict[str, Any]:
        """For a lock file, sorted."""
        content = msgspec.to_builtins(self)
        return {name: dict(sorted(content[name].items())) for name in ("classes", "services")}


def identities_of(system: System) -> Identities:
    """Return the identities that the code declares. Raises `DeclarationError`."""
    services = system.services()
    classes = {full_name(of): (of, topic) for topic in topics_of(services) for of in topic.contracts}
    return Identities(
        classes={
            name: ClassIdentity(topic.name, key_field(of), topic.partitions, topic.format, _former_keys(of))
            for name, (of, topic) in classes.items()
        },
        services={service.name: _service(service) for service in services},
        former_classes={former: name for name, (of, _) in classes.items() for former in former_names(of)},
    )


def read_identities(content: Any) -> Identities:
    """Read the identities of a lock file. Raises `ValueError` for what is none."""
    return msgspec.convert(content, Identities)


def changed_identities(before: Identities, now: Identities) -> list[Finding]:
    """Each change that breaks something, with what it breaks and the remedy."""
    found = [*_classes(before, now)]
    for name, service in before.services.items():
        if name in now.services:
            found += _of_service(name, service, now.services[name])
            continue
        others = {other: of for other, of in now.services.items() if other not in before.services}
        if (renamed := _most_alike(service, others)) is not None:
            found.append(_renamed_service(name, renamed, service))
    return found


def left_behind(before: Identities, findings: Iterable[Finding]) -> set[str]:
    """The changelogs of stores of which one of these findings says already that they are left behind."""
    gone = {finding.topic for finding in findings if finding.rule == "STORE_MOVED"}
    renamed = {finding.contract for finding in findings if finding.rule == "SERVICE_RENAMED"}
    for name, service in before.services.items():
        if f"service {name}" in renamed:
            gone |= {store.changelog for store in service.stores.values()}
    return gone


def _former_keys(contract: type[Contract]) -> tuple[str, ...]:
    key = key_field(contract)
    return next((field.aliases for field in shape_of(contract).fields if field.attribute == key), ())


def _service(service: Service) -> ServiceIdentity:
    def names(contracts: Iterable[type[Contract]]) -> tuple[str, ...]:
        return tuple(sorted(full_name(of) for of in contracts))

    return ServiceIdentity(
        groups={kind.value: service.group(kind) for kind in sorted(service.kinds(), key=lambda kind: kind.value)},
        handlers={
            handler.name: HandlerIdentity(
                handler.kind.value, names(handler.consumes), names(handler.produces), handler.sets_timers
            )
            for handler in sorted(service.handlers, key=lambda handler: handler.name)
        },
        stores={
            store.name: StoreIdentity(store.changelog(service.name), full_name(store.value))
            for store in sorted(service.stores(), key=lambda store: store.name)
        },
    )


def _finding(topic: str, place: str, rule: str, problem: str, remedy: str) -> Finding:
    return Finding(topic, place, "", rule, problem, remedy, "", None)


def _classes(before: Identities, now: Identities) -> Iterator[Finding]:
    for name, was in before.classes.items():
        name_now = name if name in now.classes else now.former_classes.get(name, "")
        if (found := now.classes.get(name_now)) is None:
            continue  # CLASS_GONE, where its topic has schemas
        if found.key != was.key and was.key not in found.former_keys:
            yield _finding(
                was.topic,
                name_now,
                "KEY_CHANGED",
                f"its key was {was.key!r} and is {found.key!r} now: new events go to other partitions than the old "
                "ones of the same thing, so their order is lost, and state kept by the old key is not found",
                f'keep key="{was.key}"; for another key, declare a new class on a new topic and let a handler publish '
                f'it. Where the field has only a new name, say so: `{found.key}: Annotated[str, Alias("{was.key}")]`',
            )
        if found.partitions != was.partitions and found.topic == was.topic:
            yield _finding(
                was.topic,
                name_now,
                "PARTITIONS_CHANGED",
                f"the topic had {was.partitions} partitions and is declared with {found.partitions}: keys go to other "
                "partitions, away from their state and their order, and services refuse to start on the topic as it is",
                f"keep partitions={was.partitions}, or declare a new topic and move its readers there",
            )
        if found.topic != was.topic and (was.format not in TYPES or found.format not in TYPES):
            yield _finding(
                was.topic,
                name_now,
                "TOPIC_CHANGED",
                f"it moved to {found.topic}: nothing in this system reads what is left on {was.topic}",
                f'keep Topic("{was.topic}", …) until its records are read, and declare a new class on the new topic',
            )


def _of_service(name: str, before: ServiceIdentity, now: ServiceIdentity) -> Iterator[Finding]:
    for kind, group in before.groups.items():
        if kind in now.groups and now.groups[kind] != group:
            yield _finding(
                "",
                f"{name}, {kind} handlers",
                "GROUP_CHANGED",
                f"their consumer group was {group!r} and is {now.groups[kind]!r} now, which has no offsets: they read "
                "their topics from the beginning and publish everything again, and parked events, timers and ids of an "
                f"inbox stay behind in topics of {group!r}",
                f'keep the group: Service("{name}", group="{group}")',
            )
    for handler, was in before.handlers.items():
        yield from _of_handler(name, handler, was, before, now)
    for store, kept in before.stores.items():
        yield from _of_store(name, store, kept, before, now)


def _of_handler(
    service: str, handler: str, was: HandlerIdentity, before: ServiceIdentity, now: ServiceIdentity
) -> Iterator[Finding]:
    place = f"{service}.{handler}"
    if (found := now.handlers.get(handler)) is not None:
        if found.kind != was.kind:
            yield _finding(
                "",
                place,
                "HANDLER_MOVED",
                f"it was a handler of kind {was.kind} and is one of kind {found.kind} now: another consumer group "
                f"reads for it, {now.groups[found.kind]!r}, from the beginning where that has no offsets; its state, "
                f"parked events and timers stay with {before.groups[was.kind]!r}",
                "keep its kind, or give the new kind a new handler of a new class of events",
            )
        return
    others = {name: of for name, of in now.handlers.items() if name not in before.handlers and of.kind == was.kind}
    renamed = next((name for name, of in others.items() if set(of.consumes) & set(was.consumes)), None)
    if renamed is None or not was.has_derived_ids:
        return
    yield _finding(
        "",
        place,
        "HANDLER_RENAMED",
        f"it is {renamed!r} now, and the ids of its events, the keys of its outside calls and the ids of its timers "
        "are made of its name: an event that is handled again across the change (redelivered, redriven, replayed) "
        "leads to other ids, which readers take for new events, and to a second call",
        f"keep the name: `def {handler}(…)`. Otherwise wait until `millstream lag` shows 0 and nothing is parked, stop "
        "the service, start it under the new name, and redrive nothing older than that",
    )


def _of_store(
    service: str, store: str, kept: StoreIdentity, before: ServiceIdentity, now: ServiceIdentity
) -> Iterator[Finding]:
    found = now.stores.get(store)
    changelogs = {other.changelog for other in now.stores.values()}
    if found is None and kept.changelog not in changelogs:
        found = next(
            (of for name, of in now.stores.items() if name not in before.stores and of.keeps == kept.keeps), None
        )
    if found is None or found.changelog == kept.changelog:
        return
    yield _finding(
        kept.changelog,
        f"{service}, store {store}",
        "STORE_MOVED",
        f"its changelog is {found.changelog} now, which is empty: the store begins without anything that it held, and "
        "offsets go on as if it were there",
        f'keep the changelog: Store("…", …, topic="{kept.changelog}") whatever the store is called',
    )


def _renamed_service(old: str, new: str, was: ServiceIdentity) -> Finding:
    groups = ", ".join(was.groups.values())
    behind = f"its stores ({', '.join(was.stores)}), parked events" if was.stores else "parked events"
    return _finding(
        "",
        f"service {old}",
        "SERVICE_RENAMED",
        f"it is {new!r} now: its groups ({groups}) have no offsets under the new name, so it reads its topics from the "
        "beginning and publishes everything again, under other ids, which readers take for new events, and calls the "
        f"outside world again; {behind}, timers and its database stay behind under the old name",
        f'keep the name: Service("{old}"); module, file and variable may be called otherwise only where '
        f'System(services=[…]) ends in ":{old.replace("-", "_")}"',
    )


def _most_alike(service: ServiceIdentity, others: Mapping[str, ServiceIdentity]) -> str | None:
    """The new service that has most of its handlers, by what comes to them; None where none has any."""

    def likeness(other: ServiceIdentity) -> int:
        classes = {name for handler in other.handlers.values() for name in handler.consumes}
        return sum(bool(set(handler.consumes) & classes) for handler in service.handlers.values())

    best = max(others, key=lambda name: likeness(others[name]), default=None)
    return best if best is not None and likeness(others[best]) else None
