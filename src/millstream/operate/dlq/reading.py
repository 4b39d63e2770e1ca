"""Reads dead letters, as many as there are, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Kafka, Message, Offsets, TopicPartition
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId, State, read_letter
from millstream.operate.dlq.office import Office

Progress = Callable[[int], None]
"""Told how many records were read."""

SILENCE = 30.0
"""Seconds without any record after which brokers count as gone."""


def letters(
    office: Office,
    topics: Sequence[str],
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
        reading = office.kafka.read_to_end(topic, range(office.partitions[topic]), start=begin, timeout=SILENCE)
        for batch in reading:
            for message in batch:
                try:
                    letter = read_letter(message)
                except DecodeError:
                    continue
                state = office.audit.state(letter)
                if wanted.takes(letter, state):
                    yield letter, state
            if progress is not None:
                progress(len(batch))


def letter_at(office: Office, id: LetterId) -> DeadLetter:
    """One letter. Raises `ConfigurationError` where there is none."""
    partitions = office.partitions.get(id.topic)
    if partitions is None:
        raise ConfigurationError(f"{id}: there is no topic {id.topic!r}; `millstream topics --all` lists what there is")
    if id.partition >= partitions:
        raise ConfigurationError(f"{id}: {id.topic} has {partitions} partitions, numbered from 0")
    place = (id.topic, id.partition)
    if id.offset < office.admin.end_offsets([place])[place]:
        found = _first(office.kafka, place, id.offset)
        if found is not None and found.offset() == id.offset:
            try:
                return read_letter(found)
            except DecodeError as error:
                raise ConfigurationError(f"{id} is no dead letter: {error.detail}") from None
    raise ConfigurationError(f"{id}: there is no such record; `millstream dlq list` shows what there is")


def size(office: Office, topics: Sequence[str]) -> int:
    """How many offsets these topics have, for a progress bar."""
    places = [(topic, partition) for topic in topics for partition in range(office.partitions[topic])]
    return sum(office.admin.end_offsets(places).values())


def _first(kafka: Kafka, place: TopicPartition, offset: int) -> Message | None:
    reading = kafka.read_to_end(place[0], [place[1]], start={place: offset}, timeout=SILENCE)
    return next((message for batch in reading for message in batch), None)
