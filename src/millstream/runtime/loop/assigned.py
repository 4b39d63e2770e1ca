"""The assigned partitions that a worker works on: those that the declaration knows.

A topic may have got partitions meanwhile. Their keys had their state, their parked events and their order elsewhere,
so they wait until the declaration has as many partitions, and so has everything that is stored by partition.
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
        """Return the partitions of `assigned` to work on, in the same order.

        - Numbers beyond the declared count wait.
        - A number is worked on where partitions of all topics with it are: topics of unlike counts are assigned
          unlike, and two members would each have half of its state. Redrives are read where that is, or wait.
        """
        given = set(assigned)
        whole = {
            number for number in range(self._partitions) if all((topic, number) in given for topic in self._topics)
        }
        return [at for at in assigned if at[1] in whole]
