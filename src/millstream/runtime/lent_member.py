"""A consumer's membership, lent to another thread.

confluent-kafka lets one call at a time into a consumer, and a thread that polls all the time leaves the others no gap:
they would wait for ever. So the thread that polls asks for them, between two polls.
"""

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from millstream.errors import Unavailable
from millstream.kafka.port import Consumer, Offsets, TopicPartition

SERVED_WITHIN = 10.0
"""Seconds; far more than a poll takes."""


class LentMember:
    """What `Transaction.commit` needs of a consumer, for any thread, while `serve` is called again and again."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._metadata: Any = None
        self._asked: deque[tuple[Offsets, Mapping[TopicPartition, str] | None, Future[None]]] = deque()

    def serve(self) -> None:
        """Called by the thread that polls, after each poll and before events of it are handed on."""
        self._metadata = self._consumer.group_metadata()
        while self._asked:
            offsets, metadata, answer = self._asked.popleft()
            try:
                self._consumer.commit(offsets, metadata)
            except Exception as error:
                answer.set_exception(error)
            else:
                answer.set_result(None)

    def group_metadata(self) -> Any:
        """As of the last poll. One that a rebalance has outdated lets a transaction abort; the next one has a newer."""
        return self._metadata

    def commit(self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None:
        """As `Consumer.commit`."""
        answer: Future[None] = Future()
        self._asked.append((offsets, metadata, answer))
        try:
            answer.result(SERVED_WITHIN)
        except TimeoutError:
            raise Unavailable(f"The consumer did not come to commit within {SERVED_WITHIN:g} s.") from None
