"""Reads dead letters, as many as there are, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import ConfigurationError, DecodeError
from millstream.kafka.port import Kafka, Message, Offsets, TopicPartition
from millstream.operate.dlq.context import DlqContext
from millstream.operate.dlq.dead_letter import DeadLetter, DeadLetterId, State, read_dead_letter
from millstream.operate.dlq.filters import Filter
from millstream.timeouts import DEAD_LETTERS_TIMEOUT

Progress = Callable[[int], None]
"""Called with the number of records of each batch that was read."""

GAP = 1_000
"""Offsets between two dead letters up to which the records between them are read, too, rather than sought over."""


def read_dead_letters(
    context: DlqContext,
    topics: Sequence[str],
    wanted: Filter,
    *,
    progress: Progress | None = None,
    start: Offsets | None = None,
) -> Iterator[tuple[DeadLetter, State]]:
    """Yield the wanted dead letters of these topics up to their present ends, each partition in order.

    Records that no worker of ours wrote are skipped. Raises `Unavailable`, `TopicMissing`.
    """
    for topic in topics:
        begin = {partition: offset for partition, offset in (start or {}).items() if partition[0] == topic}
        numbers = range(context.partitions[topic])
        for batch in context.kafka.read_to_end(topic, numbers, start=begin, timeout=DEAD_LETTERS_TIMEOUT):
            for message in batch:
                try:
                    dead_letter = read_dead_letter(message)
                except DecodeError:  # a record of others
                    continue
                state = context.audit.state(dead_letter)
                if wanted.takes(dead_letter, state):
                    yield dead_letter, state
            if progress is not None:
                progress(len(batch))


def dead_letter_at(context: DlqContext, id: DeadLetterId) -> DeadLetter:
    """Return one dead letter. Raises `ConfigurationError` where there is none."""
    partitions = context.partitions.get(id.topic)
    if partitions is None:
        raise ConfigurationError(f"{id}: there is no topic {id.topic!r}; `millstream topics --all` lists what there is")
    if id.partition >= partitions:
        raise ConfigurationError(f"{id}: {id.topic} has {partitions} partitions, numbered from 0")
    partition = (id.topic, id.partition)
    if id.offset < context.admin.end_offsets([partition])[partition]:
        found = next(_records(context.kafka, partition, id.offset), None)
        if found is not None and found.offset() == id.offset:
            try:
                return read_dead_letter(found)
            except DecodeError as error:
                raise ConfigurationError(f"{id} is no dead letter: {error.detail}") from None
    raise ConfigurationError(f"{id}: there is no such record; `millstream dlq list` shows what there is")


def dead_letters_at(context: DlqContext, ids: Sequence[DeadLetterId]) -> list[DeadLetter]:
    """Return the dead letters with these ids, in this order, without those that retention has deleted meanwhile."""
    wanted, found = set(ids), dict[DeadLetterId, DeadLetter]()
    for first, last in _stretches(sorted(wanted)):
        partition = first[:2]
        for message in _records(context.kafka, partition, first.offset):
            id = DeadLetterId(*partition, message.offset())
            if id in wanted:
                found[id] = read_dead_letter(message)
            if id >= last:
                break
    return [found[id] for id in ids if id in found]


def size(context: DlqContext, topics: Sequence[str]) -> int:
    """Return the number of offsets that these topics have, for a progress bar."""
    partitions = [(topic, number) for topic in topics for number in range(context.partitions[topic])]
    return sum(context.admin.end_offsets(partitions).values())


def _stretches(ids: Sequence[DeadLetterId]) -> Iterator[tuple[DeadLetterId, DeadLetterId]]:
    """Yield the first and last id of each stretch that is read in one go."""
    stretch: list[DeadLetterId] = []
    for id in ids:
        if stretch and (id[:2] != stretch[-1][:2] or id.offset - stretch[-1].offset > GAP):
            yield stretch[0], stretch[-1]
            stretch = []
        stretch.append(id)
    if stretch:
        yield stretch[0], stretch[-1]


def _records(kafka: Kafka, partition: TopicPartition, offset: int) -> Iterator[Message]:
    topic, number = partition
    batches = kafka.read_to_end(topic, [number], start={partition: offset}, timeout=DEAD_LETTERS_TIMEOUT)
    return (message for batch in batches for message in batch)
