"""How the events of one class leave a service: worked out once, used for each."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.contracts.cloudevents import structured
from millstream.contracts.headers import Headers, HeaderWriter, header_writer
from millstream.declare import Contract, home_of, key_field
from millstream.errors import EncodeError


class Way:
    """The topic of a class, and what makes key, value and headers of one of its events."""

    __slots__ = ("_most_bytes", "_structured", "encode", "headers", "key", "topic")

    def __init__(self, contract: type[Contract], source: str, contracts: Contracts, most_bytes: int) -> None:
        home = home_of(contract)
        self.topic = home.name
        self._most_bytes = most_bytes
        self._structured = home.format == "cloudevents"
        self.key: Callable[[Any], str] = attrgetter(key_field(contract))
        self.encode: Callable[[Any], bytes] = contracts.encoder(contract)
        self.headers: HeaderWriter = header_writer(contract, source)

    def value(self, data: bytes, headers: Headers) -> bytes:
        """The record's value: what `encode` made, or the whole CloudEvent where the topic carries those.

        Raises `EncodeError` for one that is too large.
        """
        value = structured(data, headers) if self._structured else data
        if len(value) > self._most_bytes:
            raise EncodeError(
                f"{len(value):,} bytes are too large for a record of {self.topic}, which takes {self._most_bytes:,}: "
                "put large things elsewhere and say where, or raise message.max.bytes here and for the topic"
            )
        return value
