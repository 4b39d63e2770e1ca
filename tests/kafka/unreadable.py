"""Stand-ins for records whose headers the client library cannot decode: no test holds such a record."""

from functools import partial
from typing import Any

from millstream.kafka import Message


class Undecodable:
    """A record whose `headers()` raises when it is first asked. Whoever asks again fails the test."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self.asked = 0

    def headers(self) -> Any:
        self.asked += 1
        if self.asked > 1:
            raise BaseException("asked again: in the client library this could have ended the process")
        raise UnicodeDecodeError("utf-8", b"secret", 0, 1, "stand-in")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._message, name)


class SpoilingConsumer:
    """A consumer of librdkafka's that brings every record with this key as `Undecodable`."""

    def __init__(self, native: Any, key: bytes) -> None:
        self._native, self._key = native, key
        self.spoilt: list[Undecodable] = []

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        # Each is told by which client it is called: by this one, not by the one below.
        told = {name: partial(self._tell, callback) for name, callback in callbacks.items()}
        self._native.subscribe(topics, **told)

    def _tell(self, callback: Any, _: Any, partitions: Any) -> None:
        callback(self, partitions)

    def poll(self, *arguments: Any) -> Any:
        message = self._native.poll(*arguments)
        return None if message is None else self._spoil(message)

    def consume(self, *arguments: Any) -> list[Any]:
        return [self._spoil(message) for message in self._native.consume(*arguments)]

    def _spoil(self, message: Any) -> Any:
        if message.error() is not None or message.key() != self._key:
            return message
        self.spoilt.append(Undecodable(message))
        return self.spoilt[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)


class SpoilingKafka:
    """A cluster whose consumers are like that."""

    def __init__(self, kafka: Any, key: bytes) -> None:
        self._kafka, self._key = kafka, key
        self.consumers: list[SpoilingConsumer] = []

    def consumer(self, *arguments: Any, **options: Any) -> Any:
        consumer = self._kafka.consumer(*arguments, **options)
        consumer._native = SpoilingConsumer(consumer._native, self._key)
        self.consumers.append(consumer._native)
        return consumer

    @property
    def spoilt(self) -> list[Undecodable]:
        return [message for consumer in self.consumers for message in consumer.spoilt]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kafka, name)
