"""What a handler is given beside the request."""

from typing import NamedTuple

from millstream.local.broker.core import Broker


class Context(NamedTuple):
    broker: Broker
    version: int
    client_id: str
    client_host: str
