"""A simulated producer outside transactions."""

from collections import deque
from collections.abc import Callable
from typing import cast

from millstream.errors import KafkaFault, Unavailable
from millstream.kafka.port import Headers, Message
from millstream.settings import Settings
from millstream.testing.simulation.cluster.clients.client import Client
from millstream.testing.simulation.cluster.clients.sender import Failure, Sender
from millstream.testing.simulation.cluster.host import Host
from millstream.timeouts import CHANGE_TIMEOUT, CLOSE_TIMEOUT

OnDelivery = Callable[[KafkaFault | None, Message], None]


class SimulatedProducer(Client):
    """`millstream.kafka.port.Producer`; see there for the contract."""

    def __init__(self, host: Host, settings: Settings, client_id: str, on_delivery: OnDelivery | None) -> None:
        super().__init__(host, client_id)
        self._on_delivery = on_delivery
        self._reports: deque[tuple[Failure | None, Message]] = deque()
        self._sender = Sender(self, settings, on_report=self._delivered)

    def keep_to(self, batch_bytes: int) -> None:
        self._sender.batch_bytes = min(self._sender.batch_bytes, batch_bytes)

    def produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = -1,
        timestamp: int = 0,
    ) -> None:
        self._sender.add(topic, value, key, headers, partition, timestamp)

    def poll(self, timeout: float = 0.0) -> None:
        self.scheduler.wait(lambda: self._reports, timeout)
        self._report()

    def flush(self, timeout: float = CHANGE_TIMEOUT) -> None:
        self.scheduler.wait(lambda: not self._sender.pending, timeout)
        self._report()
        failure, self._sender.failure = self._sender.failure, None
        if failure is not None:
            raise failure
        if left := self._sender.pending:
            raise Unavailable(f"{left} records were not delivered within {timeout:g} s. They are still being tried.")

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        self.scheduler.wait(lambda: not self._sender.pending, timeout)
        self._report()
        self._sender.close()
        self.connection.close()

    def _delivered(self, failure: Failure | None, message: Message) -> None:
        if self._on_delivery is not None:
            self._reports.append((failure, message))

    def _report(self) -> None:
        while self._reports and self._on_delivery is not None:
            failure, message = self._reports.popleft()
            self._on_delivery(cast(KafkaFault | None, failure), message)
