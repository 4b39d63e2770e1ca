"""Reads dead letters, as many as there are, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Kafka, Message, Offsets, TopicPartition
from millstream.operate.dlq.filters import Filter
from millstream.operate.dlq.letter import DeadLetter, LetterId, State, read_letter
from millstream.operate.dlq.office import Office

Progress = Callable[[int], None]
"""Told how many records were read."""

GAP = 1_000
"""Letters that lie further apart are read one by one, without what lies between them."""
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
                except DecodeError:  # a record of others: no dead letter of ours
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
        found = next(_records(office.kafka, place, id.offset), None)
        if found is not None and found.offset() == id.offset:
            try:
                return read_letter(found)
            except DecodeError as error:
                raise ConfigurationError(f"{id} is no dead letter: {error.detail}") from None
    raise ConfigurationError(f"{id}: there is no such record; `millstream dlq list` shows what there is")


def letters_at(office: Office, ids: Sequence[LetterId]) -> list[DeadLetter]:
    """The letters that were found at these places, in this order, but those that retention has taken meanwhile."""
    wanted, found = set(ids), dict[LetterId, DeadLetter]()
    for first, last in _stretches(sorted(wanted)):
        place = first[:2]
        for message in _records(office.kafka, place, first.offset):
            id = LetterId(*place, message.offset())
            if id in wanted:
                found[id] = read_letter(message)
            if id >= last:
                break
    return [found[id] for id in ids if id in found]


def size(office: Office, topics: Sequence[str]) -> int:
    """Return the number of offsets that these topics have, for a progress bar."""
    places = [(topic, partition) for topic in topics for partition in range(office.partitions[topic])]
    return sum(office.admin.end_offsets(places).values())


def _stretches(ids: Sequence[LetterId]) -> Iterator[tuple[LetterId, LetterId]]:
    """First and last of those that are read in one go."""
    stretch: list[LetterId] = []
    for id in ids:
        if stretch and (id[:2] != stretch[-1][:2] or id.offset - stretch[-1].offset > GAP):
            yield stretch[0], stretch[-1]
            stretch = []
        stretch.append(id)
    if stretch:
        yield stretch[0], stretch[-1]


def _records(kafka: Kafka, place: TopicPartition, offset: int) -> Iterator[Message]:
    reading = kafka.read_to_end(place[0], [place[1]], start={place: offset}, timeout=SILENCE)
    return (message for batch in reading for message in batch)
