"""Events as a log has them: each with its envelope, offsets in order, every partition apart."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from millstream import Envelope
from millstream.declare import Contract, full_name, home_of, key_of

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
Written = tuple[Contract, Envelope]


class Log:
    """What was written. Each event is a second younger than the one before it."""

    def __init__(self) -> None:
        self.written: list[Written] = []

    def write(self, event: Contract, *, cause: str | None = None, partition: int = 0) -> str:
        """Adds one event, and answers its id."""
        topic, number = home_of(type(event)).name, len(self.written)
        offset = sum((other.topic, other.partition) == (topic, partition) for _, other in self.written)
        envelope = Envelope(
            id=f"id-{number}",
            type=full_name(type(event)),
            source="test",
            time=BEGAN + timedelta(seconds=number),
            key=key_of(event),
            topic=topic,
            partition=partition,
            offset=offset,
            correlation_id="id-0",
            causation_id=cause,
        )
        self.written.append((event, envelope))
        return envelope.id

    def interleaved(self, dice: random.Random) -> list[Written]:
        """The same in another order between partitions, as a reader may find it."""
        lanes: defaultdict[tuple[str, int], list[Written]] = defaultdict(list)
        for event, envelope in self.written:
            lanes[envelope.topic, envelope.partition].append((event, envelope))
        mixed: list[Written] = []
        while lanes:
            place = dice.choice(sorted(lanes))
            mixed.append(lanes[place].pop(0))
            if not lanes[place]:
                del lanes[place]
        return mixed
