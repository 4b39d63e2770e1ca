"""A cluster takes a moment to agree on which topics there are, on who leads a partition that is new or has lost its
leader, and on which transactions have ended."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from millstream.errors import TopicMissing, Unavailable
from millstream.kafka.port import Kafka, TopicPartition
from millstream.timeouts import NEW_TOPIC_TIMEOUT

T = TypeVar("T")

PAUSE = 0.05
LOOK_AGAIN = 0.02
SHORTEST = 0.1
"""Seconds below which a question is not worth asking."""


def wait_for_metadata(ask: Callable[[float], T], timeout: float) -> T:
    """Ask again while `ask`, given the seconds that are left, raises `Unavailable`, and for two seconds while it raises
    `TopicMissing`; return what it answers.

    Raises the last of these when `timeout` seconds have passed.
    """
    began = time.monotonic()
    left = timeout
    while True:
        try:
            return ask(left)
        except (TopicMissing, Unavailable) as error:
            limit = min(timeout, NEW_TOPIC_TIMEOUT) if isinstance(error, TopicMissing) else timeout
            left = began + timeout - time.monotonic() - PAUSE
            if left < SHORTEST or time.monotonic() - began > limit:
                raise
            time.sleep(PAUSE)  # the cluster needs a moment to agree


def wait_for_transactions(kafka: Kafka, partitions: Sequence[TopicPartition], timeout: float) -> None:
    """Wait until no transaction is open on these partitions that was open before.

    A committed transaction becomes readable when its marker arrives, which can be after its holder was told that it is
    committed, and after its offsets are: up to then read_committed ends short of it. Raises `Unavailable` after
    `timeout` seconds.
    """
    admin = kafka.admin()
    try:
        ends = admin.end_offsets(partitions, "read_uncommitted")
        deadline = time.monotonic() + timeout
        while any(end < ends[at] for at, end in admin.end_offsets(partitions, "read_committed").items()):
            if time.monotonic() > deadline:
                topics = ", ".join(sorted({topic for topic, _ in partitions}))
                raise Unavailable(
                    f"A transaction on one of {topics} has been open for {timeout:g} s. Its holder may hang; it ends "
                    "when transaction.timeout.ms has passed."
                )
            time.sleep(LOOK_AGAIN)  # between two looks
    finally:
        admin.close()
