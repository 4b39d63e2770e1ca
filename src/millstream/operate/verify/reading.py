"""From the log to the auditor: every record once, those that nobody can read counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from millstream.contracts import Contracts, envelope_from, with_key
from millstream.declare import Topic
from millstream.errors import DecodeError, TopicReplaced
from millstream.kafka.port import Admin, Kafka, Message, TopicPartition
from millstream.operate.verify.auditor import Auditor

MAX_SHOWN = 100
"""Unreadable records whose places are kept."""


class LogReader:
    """Reads topics on from where it stopped. Knows what is committed.

    - `partitions`: how many each topic has; one that is not there is not read.
    - `on_read(topic, count)`: called after each batch.
    """

    def __init__(
        self,
        kafka: Kafka,
        admin: Admin,
        contracts: Contracts,
        topics: Iterable[Topic],
        partitions: Mapping[str, int],
        *,
        on_read: Callable[[str, int], None] | None = None,
    ) -> None:
        self._kafka, self._admin, self._on_read = kafka, admin, on_read
        self._decoders = {topic.name: contracts.decoder([topic]).decode for topic in topics if topic.name in partitions}
        self._next = {(topic, number): 0 for topic in self._decoders for number in range(partitions[topic])}
        self._ids = admin.topic_ids(list(self._decoders))
        self.undecodable: Counter[str] = Counter()
        """The number of undecodable records of each topic."""
        self.shown: dict[str, str] = {}
        """The places of the first of them, and what is wrong there."""

    def size(self) -> int:
        """Return the number of records to read now, at most."""
        return sum(end - self._next[place] for place, end in self._ends().items())

    def read_into(self, audit: Auditor) -> datetime:
        """Reads every topic to its end as it is now, and answers when that is: all it read happened before.

        Raises `Unavailable`, `RegistryUnavailable`, `TopicMissing`, `TopicReplaced`.
        """
        asked = datetime.now(UTC)
        self._check_topics()
        ends = self._ends()
        ended = datetime.now(UTC)
        behind = {place: self._next[place] for place, end in ends.items() if self._next[place] < end}
        for topic in dict.fromkeys(topic for topic, _ in behind):
            start = {place: offset for place, offset in behind.items() if place[0] == topic}
            for batch in self._kafka.read_to_end(topic, [partition for _, partition in start], start=start):
                for message in batch:
                    self._take(message, audit, asked)
                if self._on_read is not None:
                    self._on_read(topic, len(batch))
            # Behind the last record there are markers of transactions, which nobody needs to ask for again.
            self._next |= {place: max(self._next[place], ends[place]) for place in start}
        return ended

    def settle_into(self, audit: Auditor) -> datetime:
        """Reads on so that of every event known so far the causes are known, too: they were committed before it.

        Answers when the log ended where it ended at first.
        """
        ended = self.read_into(audit)
        self.read_into(audit)
        return ended

    def _check_topics(self) -> None:
        """Raises `TopicReplaced` where a topic is not the one that was read."""
        for topic, id in self._admin.topic_ids(list(self._decoders)).items():
            if (before := self._ids.get(topic)) and id and before != id:
                raise TopicReplaced(
                    f"Topic {topic!r} was deleted and made again while it was verified: what was read of it is in no "
                    "log any more. Start `millstream verify` again."
                )

    def _ends(self) -> dict[TopicPartition, int]:
        return self._admin.end_offsets(list(self._next))

    def _take(self, message: Message, audit: Auditor, asked: datetime) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        try:
            event = with_key(self._decoders[topic](message.value()), message.key())
            envelope = envelope_from(message, type(event))
        except DecodeError as error:
            self.undecodable[topic] += 1
            if len(self.shown) < MAX_SHOWN:
                self.shown[f"{topic}[{partition}]@{offset}"] = str(error)
        else:
            audit.see(event, envelope, _happened(message, envelope.time, asked))
        self._next[topic, partition] = offset + 1


def _happened(message: Message, said: datetime, there: datetime) -> datetime:
    """Return when an event happened, by its own time. `there`: when it was in the log already, so that it is not later.

    An event of next century would keep its case, and every total, from ever being at rest.
    """
    if said <= there:
        return said
    _, milliseconds = message.timestamp()
    recorded = milliseconds / 1000
    return datetime.fromtimestamp(recorded, UTC) if 0 < recorded < there.timestamp() else there


def cut_topics(kafka: Kafka, partitions: Mapping[str, int]) -> list[str]:
    """The topics whose oldest records have been deleted."""
    consumer = kafka.consumer("millstream-verify")  # a member of nothing, which only asks
    try:
        return [
            topic
            for topic, count in partitions.items()
            if any(consumer.watermarks((topic, partition))[0] > 0 for partition in range(count))
        ]
    finally:
        consumer.close()
