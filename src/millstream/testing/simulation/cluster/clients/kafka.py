"""The Kafka port over a simulated cluster."""

from collections.abc import Callable, Iterator, Sequence

from millstream.errors import KafkaFault
from millstream.kafka.port import BEGINNING, Isolation, Message, Offsets
from millstream.settings import Settings
from millstream.testing.simulation.cluster.clients.admin import SimulatedAdmin, partitions_of
from millstream.testing.simulation.cluster.clients.consumer import SimulatedConsumer
from millstream.testing.simulation.cluster.clients.partition_reader import read_to_end
from millstream.testing.simulation.cluster.clients.producer import OnDelivery, SimulatedProducer
from millstream.testing.simulation.cluster.clients.transactional_producer import SimulatedTransactionalProducer
from millstream.testing.simulation.cluster.host import Host
from millstream.timeouts import READ_TIMEOUT


class SimulatedKafka:
    """`millstream.kafka.port.Kafka` for the process that calls. Assigns as the port over librdkafka does."""

    def __init__(self, host: Host, settings: Settings, client_id: str) -> None:
        self._host = host
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
    ) -> SimulatedConsumer:
        strategy = "range" if co_partitioned or instance is not None else "cooperative-sticky"
        return SimulatedConsumer(self._host, self._settings, self._client_id, group, instance, isolation, strategy)

    def producer(self, on_delivery: OnDelivery | None = None) -> SimulatedProducer:
        return SimulatedProducer(self._host, self._settings, self._client_id, on_delivery)

    def transactional_producer(self, transactional_id: str) -> SimulatedTransactionalProducer:
        return SimulatedTransactionalProducer(self._host, self._settings, self._client_id, transactional_id)

    def admin(self) -> SimulatedAdmin:
        return SimulatedAdmin(self._host, self._settings, self._client_id)

    def read_to_end(
        self,
        topic: str,
        partitions: Sequence[int] | None = None,
        *,
        isolation: Isolation = "read_committed",
        start: Offsets | None = None,
        timeout: float = READ_TIMEOUT,
    ) -> Iterator[list[Message]]:
        if partitions is None:
            admin = self.admin()
            partitions = range(partitions_of(admin, topic))
            admin.close()
        starts = {(topic, partition): BEGINNING for partition in partitions} | dict(start or {})
        return read_to_end(self._host, self._client_id, starts, isolation, timeout)
