"""How fast a process in the making writes: its committed outputs, watched from outside."""

import time

from millstream.kafka import Kafka

PARTITIONS = 6


def committed_rate(kafka: Kafka, output: str, wanted: int, *, patience: float = 60.0, enough: float = 0.0) -> float:
    """Records a second, from the first in `output` until `wanted` are there.

    Markers of transactions are few among so many records. With `enough`, a slow side is watched for so many seconds
    after its first record. Raises TimeoutError where nothing comes, or not all, within `patience` seconds.
    """
    admin = kafka.admin()
    partitions = [(output, number) for number in range(PARTITIONS)]
    first: tuple[float, int] | None = None
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        there = sum(admin.end_offsets(partitions).values())
        now = time.monotonic()
        if first is None and there:
            first = (now, there)
        if first is not None and (there >= wanted or 0 < enough < now - first[0]):
            return (there - first[1]) / (now - first[0])
        time.sleep(0.02)  # between two looks at what grows
    raise TimeoutError(f"{output} did not reach {wanted:,} records in {patience:g} s")
