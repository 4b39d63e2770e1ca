"""A consumer's place in its group, for the thread that commits.

confluent-kafka lets one call at a time into a consumer, and a thread that polls all the time leaves the others no gap:
they would starve. So the thread that polls commits for them, between two polls.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from millstream.errors import TransactionAborted, Unavailable
from millstream.kafka.port import Consumer, Offsets, TopicPartition
from millstream.timeouts import MEMBER_TIMEOUT


class GroupMemberProxy:
    """A proxy of a consumer for commits from any thread, while the polling thread calls `serve`."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._metadata: Any = None
        self._asked: deque[tuple[Offsets, Mapping[TopicPartition, str] | None, Callable[[], bool], Future[None]]]
        self._asked = deque()

    def serve(self) -> None:
        """Refresh the group metadata and make the requested commits. For the polling thread, after each poll."""
        self._metadata = self._consumer.group_metadata()
        while self._asked:
            offsets, metadata, gone, answer = self._asked.popleft()
            try:
                if gone():
                    raise TransactionAborted("Partitions went to another member before their positions were committed.")
                self._consumer.commit(offsets, metadata)
            except Exception as error:
                answer.set_exception(error)
            else:
                answer.set_result(None)

    def group_metadata(self) -> Any:
        """Return the group metadata of the last poll."""
        return self._metadata

    def commit(self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None, gone: Callable[[], bool]) -> None:
        """Commit on the polling thread.

        Raises `TransactionAborted` if the partitions are `gone` when its turn comes.
        """
        answer: Future[None] = Future()
        self._asked.append((offsets, metadata, gone, answer))
        try:
            answer.result(MEMBER_TIMEOUT)
        except TimeoutError:
            raise Unavailable(f"The consumer did not come to commit within {MEMBER_TIMEOUT:g} s.") from None


@dataclass(frozen=True, slots=True)
class GroupMetadataSnapshot:
    """The group metadata from when a commit was planned, for `Transaction.commit`.

    Later metadata would be of a generation that may have given the partitions to another instance, and brokers could
    not see that the commit is from before.

    - `metadata`: the group metadata of that time.
    - `gone`: whether this worker has lost the partitions, for a commit without a transaction, which carries no
      metadata.
    """

    member: GroupMemberProxy
    metadata: Any
    gone: Callable[[], bool]

    def group_metadata(self) -> Any:
        """A transaction with it aborts once a rebalance has outdated it."""
        return self.metadata

    def commit(self, offsets: Offsets, metadata: Mapping[TopicPartition, str] | None = None) -> None:
        """As `GroupMemberProxy.commit`."""
        self.member.commit(offsets, metadata, self.gone)
