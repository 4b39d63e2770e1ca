"""How the events of one class leave a service: worked out once, used for each."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from millstream.contracts.catalogue import Contracts
from millstream.contracts.headers import HeaderWriter, header_writer
from millstream.declare import Contract, home_of, key_field


class Way:
    """The topic of a class, and what makes key, value and headers of one of its events."""

    __slots__ = ("encode", "headers", "key", "topic")

    def __init__(self, contract: type[Contract], source: str, contracts: Contracts) -> None:
        self.topic = home_of(contract).name
        self.key: Callable[[Any], str] = attrgetter(key_field(contract))
        self.encode: Callable[[Any], bytes] = contracts.encoder(contract)
        self.headers: HeaderWriter = header_writer(contract, source)
