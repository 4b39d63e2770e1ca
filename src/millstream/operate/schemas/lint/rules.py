"""The rules over declarations."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from millstream.declare import FOREVER, Command, Event, Service, Topic, key_field
from millstream.errors import DeclarationError
from millstream.operate.schemas.lint.names import bad_command_name, bad_event_name

_TECHNICAL_WORDS = """
causation_id checksum correlation_id created_at event_id guid hash message_id nonce offset pk random request_id row_id
rowid seq sequence span_id time timestamp trace_id updated_at uuid
"""
_TECHNICAL = frozenset(_TECHNICAL_WORDS.split())


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the number of partitions.

    Each costs every broker a file, memory and a share of every failover, and cannot be taken back; 64 consumers on one
    topic are more than a Python service needs before its database gives in. 2,000 are half of what Apache Kafka's
    operators put on one broker.
    """

    topic: int = 64
    system: int = 2_000
    """Dead letters and changelogs included; copies are not."""


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that will be regretted: where it is, and what to do."""

    rule: str
    place: str
    problem: str
    remedy: str

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.place}\n  {self.rule}: {self.problem}\n  → {self.remedy}"


def names(topic: Topic) -> Iterator[Remark]:
    """Events in the past tense, commands in the imperative."""
    for of in topic.contracts:
        place = f"{topic.name}.{of.__name__}"
        if issubclass(of, Event) and bad_event_name(of.__name__):
            problem = f"{of.__name__} is an event and sounds like a request"
            yield Remark(
                "names", place, problem, "name what has happened, as in OrderCreated, with the old name in aliases="
            )
        if issubclass(of, Command) and bad_command_name(of.__name__):
            problem = f"{of.__name__} is a command and sounds like a fact"
            yield Remark("names", place, problem, "name what is wanted, as in CancelOrder, or make it an Event")


def keys(topic: Topic) -> Iterator[Remark]:
    """The key is a business id: the order of events is kept for each value of it."""
    for of in topic.contracts:
        place = f"{topic.name}.{of.__name__}"
        try:
            key = key_field(of)
        except DeclarationError as error:
            yield Remark("keys", place, str(error), 'name the business id: class …(Event, key="order_id")')
            continue
        if key in _TECHNICAL:
            problem = f"the key {key} is another for every record, so nothing keeps its order"
            yield Remark("keys", place, problem, "key it by the id of what it is about, such as order_id")


def retention(topic: Topic, services: Sequence[Service]) -> Iterator[Remark]:
    """Remark on retention: what a read model is made of must be there when it is made again."""
    if topic.retention == FOREVER or topic.compacted or not any(issubclass(of, Event) for of in topic.contracts):
        return
    readers = [
        f"{service.name}.{handler.name}"
        for service in services
        for handler in service.handlers
        if topic in handler.topics and any(store.topic is not None for store in handler.stores)
    ]
    if readers:
        problem = f"{', '.join(readers)} make a read model of it, and its events are deleted after {topic.retention}"
        yield Remark("retention", topic.name, problem, "declare it with retention=FOREVER: it is an event store")


def partitions(topics: Sequence[Topic], services: Sequence[Service], bounds: Bounds) -> Iterator[Remark]:
    """Partitions cost, and are never taken back."""
    from millstream.operate.assembly import topics_of as needed

    for topic in topics:
        if topic.partitions > bounds.topic:
            problem = f"{topic.partitions} partitions, and more than {bounds.topic} are seldom worth their cost"
            yield Remark("partitions", topic.name, problem, "begin with 6 to 12, and measure before there are more")
    counts = {spec.name: spec.partitions for service in services for spec in needed(service)}
    if (total := sum(counts.values())) > bounds.system:
        most = max(counts, key=lambda name: (counts[name], name))
        problem = f"{total} partitions on {len(counts)} topics, and the bound is {bounds.system}"
        yield Remark(
            "partitions", "the system", problem, f"take fewer where there is little traffic; {most} has the most"
        )
