"""Reports on their way to the topic."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from millstream.contracts import Contracts
from millstream.declare import key_of
from millstream.errors import KafkaFault
from millstream.kafka import Kafka, Message
from temperature.contracts import TemperatureReported, sensor_temperature

OnDelivery = Callable[[KafkaFault | None, Message], None]


class Sender:
    """Sends reports as devices do: keyed by device, no headers. Leaving it waits for all deliveries.

    - `on_delivery`: told of each delivery, or of why it failed.
    """

    def __init__(self, kafka: Kafka, contracts: Contracts, on_delivery: OnDelivery | None = None) -> None:
        self._producer = kafka.producer(on_delivery)
        self._encode = contracts.encoder(TemperatureReported)

    def send(self, report: TemperatureReported) -> None:
        """Queues one report. Raises `Unavailable` where brokers take nothing for too long."""
        self._producer.produce(sensor_temperature.name, self._encode(report), key_of(report).encode())
        self._producer.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._producer.flush()
        finally:
            self._producer.close()
