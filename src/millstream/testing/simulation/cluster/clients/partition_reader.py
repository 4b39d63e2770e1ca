"""Reading partitions of a simulated cluster to their end."""

from collections.abc import Iterator, Sequence
from typing import Any

from millstream.kafka.port import END, Isolation, Message, Offsets, TopicPartition
from millstream.testing.simulation.cluster.broker import ConnectionLost
from millstream.testing.simulation.cluster.clients.client import AGAIN, EARLIEST, LATEST, TRANSIENT, Client, failure_of
from millstream.testing.simulation.cluster.host import Host
from millstream.testing.simulation.cluster.records import read_batches
from millstream.testing.simulation.scheduler.tasks import Steps


def read_to_end(
    host: Host, client_id: str, starts: Offsets, isolation: Isolation, timeout: float
) -> Iterator[list[Message]]:
    """Read partitions as `millstream.kafka.read.read_to_end` does."""
    if not starts:
        return
    reader = Client(host, client_id)
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
    lows = yield from reader.offsets_now(dict.fromkeys(partitions, EARLIEST), isolation, doing)
    ends = yield from reader.offsets_now(dict.fromkeys(partitions, LATEST), isolation, doing)
    return lows, ends


def _batch(
    reader: Client, at: dict[TopicPartition, int], isolation: Isolation, doing: str
) -> Steps[tuple[list[Message], dict[TopicPartition, int]]]:
    while True:
        try:
            found = yield from reader.fetch(at, isolation, 5, reader.connection)
        except ConnectionLost:
            yield AGAIN
            continue
        messages: list[Message] = []
        following: dict[TopicPartition, int] = {}
        for key, entry in found.items():
            if entry.error_code and entry.error_code not in TRANSIENT - {3}:
                raise failure_of(entry.error_code, doing)
            read, following[key] = _records(key, at[key], entry)
            messages += read
        return messages, following


def _records(key: TopicPartition, start: int, entry: Any) -> tuple[Sequence[Message], int]:
    aborted = [(each.producer_id, each.first_offset) for each in entry.aborted_transactions or ()]
    return read_batches(*key, bytes(entry.records or b""), start, aborted)
