"""The port on librdkafka: the one product path to Kafka."""

from collections.abc import Callable, Iterator, Sequence
from socket import gethostname
from typing import TYPE_CHECKING, Any

from millstream.errors import KafkaFault
from millstream.kafka import properties
from millstream.kafka.port import BEGINNING, Isolation, Message, Offsets
from millstream.settings import Settings
from millstream.timeouts import READ_TIMEOUT

if TYPE_CHECKING:
    from millstream.kafka.admin import ClusterAdmin
    from millstream.kafka.consumer import GroupConsumer
    from millstream.kafka.producer import OnDelivery, PlainProducer
    from millstream.kafka.transactions import ExactlyOnceProducer


class Librdkafka:
    """`millstream.kafka.port.Kafka`: makes clients for the cluster that `settings` name.

    Each kind of client is imported when the first one is made: a command that only asks needs neither consumer nor
    producer, nor their metrics and logs.
    """

    def __init__(self, settings: Settings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id

    def consumer(
        self,
        group: str,
        *,
        instance: str | None = None,
        isolation: Isolation = "read_committed",
        co_partitioned: bool = False,
        on_error: Callable[[KafkaFault], None] | None = None,
    ) -> "GroupConsumer":
        from millstream.kafka.consumer import GroupConsumer

        wanted = self._member(group, instance, isolation, co_partitioned)
        return GroupConsumer(wanted, on_error)

    def wait_for_memberships(self, memberships: Sequence[tuple[str, str]]) -> None:
        """Waits until no other machine holds these (group, instance). Raises `SlotTaken` naming the one that stays."""
        from millstream.kafka.static_member import wait_until_free

        for group, instance in memberships:
            wait_until_free(self._member(group, instance, "read_committed", True))

    def _member(self, group: str, instance: str | None, isolation: Isolation, co_partitioned: bool) -> dict[str, Any]:
        # A static member tells others by this where it runs; the same on every start of a StatefulSet's pod.
        client_id = self._client_id if instance is None else f"{self._client_id}@{gethostname()}"
        return properties.consumer(self._settings, client_id, group, instance, isolation, co_partitioned)

    def producer(self, on_delivery: "OnDelivery | None" = None) -> "PlainProducer":
        from millstream.kafka.producer import PlainProducer

        return PlainProducer(properties.producer(self._settings, self._client_id), on_delivery)

    def transactional_producer(self, transactional_id: str) -> "ExactlyOnceProducer":
        from millstream.kafka.transactions import ExactlyOnceProducer

        wanted = properties.transactional_producer(self._settings, self._client_id, transactional_id)
        return ExactlyOnceProducer(wanted)

    def admin(self) -> "ClusterAdmin":
        from millstream.kafka.admin import ClusterAdmin

        return ClusterAdmin(self._settings, self._client_id)

    def read_to_end(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        isolation: Isolation = "read_committed",
        start: Offsets | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Iterator[list[Message]]:
        from millstream.kafka.read import read_to_end

        if partitions is None:
            partitions = range(self.admin().partitions(topic))
        starts = {(topic, partition): BEGINNING for partition in partitions} | dict(start or {})
        return read_to_end(properties.reader(self._settings, self._client_id, isolation), starts, timeout)
