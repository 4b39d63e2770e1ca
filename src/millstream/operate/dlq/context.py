"""The context of every command for dead letters: the cluster, the audit, and what the system declares of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from millstream.contracts.cloudevents import headers_in
from millstream.declare import Service, System, Topic, Value, full_name
from millstream.declare.contract import former_names
from millstream.errors import ConfigurationError, did_you_mean
from millstream.kafka.port import Admin, Kafka
from millstream.operate.assembly import topics_of
from millstream.operate.dlq.audit import Audit
from millstream.operate.dlq.dead_letter import DeadLetter
from millstream.operate.schemas.declared import topics_of as carrying

SUFFIX = ".dlq"


class Origins:
    """The topics that dead letters of a system come from, and those that redrives go to.

    Raises `DeclarationError` where a service cannot be loaded.
    """

    def __init__(self, system: System) -> None:
        services = system.services()
        self.system = system.name
        self.services: Mapping[str, Service] = {service.name: service for service in services}
        self.topics: Mapping[str, Topic] = {topic.name: topic for topic in carrying(services)}
        self.dead_letters = _dead_letter_topics(services)
        self.redrive_topics: Mapping[str, str] = {
            service.group(kind): service.redrive_topic(kind) for service in services for kind in service.kinds()
        }
        """The redrive topic of each consumer group."""

    @property
    def consumed(self) -> list[str]:
        """The topics whose events become dead letters."""
        return [name.removesuffix(SUFFIX) for name in self.dead_letters]

    def select(self, topic: str | None, existing: Iterable[str]) -> list[str]:
        """Return the dead letter topics that exist: of the whole system, or the one of a topic, by either's name.

        Raises `ConfigurationError` for a topic that has none.
        """
        present = set(existing)
        if topic is None:
            return [name for name in self.dead_letters if name in present]
        name = topic if topic.endswith(SUFFIX) else f"{topic}{SUFFIX}"
        if name not in present:
            if name in self.dead_letters:
                raise ConfigurationError(
                    f"There is no topic {name!r} yet: the service that reads it creates it at start"
                )
            raise ConfigurationError(
                f"There is no topic {name!r}{did_you_mean(name, self.dead_letters)}. {self.system} has "
                f"{', '.join(self.dead_letters) or 'no dead letters'}"
            )
        return [name]

    def check_service(self, name: str | None) -> None:
        """Raise `ConfigurationError` for a service that the system does not have."""
        if name is not None and name not in self.services:
            meant = did_you_mean(name, self.services)
            raise ConfigurationError(f"{self.system} has no service {name!r}{meant}; it has {', '.join(self.services)}")

    def redrive_to(self, dead_letter: DeadLetter, partitions: Mapping[str, int]) -> tuple[str, int]:
        """Return the topic and partition through which a redrive reaches the group that failed, and no other.

        - `partitions`: the number of partitions of each topic that exists.

        Raises `ConfigurationError`, with the remedy, where there is no such topic or partition.
        """
        id, service = dead_letter.id, dead_letter.service
        if dead_letter.group is None:
            raise ConfigurationError(
                f"{id} names no consumer group: it was written before redrives existed. Publish a new event, or "
                "discard it"
            )
        topic = self.redrive_topics.get(dead_letter.group)
        if topic is None:
            raise ConfigurationError(
                f"{id} failed in group {dead_letter.group!r}, which has no handlers in {self.system}; it has "
                f"{', '.join(self.redrive_topics)}. Take the system that {service} is in (--system), or discard it"
            )
        if topic not in partitions:
            raise ConfigurationError(f"There is no topic {topic!r} yet: {service} creates it when it starts")
        origin, partition = dead_letter.origin
        if partition >= partitions[topic]:
            raise ConfigurationError(
                f"{id} comes from partition {partition} of {origin}, and {topic} has {partitions[topic]}: give it as "
                "many partitions as the topic"
            )
        return topic, partition

    def class_of(self, dead_letter: DeadLetter, named: str | None = None) -> type[Value]:
        """Return the class of a dead letter's event: the one called `named`, the one that its headers name, or the
        only class of its topic.

        Raises `ConfigurationError` where the class is not known.
        """
        origin = dead_letter.at[0]
        topic = self.topics.get(origin)
        if topic is None:
            raise ConfigurationError(f"{self.system} has no topic {origin!r}, so its classes are not known")
        wanted = named or dead_letter.type
        if wanted is None and topic.format == "cloudevents":
            wanted = (dict(headers_in(dead_letter.value)).get("ce_type") or b"").decode()
        found = [of for of in topic.contracts if wanted in (full_name(of), of.__name__, *former_names(of))]
        if not found and named is None and len(topic.contracts) == 1:
            return topic.contracts[0]
        if not found:
            known = ", ".join(of.__name__ for of in topic.contracts)
            raise ConfigurationError(
                f"{dead_letter.id}: {wanted!r} is no class on {topic.name}; it carries {known}. Give one with --type"
            )
        return found[0]


@dataclass(frozen=True, slots=True)
class DlqContext:
    """The parameters of every function that reads or redrives dead letters.

    - `partitions`: the number of partitions of each topic that exists.
    """

    kafka: Kafka
    admin: Admin
    origins: Origins
    audit: Audit
    partitions: Mapping[str, int]


def _dead_letter_topics(services: Iterable[Service]) -> list[str]:
    names = {spec.name for service in services for spec in topics_of(service) if spec.name.endswith(SUFFIX)}
    timed = {
        service.timers_topic(kind) + SUFFIX for service in services for kind in service.kinds() if service.timers(kind)
    }
    return sorted(names | timed)
