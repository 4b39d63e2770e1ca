"""The size of the largest record that each topic takes.

A broker refuses a batch above its topic's `max.message.bytes`, and with it all records of the transaction. The limit is
asked for before anything is written, and again when something is refused: it can be changed at any time. Records are
measured before compression, so that the outcome does not depend on how well one compresses.
"""

import time
from collections.abc import Iterable

from millstream.errors import KafkaFault, Unavailable
from millstream.kafka.port import Headers, Kafka
from millstream.telemetry.logs import get_logger
from millstream.timeouts import REQUEST_TIMEOUT

log = get_logger(__name__)

LIMIT = "max.message.bytes"
CARRIER_BYTES = 1_024
"""Of a topic's limit, what key, headers and the batch around a record may need beside its value."""
OVERHEAD_BYTES = 128
"""A batch's header and the lengths within a record, at most."""


AGAIN_SECONDS = 5.0
"""Seconds for which an answer is believed when something is refused because of it."""


class RecordLimits:
    """The limits of the topics that a worker writes.

    - `client`: the producer's own limit, its `message.max.bytes`.
    """

    def __init__(self, kafka: Kafka, client: int) -> None:
        self._kafka = kafka
        self._client = client
        self._topics: dict[str, int] = {}
        self._asked = 0.0

    def changed(self) -> bool:
        """Ask again for all limits that are known, if that is some seconds ago, and say whether any has changed."""
        if time.monotonic() < self._asked + AGAIN_SECONDS:
            return False
        before = dict(self._topics)
        self.ask(before)
        return before != self._topics

    def ask(self, topics: Iterable[str], timeout: float = REQUEST_TIMEOUT) -> None:
        """Ask for the limits of these topics. Never raises: where no broker answers, the former limit stays, and
        a batch that is refused tells.
        """
        self._asked = time.monotonic()
        admin = self._kafka.admin()
        try:
            for topic in dict.fromkeys(topics):
                try:
                    self._topics[topic] = int(admin.topic_config(topic, timeout)[LIMIT])
                except Unavailable as error:
                    log.warning("record limits unknown", code="record_limits_unknown", topic=topic, error=str(error))
                    return
                except (KafkaFault, KeyError, ValueError) as error:
                    # No such topic yet, or no right to ask: the broker's answer to a batch has to do.
                    log.info("record limit unknown", code="record_limit_unknown", topic=topic, error=str(error))
        finally:
            admin.close()

    def record(self, topic: str) -> int:
        """The number of bytes that key, value and headers of a record may have together."""
        return min(self._client, self._topics.get(topic, self._client)) - OVERHEAD_BYTES

    @property
    def smallest(self) -> int:
        """The number of bytes that a batch for any of these topics may have."""
        return min([self._client, *self._topics.values()]) - OVERHEAD_BYTES

    def value(self, topic: str) -> int:
        """The number of bytes that a value may have, beside a key and headers of the usual size."""
        limit = min(self._client, self._topics.get(topic, self._client))
        return max(limit - CARRIER_BYTES, limit // 2)


def record_bytes(key: bytes | None, value: bytes | None, headers: Headers | None) -> int:
    """The size of a record's key, value and headers.

    >>> record_bytes(b"o-1", b"12345", [("trace", None)])
    23
    """
    carried = sum(len(name.encode()) + len(content or b"") + 10 for name, content in headers or ())
    return len(key or b"") + len(value or b"") + carried
