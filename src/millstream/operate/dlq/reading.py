"""Reads dead letters, as many as there are, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Admin, Kafka, Message, Offsets, TopicPartition
from millstream.operate.dlq.audit import Audit
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId, State, read_letter

Progress = Callable[[int], None]
"""Told how many records were read."""

SILENCE = 30.0
"""Seconds without any record after which brokers count as gone."""


def letters(
    kafka: Kafka,
    topics: Sequence[str],
    audit: Audit,
    wanted: Filter,
    *,
    progress: Progress | None = None,
    start: Offsets | None = None,
) -> Iterator[tuple[DeadLetter, State]]:
    """The wanted letters of these topics up to their ends as they are now, each partition in order.

    What no worker of ours wrote is passed over. Raises `Unavailable`, `TopicMissing`.
    """
    for topic in topics:
        begin = {place: offset for place, offset in (start or {}).items() if place[0] == topic}
        for batch in kafka.read_to_end(topic, start=begin, timeout=SILENCE):
            for message in batch:
                try:
                    letter = read_letter(message)
                except DecodeError:
                    continue
                state = audit.state(letter)
                if wanted.takes(letter, state):
                    yield letter, state
            if progress is not None:
                progress(len(batch))


def letter_at(kafka: Kafka, admin: Admin, id: LetterId) -> DeadLetter:
    """One letter. Raises `ConfigurationError` where there is none."""
    topic = admin.topics().get(id.topic)
    if topic is None:
        raise ConfigurationError(f"{id}: there is no topic {id.topic!r}; `millstream topics --all` lists what there is")
    if id.partition >= topic.partitions:
        raise ConfigurationError(f"{id}: {id.topic} has {topic.partitions} partitions, numbered from 0")
    place = (id.topic, id.partition)
    if id.offset < admin.end_offsets([place])[place]:
        found = _first(kafka, place, id.offset)
        if found is not None and found.offset() == id.offset:
            try:
                return read_letter(found)
            except DecodeError as error:
                raise ConfigurationError(f"{id} is no dead letter: {error.detail}") from None
    raise ConfigurationError(f"{id}: there is no such record; `millstream dlq list` shows what there is")


def size(admin: Admin, topics: Sequence[str]) -> int:
    """How many offsets these topics have, for a progress bar."""
    there = admin.topics()
    places = [(topic, partition) for topic in topics for partition in range(there[topic].partitions)]
    return sum(admin.end_offsets(places).values())


def _first(kafka: Kafka, place: TopicPartition, offset: int) -> Message | None:
    reading = kafka.read_to_end(place[0], [place[1]], start={place: offset}, timeout=SILENCE)
    return next((message for batch in reading for message in batch), None)
