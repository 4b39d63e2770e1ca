"""From the log to the auditor: every record once, those that nobody can read counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from millstream.contracts import Contracts, envelope_from
from millstream.declare import Topic
from millstream.errors import DecodeError
from millstream.kafka.port import Kafka, Message, TopicPartition
from millstream.operate.verify.auditor import Auditor

MOST_SHOWN = 100
"""Unreadable records whose places are kept."""


class LogReader:
    """Reads topics on from where it stopped. Knows what is committed.

    - `partitions`: how many each topic has; one that is not there is not read.
    - `on_read(topic, count)`: called after each batch.
    """

    def __init__(
        self,
        kafka: Kafka,
        contracts: Contracts,
        topics: Iterable[Topic],
        partitions: Mapping[str, int],
        *,
        on_read: Callable[[str, int], None] | None = None,
    ) -> None:
        self._kafka, self._on_read = kafka, on_read
        self._decoders = {topic.name: contracts.decoder([topic]).decode for topic in topics if topic.name in partitions}
        self._partitions = partitions
        self._next: dict[TopicPartition, int] = {}
        self.undecodable: Counter[str] = Counter()
        """How many records of each topic nobody can read."""
        self.shown: dict[str, str] = {}
        """The places of the first of them, and what is wrong there."""

    def read_into(self, audit: Auditor) -> int:
        """Reads every topic to its end as it is now; answers how many records that were.

        Raises `Unavailable`, `RegistryUnavailable`, `TopicMissing`.
        """
        count = 0
        for topic in self._decoders:
            partitions = range(self._partitions[topic])
            start = {(topic, partition): self._next.get((topic, partition), 0) for partition in partitions}
            for batch in self._kafka.read_to_end(topic, partitions, start=start):
                for message in batch:
                    self._take(message, audit)
                count += len(batch)
                if self._on_read is not None:
                    self._on_read(topic, len(batch))
        return count

    def settle_into(self, audit: Auditor) -> None:
        """Reads on so that of every event known so far the causes are known, too: they were committed before it."""
        self.read_into(audit)
        self.read_into(audit)

    def _take(self, message: Message, audit: Auditor) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        try:
            event = self._decoders[topic](message.value())
        except DecodeError as error:
            self.undecodable[topic] += 1
            if len(self.shown) < MOST_SHOWN:
                self.shown[f"{topic}[{partition}]@{offset}"] = str(error)
        else:
            audit.see(event, envelope_from(message, type(event)))
        self._next[topic, partition] = offset + 1
