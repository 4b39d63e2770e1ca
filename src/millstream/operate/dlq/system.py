"""The dead letters of a system as it declares them: their topics, their groups, the classes of their events."""

from collections.abc import Iterable, Mapping

from millstream.contracts.cloudevents import headers_in
from millstream.declare import Service, System, Topic, Value, full_name
from millstream.declare.contract import former_names
from millstream.errors import ConfigurationError, did_you_mean
from millstream.operate.assembly import topics_of
from millstream.operate.dlq.letter import DeadLetter
from millstream.operate.schemas.declared import topics_of as carrying

SUFFIX = ".dlq"


class Origins:
    """The topics that dead letters of a system come from, and those that a redrive goes to.

    Raises `DeclarationError` where a service cannot be loaded.
    """

    def __init__(self, system: System) -> None:
        services = system.services()
        self.system = system.name
        self.services: Mapping[str, Service] = {service.name: service for service in services}
        self.topics: Mapping[str, Topic] = {topic.name: topic for topic in carrying(services)}
        self.dead_letters = _dead_letters(services)
        self._redrives = {
            service.group(kind): service.redrives(kind) for service in services for kind in service.kinds()
        }

    @property
    def consumed(self) -> list[str]:
        """The topics whose events become dead letters."""
        return [name.removesuffix(SUFFIX) for name in self.dead_letters]

    def chosen(self, topic: str | None, there: Iterable[str]) -> list[str]:
        """The dead letter topics to look at: all that are there, or those of one topic, by its name or its own.

        Raises `ConfigurationError` for a topic that has none.
        """
        present = set(there)
        if topic is None:
            return [name for name in self.dead_letters if name in present]
        name = topic if topic.endswith(SUFFIX) else f"{topic}{SUFFIX}"
        if name not in present:
            if name in self.dead_letters:
                raise ConfigurationError(f"There is no topic {name!r} yet: the service that reads it makes it at start")
            raise ConfigurationError(
                f"There is no topic {name!r}{did_you_mean(name, self.dead_letters)}. {self.system} has "
                f"{', '.join(self.dead_letters) or 'no dead letters'}"
            )
        return [name]

    def check_service(self, name: str | None) -> None:
        """Raises `ConfigurationError` for a service that the system does not have."""
        if name is not None and name not in self.services:
            meant = did_you_mean(name, self.services)
            raise ConfigurationError(f"{self.system} has no service {name!r}{meant}; it has {', '.join(self.services)}")

    def redrive_topic(self, letter: DeadLetter, partitions: Mapping[str, int]) -> tuple[str, int]:
        """Topic and partition that hand a letter to the group that failed, and to it alone.

        - `partitions`: how many each topic has that is there.

        Raises `ConfigurationError`, with the remedy, where there is no such way.
        """
        if letter.group is None:
            raise ConfigurationError(
                f"{letter.id} names no consumer group: it was set aside before redrives were there. Publish a new "
                "event, or discard it"
            )
        topic = self._redrives.get(letter.group)
        if topic is None:
            raise ConfigurationError(
                f"{letter.id} failed in group {letter.group!r}, which has no handlers in {self.system}; it has "
                f"{', '.join(self._redrives)}. Take the system that {letter.service} is in (--system), or discard it"
            )
        if topic not in partitions:
            raise ConfigurationError(f"There is no topic {topic!r} yet: {letter.service} makes it when it starts")
        partition = letter.at[1]
        if partition >= partitions[topic]:
            raise ConfigurationError(
                f"{letter.id} comes from partition {partition} of {letter.at[0]}, and {topic} has {partitions[topic]}: "
                "give it as many partitions as the topic"
            )
        return topic, partition

    def class_of(self, letter: DeadLetter, named: str | None = None) -> type[Value]:
        """The class of a letter's event: the one called `named`, the one that its headers name, or its topic's only.

        Raises `ConfigurationError` where none of them says it.
        """
        topic = self.topics.get(letter.at[0])
        if topic is None:
            raise ConfigurationError(f"{self.system} has no topic {letter.at[0]!r}, so nobody knows its classes")
        wanted = named or letter.type
        if wanted is None and topic.format == "cloudevents":
            wanted = (dict(headers_in(letter.value)).get("ce_type") or b"").decode()
        found = [of for of in topic.contracts if wanted in (full_name(of), of.__name__, *former_names(of))]
        if not found and named is None and len(topic.contracts) == 1:
            return topic.contracts[0]
        if not found:
            known = ", ".join(of.__name__ for of in topic.contracts)
            raise ConfigurationError(
                f"{letter.id}: {wanted!r} is no class on {topic.name}; it carries {known}. Say which with --type"
            )
        return found[0]


def _dead_letters(services: Iterable[Service]) -> list[str]:
    names = {spec.name for service in services for spec in topics_of(service) if spec.name.endswith(SUFFIX)}
    timed = {service.timed(kind) + SUFFIX for service in services for kind in service.kinds() if service.timers(kind)}
    return sorted(names | timed)
