"""Which of the partitions that a group assigns are worked on: those that the declaration knows.

A topic may have got partitions meanwhile. Their keys had their state, what is parked of them and their order elsewhere,
so they wait until the declaration has as many, and everything that is kept by partition does.
"""

from collections.abc import Sequence

from millstream.declare import Kind, Service
from millstream.kafka.port import TopicPartition


class AssignedPartitions:
    """The partitions of one kind of a service's handlers."""

    def __init__(self, service: Service, kind: Kind) -> None:
        self._topics = {topic.name for topic in service.consumed(kind)}
        self._partitions = service.partitions(kind)

    def mine(self, assigned: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Those of `assigned` to work on, in the same order.

        - Numbers beyond the declared count wait.
        - A number is worked on where partitions of all topics with it are: topics of unlike counts are shared out
          unlike, and two members would each keep half of its state. Redrives come to wherever that is, or wait.
        """
        given = set(assigned)
        whole = {
            number for number in range(self._partitions) if all((topic, number) in given for topic in self._topics)
        }
        return [at for at in assigned if at[1] in whole]
