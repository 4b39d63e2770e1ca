"""A producer outside transactions, in a world."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from millstream.errors import KafkaFault, Unavailable
from millstream.kafka.port import Headers, Message
from millstream.settings import Settings
from millstream.testing.simulation.client import Client
from millstream.testing.simulation.sending import Failure, Sender

if TYPE_CHECKING:
    from millstream.testing.simulation.world import World

OnDelivery = Callable[[KafkaFault | None, Message], None]


class SimulatedProducer(Client):
    """`millstream.kafka.port.Producer`; see there for the contract."""

    def __init__(self, world: "World", settings: Settings, client_id: str, on_delivery: OnDelivery | None) -> None:
        super().__init__(world, client_id)
        self._told = on_delivery
        self._reports: deque[tuple[Failure | None, Message]] = deque()
        self._sender = Sender(self, settings, reported=self._delivered)

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
        self.world.wait(lambda: self._reports, timeout)
        self._report()

    def flush(self, timeout: float = 30.0) -> None:
        self.world.wait(lambda: not self._sender.pending, timeout)
        self._report()
        failure, self._sender.failure = self._sender.failure, None
        if failure is not None:
            raise failure
        if left := self._sender.pending:
            raise Unavailable(f"{left} records were not delivered within {timeout:g} s. They are still being tried.")

    def close(self, timeout: float = 5.0) -> None:
        self.world.wait(lambda: not self._sender.pending, timeout)
        self._report()
        self._sender.close()
        self.connection.close()

    def _delivered(self, failure: Failure | None, message: Message) -> None:
        if self._told is not None:
            self._reports.append((failure, message))

    def _report(self) -> None:
        while self._reports and self._told is not None:
            failure, message = self._reports.popleft()
            self._told(cast(KafkaFault | None, failure), message)
