"""Reading partitions to their end, in a world."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from millstream.kafka.port import END, Isolation, Message, Offsets, TopicPartition
from millstream.testing.simulation.client import AFTER_EVERYTHING, AGAIN, BEFORE_EVERYTHING, PASSING, Client, failure_of
from millstream.testing.simulation.network import HungUp
from millstream.testing.simulation.records import read_batches
from millstream.testing.simulation.tasks import Steps

if TYPE_CHECKING:
    from millstream.testing.simulation.world import World


def read_to_end(
    world: "World", client_id: str, starts: Offsets, isolation: Isolation, timeout: float
) -> Iterator[list[Message]]:
    """As `millstream.kafka.read.read_to_end`."""
    if not starts:
        return
    reader = Client(world, client_id)
    try:
        doing = f"reading {', '.join(sorted({topic for topic, _ in starts}))}"
        lows, ends = reader.do(_ranges(reader, list(starts), isolation, doing), timeout, doing)
        at = {key: ends[key] if start == END else max(start, lows[key]) for key, start in starts.items()}
        while at := {key: offset for key, offset in at.items() if offset < ends[key]}:
            found, at = reader.do(_batch(reader, at, isolation, doing), timeout, doing)
            if found:
                yield found
    finally:
        reader.connection.close()


def _ranges(
    reader: Client, partitions: list[TopicPartition], isolation: Isolation, doing: str
) -> Steps[tuple[dict[TopicPartition, int], dict[TopicPartition, int]]]:
    lows = yield from reader.offsets_now(dict.fromkeys(partitions, BEFORE_EVERYTHING), isolation, doing)
    ends = yield from reader.offsets_now(dict.fromkeys(partitions, AFTER_EVERYTHING), isolation, doing)
    return lows, ends


def _batch(
    reader: Client, at: dict[TopicPartition, int], isolation: Isolation, doing: str
) -> Steps[tuple[list[Message], dict[TopicPartition, int]]]:
    while True:
        try:
            found = yield from reader.fetch(at, isolation, 5, reader.connection)
        except HungUp:
            yield AGAIN
            continue
        messages: list[Message] = []
        following: dict[TopicPartition, int] = {}
        for key, entry in found.items():
            if entry.error_code and entry.error_code not in PASSING - {3}:
                raise failure_of(entry.error_code, doing)
            read, following[key] = _records(key, at[key], entry)
            messages += read
        return messages, following


def _records(key: TopicPartition, start: int, entry: Any) -> tuple[Sequence[Message], int]:
    aborted = [(each.producer_id, each.first_offset) for each in entry.aborted_transactions or ()]
    return read_batches(*key, bytes(entry.records or b""), start, aborted)
