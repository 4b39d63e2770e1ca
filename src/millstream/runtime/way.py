"""How the events of one class leave a service: worked out once, used for each."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.contracts.cloudevents import structured
from millstream.contracts.headers import Headers, HeaderWriter, header_writer
from millstream.declare import Contract, home_of, key_field


class Way:
    """The topic of a class, and what makes key, value and headers of one of its events."""

    __slots__ = ("_structured", "encode", "headers", "key", "topic")

    def __init__(self, contract: type[Contract], source: str, contracts: Contracts) -> None:
        home = home_of(contract)
        self.topic = home.name
        self._structured = home.format == "cloudevents"
        self.key: Callable[[Any], str] = attrgetter(key_field(contract))
        self.encode: Callable[[Any], bytes] = contracts.encoder(contract)
        self.headers: HeaderWriter = header_writer(contract, source)

    def value(self, data: bytes, headers: Headers) -> bytes:
        """The record's value: what `encode` made, or the whole CloudEvent where the topic carries those."""
        return structured(data, headers) if self._structured else data
