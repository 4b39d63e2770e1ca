"""The route of the events of one class out of a service: worked out once, used for each."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.contracts.cloudevents import structured
from millstream.contracts.headers import Headers, HeaderWriter, header_writer
from millstream.declare import Contract, home_of, key_field
from millstream.errors import EncodeError
from millstream.kafka.limits import RecordLimits


class ProducerRoute:
    """The topic of a class, and what makes key, value and headers of one of its events."""

    __slots__ = ("_max_bytes", "_record_bytes", "_structured", "encode", "headers", "key", "topic")

    def __init__(self, contract: type[Contract], source: str, contracts: Contracts, max_bytes: int) -> None:
        home = home_of(contract)
        self.topic = home.name
        self._record_bytes = self._max_bytes = max_bytes
        self._structured = home.format == "cloudevents"
        self.key: Callable[[Any], str] = attrgetter(key_field(contract))
        self.encode: Callable[[Any], bytes | None] = (
            _no_value if contract.__deletes__ is not None else contracts.encoder(contract)
        )
        self.headers: HeaderWriter = header_writer(contract, source)

    def keep_to(self, limits: RecordLimits) -> None:
        """Make no value that its topic does not take."""
        self._max_bytes = min(self._record_bytes, limits.value(self.topic))

    def value(self, data: bytes | None, headers: Headers) -> bytes | None:
        """Return the record's value: what `encode` made, or the whole CloudEvent where the topic carries those.

        A deletion has none.

        Raises `EncodeError` for one that is too large.
        """
        if data is None:
            return None
        value = structured(data, headers) if self._structured else data
        if len(value) > self._max_bytes:
            raise EncodeError(
                f"{len(value):,} bytes are too large for a record of {self.topic}, which takes {self._max_bytes:,}: "
                "put large things elsewhere and say where, or raise message.max.bytes here (MILLSTREAM_KAFKA) and "
                "max.message.bytes of the topic"
            )
        return value


def _no_value(deleted: Any) -> None:
    """Return nothing: a tombstone has a key only."""
